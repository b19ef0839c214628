"""What `medvlp.predict` does with a model of 2D images: every image is a sample of its own."""

import argparse
import os
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medvlp.evaluation.zero_shot import ZeroShotClassification
from medvlp.prediction.expected_scores import ExpectedScores
from medvlp.prediction.image_classifier import ImageClassifier, Texts
from medvlp.prediction.image_files import find_images
from medvlp.prediction.image_scores import SHOWN, ImageScores
from medvlp.prediction.loaded_model import LoadedModel
from medvlp.prediction.predictor import evaluation_named, evaluations_of

_COLUMNS = 8  # texts that the terminal has a column for
_PRINTED = 200  # images that are printed


def predict_images(options: argparse.Namespace, loaded: LoadedModel) -> int:
    """Score the images over the texts, write and print it.

    Returns:
        How many images could not be read.

    Raises:
        FileNotFoundError, ValueError: If an image is not there, none can be read, or a text or an
            option cannot be used.
    """
    _check_options(options)
    expected = None if options.expect is None else ExpectedScores.load(options.expect)
    found = find_images(options.scans)
    scores = ImageClassifier(loaded)(
        found.paths,
        _texts(options, loaded) if expected is None else expected.prompts,
        scoring=options.scoring or (expected.scoring if expected else "temperature"),
        template=options.template or "",
    )
    folder = options.out
    scores.to_json(folder / "prediction.json")
    scores.table.to_csv(folder / "scores.csv")
    np.save(folder / "embeddings.npy", scores.embeddings)
    scores.plot(folder / "images.png")
    _print(Console(), scores, found.passed_over)
    if expected is not None:
        Console().print(expected.require(scores), soft_wrap=True, highlight=False)
    Console().print(f"everything lies in {folder}", soft_wrap=True)
    return len(scores.unreadable)


def _check_options(options: argparse.Namespace) -> None:
    given = {
        "--findings": options.findings,
        "--map": options.map,
        "--masks": options.masks,
        "--min-slices": options.min_slices is not None,
        "--derived": options.derived,
        "--correct": options.correct,
        "--orientation": options.orientation,
        "--rescale": options.rescale,
    }
    if options.expect is not None and (options.prompt or options.evaluation):
        raise ValueError("--expect brings its own prompts; leave out --prompt and --evaluation")
    refused = [name for name, value in given.items() if value]
    if refused:
        raise ValueError(
            f"{', '.join(refused)}: for models of volumes; this is a model of 2D images, which is "
            "asked by --prompt, --template and --scoring"
        )


def _texts(options: argparse.Namespace, loaded: LoadedModel) -> Texts:
    """Take the prompts of the command line, else those of an evaluation."""
    if options.prompt and options.evaluation is None:
        return options.prompt
    evaluations = evaluations_of(loaded)
    if options.evaluation is None and not evaluations:
        raise ValueError(
            'there is nothing to ask: give a --prompt "a chest X-ray" for each text to choose from'
        )
    evaluation = evaluation_named(evaluations, options.evaluation)
    if isinstance(evaluation, ZeroShotClassification) and evaluation.score == "pair":
        raise ValueError(
            "the evaluation asks yes or no for every finding; give a --prompt for each text to "
            "choose from instead"
        )
    texts, template = evaluation.prompts.texts, evaluation.template
    own = {text: [text] for text in options.prompt or ()}
    return {name: texts(name, template)[1] for name in evaluation.class_names} | own


def _print(console: Console, scores: ImageScores, passed_over: int) -> None:
    kind = "similarity" if scores.scoring == "cosine" else "probability"
    table = Table("image", title=f"{kind} ({scores.scoring})", title_justify="left")
    few = len(scores.texts) <= _COLUMNS
    heads = [str(k + 1) for k in range(len(scores.texts))] if few else ["best", "second", "third"]
    for head in heads:
        table.add_column(head, justify="right" if few else "left")
    names = _short_names(scores.images)
    for name, row in list(zip(names, scores.scores, strict=True))[:_PRINTED]:
        best = np.argsort(-row, kind="stable")
        if few:
            cells = [Text(f"{p:.3f}", "bold" if k == best[0] else "") for k, p in enumerate(row)]
        else:
            cells = [Text(f"{row[k]:.3f} {scores.texts[k]}") for k in best[:3]]
        table.add_row(Text(name, overflow="fold"), *cells)
    console.print(table)
    if few:
        for k, text in enumerate(scores.texts):
            console.print(f"{k + 1:>3} {text}", soft_wrap=True, highlight=False, markup=False)
    for name, reason in scores.unreadable.items():
        console.print(f"not read: {name}: {reason}", soft_wrap=True, highlight=False, markup=False)
    for note in _notes(scores, passed_over):
        console.print(f"note: {note}", soft_wrap=True)
    console.print("research use only: these are scores of a model, not a diagnosis")


def _short_names(images: Sequence[str]) -> list[str]:
    """Leave out the folder that all images lie in."""
    whole = [os.path.abspath(image) for image in images]
    common = os.path.commonpath([os.path.dirname(path) for path in whole])
    return [os.path.relpath(path, common) for path in whole]


def _notes(scores: ImageScores, passed_over: int) -> list[str]:
    count, notes = len(scores.images), []
    if scores.unreadable:
        notes.append(
            f"{len(scores.unreadable)} of {count + len(scores.unreadable)} images could not be read"
        )
    if passed_over:
        notes.append(f"{passed_over} files of the folders are no images by name or content")
    if count > _PRINTED:
        notes.append(f"{count - _PRINTED} more images are in scores.csv")
    if count > SHOWN:
        notes.append(f"images.png shows the first {SHOWN} of {count}")
    if len(scores.texts) == 1 and scores.scoring != "cosine":
        notes.append("one text alone always has probability 1; give several, or --scoring cosine")
    return notes
