"""Score generated texts: `python -m medvlp.evaluation.published_hsenet TABLE.csv [--out DIR]`.

TABLE has the columns "Ground Truth" and "pred", as HSENet's scripts write them; a column "Question"
makes it one of answers to questions about places, otherwise it is one of reports. predictions.csv
of a test can be scored too. Rows are resampled one by one, by "patient_id" where the table has it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from medvlp.evaluation.generated_text import GeneratedTextEvaluation
from medvlp.evaluation.results import Results
from medvlp.types import VolumeBatch
from medvlp.user_errors import one_line_errors

TRUTH, GENERATED, QUESTION = "Ground Truth", "pred", "Question"
_PLACES = "location"


def score_table(
    path: Path,
    metrics: Sequence[str] | None = None,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Results:
    """Compute the figures of a table of generated and true texts.

    Args:
        path: CSV file.
        metrics: Figures of words, see `ReportGeneration`; None for those that need no model.
        num_resamples: Bootstrap resamples.
        seed: Of the bootstrap.

    Raises:
        FileNotFoundError, ValueError: If the table cannot be read.
    """
    from medvlp.data.tables import read_table

    table = read_table(path, (TRUTH, GENERATED))
    options = {"num_resamples": num_resamples, "seed": seed}
    options |= {} if metrics is None else {"metrics": metrics}
    measure = _measure(QUESTION in table[0], options)
    names = [cells.get("sample_id") or f"{k:06}" for k, cells in enumerate(table)]
    batch: VolumeBatch = {
        "image": torch.zeros(0, 1, 1, 1, 1),
        "num_scans": torch.zeros(len(table), dtype=torch.long),
        "study_id": names,
        "sample_id": names,
        "patient_id": [
            cells.get("patient_id") or name for cells, name in zip(table, names, strict=True)
        ],
        "recipe_hash": "",
        "answer": [cells[TRUTH] for cells in table],
        "question": [cells.get(QUESTION, "") for cells in table],
        "target": [{"kind": cells.get("kind", _PLACES)} for cells in table],
    }
    measure.update([cells[GENERATED] for cells in table], batch)
    return measure.compute(measure.rows())


def _measure(of_answers: bool, options: dict[str, Any]) -> GeneratedTextEvaluation:
    from medvlp.data.ct_rate import LABEL_NAMES
    from medvlp.evaluation.report_generation import ReportGeneration
    from medvlp.evaluation.visual_question_answering import VisualQuestionAnswering

    if of_answers:
        return VisualQuestionAnswering(**options)
    return ReportGeneration(label_names=LABEL_NAMES, **options)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of the user end with one line."""
    parser = argparse.ArgumentParser("python -m medvlp.evaluation.published_hsenet")
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("table", type=Path, help='CSV with the columns "Ground Truth" and "pred"')
    add("--out", type=Path, metavar="DIR", help="writes results.json")
    add(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="of bleu, rouge, meteor, cider (the default), bertscore, ratescore, radgraph, green",
    )
    add("--resamples", type=int, default=1000, help="of the bootstrap; default: %(default)s")
    add("--seed", type=int, default=0, help="of the bootstrap; default: %(default)s")
    options = parser.parse_args(arguments)
    with one_line_errors():
        from rich.console import Console

        from medvlp.evaluation.report import print_table

        results = score_table(
            options.table, options.metrics, num_resamples=options.resamples, seed=options.seed
        )
        print_table(results)
        if options.out is not None:
            Console().print(f"results: {results.to_json(options.out / 'results.json')}")


if __name__ == "__main__":
    main()
