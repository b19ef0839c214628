"""What `medvlp.predict` does with a model of volumes: one study, of one or several scans."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from medvlp.data.scan import Rescale, check_orientation
from medvlp.prediction.loaded_model import LoadedModel
from medvlp.prediction.outcome import Outcome, embed_study, write_maps, write_outcome
from medvlp.prediction.predictor import Predictor, PromptedEvaluation, predictor_of, prompted
from medvlp.prediction.questions import answer, questions_of
from medvlp.prediction.series import Series, Wanted, choose, find_series
from medvlp.prediction.study import Stated, read_study

MIN_SLICES = 8  # the deepest published patch has 16 slices, the thinnest 6
_MAPS = 3  # findings that --map draws where none is named
_SINGLE_SCAN = (
    "the model was made for studies of several scans and was given one: it works, and how well "
    "depends on which sequence the scan is"
)


def predict_study(options: argparse.Namespace, loaded: LoadedModel) -> None:
    """Read the scans, ask the model, write and print what it says.

    Raises:
        FileNotFoundError, ValueError: If a scan or a prompt cannot be used.
    """
    refuse_options_of_images(options)
    if options.masks is not None:
        raise ValueError("--masks: for models of organs; this is a model of whole studies")
    found = find_series([Path(scan) for scan in options.scans])
    predictor = predictor_of(loaded)
    name, evaluation = _evaluation(predictor, options.evaluation)
    asked, prompts = options.findings or (), options.prompt or ()
    questions = questions_of(evaluation, name, findings=asked, prompts=prompts)
    min_slices = MIN_SLICES if options.min_slices is None else options.min_slices
    wanted = Wanted(predictor.modality, min_slices, derived=options.derived)
    several = predictor.takes_several_scans
    stated = stated_by(options, predictor.modality)
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


def refuse_options_of_images(options: argparse.Namespace) -> None:
    """Refuse what only models of 2D images know.

    Raises:
        ValueError: If such an option is given.
    """
    given = {
        "--scoring": options.scoring,
        "--template": options.template,
        "--expect": options.expect,
    }
    refused = [name for name, value in given.items() if value is not None]
    if refused:
        raise ValueError(
            f"{', '.join(refused)}: for models of 2D images; this is a model of volumes, which is "
            "asked by --findings and --prompt"
        )


def _evaluation(predictor: Predictor, wanted: str | None) -> tuple[str, PromptedEvaluation | None]:
    if wanted is None and not predictor.evaluations:
        return "", None
    evaluation = prompted(predictor, wanted)
    return wanted or next(iter(predictor.evaluations)), evaluation


def stated_by(options: argparse.Namespace, modality: str | None) -> Stated:
    """Take what the user says of the scans."""
    if options.orientation is not None:
        check_orientation(options.orientation)
    return Stated(
        modality=modality,
        rescale=None if options.rescale is None else Rescale(*options.rescale),
        orientation=options.orientation,
        irregular="correct" if options.correct else "refuse",
    )


def _to_draw(outcome: Outcome, *, all_of_them: bool) -> list[int]:
    scores = outcome.answers.scores.tolist()
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    return sorted(order) if all_of_them else order[:_MAPS]


def print_scans(console: Console, accounts: Sequence[Series]) -> None:
    """Print which series were used and which were left out."""
    series = Table("series", "modality", "slices", "", title="scans", title_justify="left")
    for one in accounts:
        slices = str(one.num_slices or "")
        series.add_row(one.label, one.modality, slices, _fate(one))
    console.print(series)


def _print(console: Console, outcome: Outcome, folder: Path) -> None:
    print_scans(console, outcome.accounts)
    table = Table("finding", "probability", title="findings", title_justify="left")
    for question, score in zip(outcome.questions, outcome.answers.scores.tolist(), strict=True):
        similar = " (similarity)" if question.rule == "cosine" else ""
        table.add_row(question.name, f"{score:.3f}{similar}")
    console.print(table)
    for note in outcome.notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print("research use only: these are scores of a model, not a diagnosis")
    console.print(f"everything lies in {folder}", soft_wrap=True)


def _fate(series: Series) -> str:
    return f"left out: {series.left_out}" if series.left_out else "used"
