"""Compare two runs on the same samples: `python -m medvlp.compare RUN_A RUN_B [--out DIR]`.

Takes folders of runs whose test has written scores (medvlp.train with test, medvlp.evaluate test),
or of one evaluation in them. For every finding that both scored, and for the mean over them: AUROC
and average precision of both, their difference A - B with the interval of a paired bootstrap over
patients, and DeLong's test. Of evaluations of retrieval: R@k in both directions, likewise; of
generated reports: words and findings; of answers: words and accuracy; of lesions: named places.
Runs on other samples, labels or true texts are refused.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medvlp.user_errors import one_line_errors

if TYPE_CHECKING:
    from medvlp.evaluation.comparison import Comparison
    from medvlp.evaluation.table_comparison import TableComparison


def compare(options: argparse.Namespace) -> "Comparison | TableComparison":
    """Run what the command line asks for.

    Raises:
        FileNotFoundError, ValueError: If the runs cannot be read or compared.
    """
    from rich.console import Console

    from medvlp import config
    from medvlp.evaluation.table_comparison import has_figures

    config.require_writable(options.out, "--out FOLDER")
    wanted = options.evaluation or [None]
    evaluations = (wanted[0], wanted[-1])
    tabled = has_figures(options.run_a, evaluations[0])
    comparison = (_compare_tables if tabled else _compare_scores)(options, evaluations)
    Console().print(f"comparison.json and comparison.md: {options.out}", soft_wrap=True)
    return comparison


def _compare_scores(
    options: argparse.Namespace, evaluations: tuple[str | None, str | None]
) -> "Comparison":
    from medvlp.evaluation.comparison import compare_runs
    from medvlp.evaluation.comparison_report import print_comparison, write_comparison
    from medvlp.evaluation.scored_run import ScoredRun

    first = ScoredRun.read(options.run_a, evaluations[0])
    second = ScoredRun.read(options.run_b, evaluations[1])
    comparison = compare_runs(first, second, num_resamples=options.resamples, seed=options.seed)
    print_comparison(comparison)
    write_comparison(comparison, options.out)
    return comparison


def _compare_tables(
    options: argparse.Namespace, evaluations: tuple[str | None, str | None]
) -> "TableComparison":
    from medvlp.evaluation.table_comparison import compare_tables, print_tables, write_tables

    comparison = compare_tables(
        (options.run_a, options.run_b),
        evaluations,
        num_resamples=options.resamples,
        seed=options.seed,
    )
    print_tables(comparison)
    write_tables(comparison, options.out)
    return comparison


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of the user end with one line."""
    parser = argparse.ArgumentParser("python -m medvlp.compare", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("run_a", type=Path, metavar="RUN_A", help="what is hoped to be better")
    add("run_b", type=Path, metavar="RUN_B", help="what it is compared with")
    add(
        "--evaluation",
        action="append",
        metavar="NAME",
        help="which of a run's evaluations; twice, if B calls it otherwise",
    )
    add("--out", type=Path, default=Path("comparison"), help="folder; default: %(default)s")
    add("--resamples", type=int, default=1000, help="of the bootstrap; default: %(default)s")
    add("--seed", type=int, default=0, help="of the bootstrap; default: %(default)s")
    options = parser.parse_args(arguments)
    if options.resamples < 1 or len(options.evaluation or ()) > 2:
        parser.error("--resamples must be 1 or more, --evaluation is given once or twice")
    with one_line_errors():
        compare(options)


if __name__ == "__main__":
    main()
