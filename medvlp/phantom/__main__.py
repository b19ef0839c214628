"""`python -m medvlp.phantom ct_rate DIR`: write a small twin of a data set."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="medvlp phantom",
        description="Write a phantom twin: a small data set with the layout, tables and file "
        "formats of a real one, painted volumes, true reports and masks of what was painted.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("dataset", choices=("ct_rate",), help="which data set to imitate")
    parser.add_argument("folder", type=Path, help="where to write it")
    parser.add_argument("--studies", type=int, default=1600, help="training studies")
    parser.add_argument("--valid-studies", type=int, default=300, help="held-out studies")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything")
    parser.add_argument(
        "--shape", type=int, nargs=3, default=(64, 64, 64), help="voxels along z y x"
    )
    parser.add_argument("--prevalence", type=float, default=0.3, help="share with each finding")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--hard-cases", action="store_true", help="add normal, odd, mirrored and corrupt studies"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and write the twin."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    # heavy imports wait until the command line is known to be right
    from medvlp.phantom.ct_rate import write_ct_rate_twin

    depth, height, width = options.shape
    try:
        root = write_ct_rate_twin(
            options.folder,
            num_train=options.studies,
            num_valid=options.valid_studies,
            seed=options.seed,
            shape=(depth, height, width),
            prevalence=options.prevalence,
            num_workers=options.workers,
            hard_cases=options.hard_cases,
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"CT-RATE twin: {root.resolve()}")
    print(f"masks and attributes: {(root / 'ground_truth').resolve()}")


if __name__ == "__main__":
    main()
