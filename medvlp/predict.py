"""Predict one study: `python -m medvlp.predict SCAN... --ckpt CKPT [--map] [--out DIR]`.

SCAN is a NIfTI file, a DICOM folder (of one series or many), or any other format that is known;
several of them are the scans of one study. Findings, the embedding and activation maps go into
--out as JSON, NPY, NIfTI and PNG, none of which names the patient. A checkpoint of medvlp.train
knows how its scans are prepared; published weights need --experiment.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medvlp.user_errors import one_line_errors

if TYPE_CHECKING:
    from rich.console import Console

    from medvlp.prediction.outcome import Outcome
    from medvlp.prediction.predictor import Predictor, PromptedEvaluation
    from medvlp.prediction.series import Series
    from medvlp.prediction.study import Stated

_MAPS = 3  # findings that --map draws where none is named


def predict(options: argparse.Namespace) -> Path:
    """Run what the command line asks for; returns the folder of the output.

    Raises:
        FileNotFoundError, ValueError: If a scan, the checkpoint or a prompt cannot be used.
    """
    from rich.console import Console

    from medvlp import config
    from medvlp.prediction.outcome import Outcome, embed_study, write_maps, write_outcome
    from medvlp.prediction.predictor import load_predictor
    from medvlp.prediction.questions import answer, questions_of
    from medvlp.prediction.series import Wanted, choose, find_series
    from medvlp.prediction.study import read_study

    config.require_writable(options.out)
    found = find_series(options.scans)
    predictor = load_predictor(
        options.ckpt, experiment=options.experiment, overrides=options.set or ()
    )
    name, evaluation = _evaluation(predictor, options.evaluation)
    asked, prompts = options.findings or (), options.prompt or ()
    questions = questions_of(evaluation, name, findings=asked, prompts=prompts)
    wanted = Wanted(predictor.modality, options.min_slices, derived=options.derived)
    several = predictor.takes_several_scans
    stated = _stated(options, predictor)
    marked = choose(found, wanted)
    scans, accounts = read_study(marked, predictor.recipe, stated, wanted=wanted, several=several)
    token = evaluation.token if evaluation is not None else 0
    embedding = embed_study(predictor, scans)
    answers = answer(questions, embedding, predictor, token=token)
    notes = [_SINGLE_SCAN] if several and len(scans) == 1 else []
    outcome = Outcome(scans, accounts, questions, answers, embedding, notes)
    drawn = _to_draw(outcome, all_of_them=bool(asked or prompts))
    maps = write_maps(options.out, outcome, predictor, drawn, token=token) if options.map else []
    write_outcome(options.out, outcome, predictor, maps)
    _print(Console(), outcome, options.out)
    return options.out


_SINGLE_SCAN = (
    "the model was made for studies of several scans and was given one: it works, and how well "
    "depends on which sequence the scan is"
)


def _evaluation(
    predictor: "Predictor", wanted: str | None
) -> "tuple[str, PromptedEvaluation | None]":
    from medvlp.prediction.predictor import prompted

    if wanted is None and not predictor.evaluations:
        return "", None
    evaluation = prompted(predictor, wanted)
    return wanted or next(iter(predictor.evaluations)), evaluation


def _stated(options: argparse.Namespace, predictor: "Predictor") -> "Stated":
    from medvlp.data.scan import Rescale, check_orientation
    from medvlp.prediction.study import Stated

    if options.orientation is not None:
        check_orientation(options.orientation)
    return Stated(
        modality=predictor.modality,
        rescale=None if options.rescale is None else Rescale(*options.rescale),
        orientation=options.orientation,
        irregular="correct" if options.correct else "refuse",
    )


def _to_draw(outcome: "Outcome", *, all_of_them: bool) -> list[int]:
    scores = outcome.answers.scores.tolist()
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    return sorted(order) if all_of_them else order[:_MAPS]


def _print(console: "Console", outcome: "Outcome", folder: Path) -> None:
    from rich.table import Table

    series = Table("series", "modality", "slices", "", title="scans", title_justify="left")
    for one in outcome.accounts:
        slices = str(one.num_slices or "")
        series.add_row(one.label, one.modality, slices, _fate(one))
    console.print(series)
    table = Table("finding", "probability", title="findings", title_justify="left")
    for question, score in zip(outcome.questions, outcome.answers.scores.tolist(), strict=True):
        similar = " (similarity)" if question.rule == "cosine" else ""
        table.add_row(question.name, f"{score:.3f}{similar}")
    console.print(table)
    for note in outcome.notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print("research use only: these are scores of a model, not a diagnosis")
    console.print(f"everything lies in {folder}", soft_wrap=True)


def _fate(series: "Series") -> str:
    return f"left out: {series.left_out}" if series.left_out else "used"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m medvlp.predict", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("scans", nargs="+", type=Path, metavar="SCAN", help="file or folder; all of one study")
    add("--ckpt", type=Path, required=True, help="of medvlp.train, or published weights")
    add("--out", type=Path, default=Path("prediction"), help="folder; default: %(default)s")
    add("--experiment", help="experiment of conf/; published weights need it")
    add("--set", action="append", metavar="KEY=VALUE", help="override of the experiment's tree")
    add("--evaluation", help="whose prompts; default: the experiment's first")
    add("--findings", nargs="+", metavar="NAME", help="of the prompt set, or in your own words")
    add("--prompt", action="append", metavar="TEXT", help="a whole sentence; may be repeated")
    add("--map", action="store_true", help="activation maps: NIfTI and PNG")
    # the deepest published patch has 16 slices, the thinnest 6
    add("--min-slices", type=int, default=8, help="fewest slices; default: %(default)s")
    add("--derived", action="store_true", help="take derived DICOM series too")
    add("--correct", action="store_true", help="resample tilted or uneven DICOM series")
    add("--orientation", metavar="SPL", help="letters of the stored axes, if the header is wrong")
    rescale = "rule from stored numbers to HU, if a table has it (CT-RATE v1)"
    add("--rescale", nargs=2, type=float, metavar=("SLOPE", "INTERCEPT"), help=rescale)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of the user end with one line."""
    options = _parser().parse_args(arguments)
    with one_line_errors():
        predict(options)


if __name__ == "__main__":
    main()
