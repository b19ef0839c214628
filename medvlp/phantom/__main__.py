"""`python -m medvlp.phantom DATASET DIR`: write a small twin of a data set."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medvlp.phantom.registry import TWINS


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="medvlp phantom",
        description="Write a phantom twin: a small data set with the layout, tables and file "
        "formats of a real one, painted volumes, true reports and masks of what was painted.",
        epilog="Unless told otherwise: "
        + "; ".join(
            f"{name} {twin.num_train} + {twin.num_test} studies of about "
            f"{'x'.join(map(str, twin.shape))}"
            for name, twin in TWINS.items()
        ),
    )
    parser.add_argument(
        "dataset", choices=tuple(TWINS), metavar="DATASET", help=f"one of {', '.join(TWINS)}"
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="where to write it")
    parser.add_argument("--studies", type=int, help="training studies")
    parser.add_argument(
        "--test-studies", "--valid-studies", type=int, help="held-out studies", dest="test_studies"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything (default: 0)")
    parser.add_argument("--shape", type=int, nargs=3, help="typical voxels along z y x")
    parser.add_argument(
        "--prevalence", type=float, help="share of the studies with each finding, where it applies"
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="processes; 0 writes in this one (default: all cores for a large twin)",
    )
    parser.add_argument(
        "--hard-cases", action="store_true", help="add odd, mirrored, incomplete and corrupt ones"
    )
    return parser


# Below this number of studies a process takes longer to start than to paint its share.
_WORTH_WORKERS = 200


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and write the twin."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    twin = TWINS[options.dataset]
    try:
        # heavy imports wait until the command line is known to be right
        from medvlp.phantom.twin_parameters import TwinParameters

        write, wanted = twin.load(), TwinParameters(**_parameters(options))
        num_workers = _num_workers(options, wanted.num_train + wanted.num_test)
        root = write(options.folder, wanted, num_workers=num_workers)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    print(f"{twin.title} twin: {root.resolve()}")
    print(f"what is true of it: {(root / 'ground_truth').resolve()}")


def _parameters(options: argparse.Namespace) -> dict[str, Any]:
    """Name the `TwinParameters` that are asked for."""
    twin = TWINS[options.dataset]
    return {
        "num_train": twin.num_train if options.studies is None else options.studies,
        "num_test": twin.num_test if options.test_studies is None else options.test_studies,
        "seed": options.seed,
        "shape": tuple(options.shape or twin.shape),
        "hard_cases": options.hard_cases,
        "prevalence": options.prevalence,
        "kinds": twin.kinds,
    }


def _num_workers(options: argparse.Namespace, num_studies: int) -> int:
    if options.workers is not None:
        return options.workers
    return (os.cpu_count() or 1) if num_studies > _WORTH_WORKERS else 0


if __name__ == "__main__":
    main()
