"""What `medvlp.predict` does with a language model that sees: a report, and answers."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from rich.console import Console

from medvlp.data.conversation import Conversations
from medvlp.data.recipe import Recipe
from medvlp.data.sampling import RandomQuestion
from medvlp.evaluation.written_answers import write_answers
from medvlp.models.hsenet_vlm import HSENetVLM
from medvlp.prediction.loaded_model import LoadedModel
from medvlp.prediction.outcome import origin, write_tree
from medvlp.prediction.predict_study import (
    MIN_SLICES,
    print_scans,
    refuse_options_of_images,
    stated_by,
)
from medvlp.prediction.series import Series, Wanted, choose, find_series
from medvlp.prediction.study import StudyScan, read_study, slice_features, study_image

_MODALITY = "CT"


@dataclass(frozen=True)
class Reply:
    """A question and what the model wrote."""

    question: str
    text: str


def predict_report(options: argparse.Namespace, loaded: LoadedModel) -> None:
    """Read a scan, let the model write its report and answers, write and print both.

    A model that learnt from questions alone writes no report.

    Raises:
        FileNotFoundError, ValueError: If the scan or a question cannot be used.
    """
    _refuse_options_of_scores(options)
    if not isinstance(loaded.recipe, Recipe):
        raise ValueError(
            f"{loaded.experiment} has a {type(loaded.recipe).__name__}, a language model that sees "
            "volumes needs a recipe of volumes"
        )
    first, asked = _question_of_report(loaded), [text.strip() for text in options.ask or ()]
    if not all(asked):
        raise ValueError("--ask got an empty question; write what is to be answered")
    if first is None and not asked:
        raise ValueError(
            f"{loaded.experiment} learnt from questions alone and writes no report; ask it with "
            "--ask QUESTION"
        )
    min_slices = MIN_SLICES if options.min_slices is None else options.min_slices
    wanted = Wanted(_MODALITY, min_slices, derived=options.derived)
    marked = choose(find_series([Path(scan) for scan in options.scans]), wanted)
    scans, accounts = read_study(
        marked, loaded.recipe, stated_by(options, _MODALITY), wanted=wanted, several=False
    )
    replies = _replies(loaded, scans, asked if first is None else [first, *asked])
    reports, answers = ([], replies) if first is None else (replies[:1], replies[1:])
    options.out.mkdir(parents=True, exist_ok=True)
    for report in reports:
        (options.out / "report.txt").write_text(report.text + "\n", encoding="utf-8")
    tree = {
        **origin(loaded.facts, loaded.recipe, scans, accounts),
        "report": vars(reports[0]) if reports else None,
        "answers": [vars(answer) for answer in answers],
    }
    write_tree(options.out, tree)
    _print(accounts, replies, options.out)


def _print(accounts: Sequence[Series], replies: Sequence[Reply], out: Path) -> None:
    console = Console()
    print_scans(console, accounts)
    for reply in replies:
        console.print(reply.question, style="bold", soft_wrap=True, markup=False)
        console.print(reply.text, soft_wrap=True, markup=False, highlight=False)
    console.print("research use only: these are words of a model, not a diagnosis")
    console.print(f"everything lies in {out}", soft_wrap=True)


def _refuse_options_of_scores(options: argparse.Namespace) -> None:
    refuse_options_of_images(options)
    given = {
        "--findings": options.findings,
        "--prompt": options.prompt,
        "--evaluation": options.evaluation,
        "--masks": options.masks,
        "--map": options.map or None,
    }
    refused = [name for name, value in given.items() if value is not None]
    if refused:
        raise ValueError(
            f"{', '.join(refused)}: for models that score; this one writes: a report, and answers "
            "to --ask QUESTION"
        )


def _question_of_report(loaded: LoadedModel) -> str | None:
    """Word the question for a report; None if the model was never asked for one."""
    trained = (loaded.tree["data"].get("scans") or {}).get("train")
    if trained and isinstance(instantiate(trained, _convert_="all"), RandomQuestion):
        return None
    texts = instantiate(loaded.tree["data"]["texts"], _convert_="all")
    if not isinstance(texts, Conversations):
        raise ValueError(
            f"{loaded.experiment} reads {type(texts).__name__} and does not say how a report is "
            "asked for; choose data/texts of questions by --set"
        )
    (unit,) = texts.evaluation({}, np.random.default_rng(0))
    return unit.question


def _replies(
    loaded: LoadedModel, scans: Sequence[StudyScan], questions: Sequence[str]
) -> list[Reply]:
    model, system = loaded.model, loaded.tree["system"]
    assert isinstance(model, HSENetVLM)
    with torch.no_grad():
        towers = model.look(
            study_image(scans), torch.ones(len(scans), dtype=torch.int64), slice_features(scans)
        )
    texts = write_answers(
        model,
        loaded.tokenizer,
        questions,
        towers,
        max_new_tokens=system["max_new_tokens"],
        stop_ids=system.get("stop_ids", ()),
    )
    return [Reply(*pair) for pair in zip(questions, (text.strip() for text in texts), strict=True)]
