"""`python -m medvlp.bench BENCHMARK [options]`; `--help` says more."""

import importlib
import sys
from collections.abc import Sequence

from medvlp.bench.options import build_parser

BENCHMARKS = {
    "trunk": "forward pass of full-size image towers against their bare matrix products",
    "ragged": "studies of unequal numbers of scans: packed against padded to the longest",
    "volume": "tokens of a volume by HSENet's image towers, against the plain formulas",
    "anatomy": "organs of a volume: windows that agree in one pass, against one for each organ",
    "step": "overhead of the framework over a plain PyTorch loop on the same training step",
    "phantom": "volumes per second of the phantom generator",
    "data": "reader, preparation, cache and loader of CT, against what others do",
    "images": "loader of 2D images from JPEG shards, against plain Pillow and torch",
    "text": "text tower on captions: cut to the longest, against padded to the context",
    "localise": "lesions of a study by HCL-AL: the whole command, against the published way",
    "generation": "answers of a language model that sees: several at once, against one by one",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark; its imports wait until it is named."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    listing = "\n".join(f"  {name:<10} {text}" for name, text in BENCHMARKS.items())
    usage = "medvlp bench BENCHMARK [options]"
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {usage}\n\n{listing}\n\nmedvlp bench BENCHMARK --help says more.")
        return
    name = arguments[0]
    if name not in BENCHMARKS:
        sys.exit(f"medvlp bench: there is no benchmark {name!r}; choose one of\n{listing}")
    options = build_parser(name, BENCHMARKS[name]).parse_args(arguments[1:])
    module = importlib.import_module(f"medvlp.bench.{name}")
    from medvlp.config import ConfigError

    try:
        module.run(options)
    except (ConfigError, FileNotFoundError) as error:
        sys.exit(f"medvlp bench {name}: {error}")


if __name__ == "__main__":
    main()
