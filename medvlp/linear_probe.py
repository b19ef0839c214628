"""Probe frozen features: `python -m medvlp.linear_probe --ckpt CKPT data=... [--out DIR]`.

Embeds the labelled images or studies of a data set once, and fits logistic regressions on all of
the training split, on shares of it, and on a few samples of each class. The L2 strength is chosen
on validation samples; accuracy and AUROC have intervals over test patients and training draws.

A checkpoint of medvlp.train knows its data; KEY=VALUE names others, as in data=images
paths.raw=FOLDER. Published weights need --experiment. --target takes the classes from what else is
known of each sample instead of its labels: --target modality, or --target label --per dataset for
the sets of a catalogue.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medvlp.user_errors import one_line_errors

if TYPE_CHECKING:
    from medvlp.evaluation.embedded_set import EmbeddedSet
    from medvlp.evaluation.linear_probe import ProbePlan
    from medvlp.evaluation.results import Results


def run(options: argparse.Namespace) -> "dict[str, Results]":
    """Run what the command line asks for; returns the results by value of --per.

    Raises:
        FileNotFoundError, ValueError: If checkpoint, data or labels cannot be used.
    """
    import torch

    from medvlp import config
    from medvlp.callbacks.results_writer import file_hash
    from medvlp.prediction.embeddings import Embedder
    from medvlp.prediction.loaded_model import load_model

    config.require_writable(options.out)
    plan = _plan(options)
    loaded = load_model(
        options.ckpt, experiment=options.experiment, overrides=options.overrides, needs_data=True
    )
    weights = file_hash(options.ckpt)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    embedder = Embedder(loaded, weights, options.features, device)
    found = {name: embedder.split(name) for name in ("train", "val", "test")}
    from medvlp.evaluation.results import slug

    results = {}
    for value, parts in _parts(found, options.per).items():
        results[value] = _probe(parts, plan, options, value).with_provenance(
            checkpoint_hash=weights, commit=_commit(), seed=options.seed
        )
        _write(results[value], options.out / slug(value) if value else options.out)
    _finish(results, options)
    return results


def _plan(options: argparse.Namespace) -> "ProbePlan":
    from medvlp.evaluation.linear_probe import ProbePlan

    plan = ProbePlan(
        task=options.task,
        fractions=options.fractions,
        shots=options.shots,
        draws=options.draws,
        validation=options.validation,
        num_resamples=options.resamples,
        seed=options.seed,
    )
    plan.budgets()  # refuses shares and shots that cannot be, before any work
    return plan


def _probe(
    found: "dict[str, EmbeddedSet | None]",
    plan: "ProbePlan",
    options: argparse.Namespace,
    part: str,
) -> "Results":
    from medvlp.evaluation.linear_probe import probe
    from medvlp.evaluation.probe_splits import three_splits

    splits, note = three_splits(found, shares=tuple(options.shares), seed=options.seed)
    if options.target is not None:
        values = {row.get(options.target, "") for one in splits.values() for row in one.metadata}
        classes = sorted(values - {""}, key=lambda value: (len(value), value))
        if len(classes) < 2:
            keys = sorted({key for one in splits.values() for row in one.metadata for key in row})
            raise ValueError(
                f"--target {options.target}: the samples have {len(classes)} values of it, at "
                f"least 2 are needed; known of them is {', '.join(keys) or 'nothing'}"
            )
        splits = {name: one.labelled_by(options.target, classes) for name, one in splits.items()}
    name = "/".join(("linear_probe", *([part] if part else []), options.features))
    return probe(splits, plan, name=name, note=note)


def _parts(
    found: "dict[str, EmbeddedSet | None]", key: str | None
) -> "dict[str, dict[str, EmbeddedSet | None]]":
    """Divide every split by the value of a key; one part without a name if there is no key."""
    import numpy as np

    if key is None:
        return {"": found}
    there = [one for one in found.values() if one is not None]
    values = sorted({row.get(key, "") for one in there for row in one.metadata} - {""})
    if not values:
        raise ValueError(f"--per {key}: no sample has it; leave it out or name another")
    return {
        value: {
            name: one and one.where(np.array([row.get(key) == value for row in one.metadata]))
            for name, one in found.items()
        }
        for value in values
    }


def _write(results: "Results", folder: Path) -> None:
    from medvlp.evaluation.linear_probe_report import markdown_table, plot_curve
    from medvlp.evaluation.plots import write_plots
    from medvlp.evaluation.report import write_predictions

    results.to_json(folder / "results.json")
    (folder / "table.md").write_text(markdown_table(results), encoding="utf-8")
    write_predictions(results, folder / "predictions.csv")
    plot_curve(results, folder / "curve.png")
    write_plots(results, folder)


def _finish(results: "dict[str, Results]", options: argparse.Namespace) -> None:
    from rich.console import Console

    from medvlp.evaluation.linear_probe_report import markdown_table

    console = Console()
    for one in results.values():
        console.print(markdown_table(one), soft_wrap=True, highlight=False, markup=False)
    console.print(f"everything lies in {options.out}", soft_wrap=True)


def _commit() -> str:
    from medvlp.callbacks.provenance import current_commit

    return current_commit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m medvlp.linear_probe", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE", help="of the tree, as data=images")
    add("--ckpt", type=Path, required=True, help="of medvlp.train, or published weights")
    add("--experiment", help="experiment of conf/; published weights need it")
    add("--out", type=Path, default=Path("linear_probe"), help="folder; default: %(default)s")
    features = "before the projection (default), or the normalised embedding"
    names = ("image_features", "image_embedding")
    add("--features", choices=names, default=names[0], help=features)
    add("--target", metavar="NAME", help="classes are the values of this; default: the labels")
    add("--per", metavar="NAME", help="one probe for each value of this, as dataset")
    add("--task", choices=("choice", "findings"), help="default: choice if one label is true")
    add("--fractions", nargs="*", type=float, default=[0.01, 0.1], help="of the training samples")
    add("--shots", nargs="*", type=int, default=[1, 2, 4, 8, 16], help="samples of each class")
    add("--draws", type=int, default=5, help="training sets of each size; default: %(default)s")
    rule = "L2 strength: on as few validation samples as there are to train, or on all"
    add("--validation", choices=("scarce", "whole"), default="scarce", help=rule)
    shares = "train and val, by patient, where the data have no split; default: 0.6 0.2"
    add("--shares", nargs=2, type=float, default=[0.6, 0.2], metavar=("TRAIN", "VAL"), help=shares)
    add("--resamples", type=int, default=1000, help="of the bootstrap; default: %(default)s")
    add("--seed", type=int, default=0, help="of draws and bootstrap; default: %(default)s")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of the user end with one line."""
    options = _parser().parse_intermixed_args(arguments)
    with one_line_errors():
        run(options)


if __name__ == "__main__":
    main()
