"""`medvlp <verb>`: the same as `python -m medvlp.<verb>`."""

import difflib
import importlib.util
import runpy
import sys

VERBS = {
    "train": "train an experiment; without arguments the embedded default",
    "evaluate": "validate, test or predict with a checkpoint",
    "compare": "paired statistics of two runs on the same samples",
    "pointing_game": "do activation maps lie on the findings of a twin?",
    "linear_probe": "what a linear classifier makes of frozen features, few-shot too",
    "localise": "lesions: the names of their places",
    "predict": "one study, or 2D images over texts: findings, embedding, maps",
    "prepare": "turn raw scans into a checked, described cache",
    "checkpoints": "inspect, verify, convert and extend weight files",
    "cache": "list prepared data, find and repair damage",
    "phantom": "write a small twin of a data set",
    "bench": "measure speed and memory",
}


def main() -> None:
    """Run the verb that the command line names."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  {verb:<12} {text}" for verb, text in VERBS.items()]
        print("usage: medvlp VERB [options]\n\n" + "\n".join(lines))
        print("\nmedvlp VERB --help says more.")
        return
    verb = arguments[0]
    if verb not in VERBS or importlib.util.find_spec(f"medvlp.{verb}") is None:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        advice = f"; did you mean {near[0]}?" if near else f"; verbs: {', '.join(VERBS)}"
        sys.exit(f"medvlp: there is no verb {verb!r}{advice}")
    sys.argv = [f"medvlp {verb}", *arguments[1:]]
    runpy.run_module(f"medvlp.{verb}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
