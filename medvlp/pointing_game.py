"""Play the pointing game: `python -m medvlp.pointing_game --ckpt CKPT [--out DIR]`.

For every finding of every held-out study of a phantom twin: does the maximum of the activation map
for this finding lie on it? Beside the share of hits stand chance (the finding's share of the
volume) and how often the maps of other findings hit it. The checkpoint says which twin and which
prompts.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medvlp.user_errors import one_line_errors

if TYPE_CHECKING:
    from torch import Tensor

    from medvlp.evaluation.pointing_game import Pointing
    from medvlp.evaluation.results import Results
    from medvlp.prediction.painted_truth import PaintedScan, PaintedTwin
    from medvlp.prediction.predictor import Predictor


def play(options: argparse.Namespace) -> "Results":
    """Run what the command line asks for.

    Raises:
        FileNotFoundError, ValueError: If the checkpoint or its twin cannot be used.
    """
    from rich.console import Console
    from rich.progress import track

    from medvlp import config
    from medvlp.callbacks.provenance import current_commit
    from medvlp.evaluation.pointing_game import markdown_table, pointing_results
    from medvlp.prediction.painted_truth import PaintedTwin
    from medvlp.prediction.predictor import load_predictor, prompted

    config.require_writable(options.out)
    predictor = load_predictor(options.ckpt, overrides=options.set or ())
    evaluation = prompted(predictor, options.evaluation)
    twin = PaintedTwin(predictor.data, predictor.recipe)
    texts = _texts(predictor, options.evaluation)
    rows = twin.rows()[: options.limit]
    points: list[Pointing] = []
    for row in track(rows, "pointing"):
        points += _points(row, twin, predictor, texts)
    prompts = evaluation.prompts
    facts = {
        "protocol": f"pointing_game/{prompts.name}/{evaluation.template}",
        "prompt_hash": prompts.hash,
        "recipe_hash": predictor.recipe.hash,
    }
    results = pointing_results(points, prompts.macro_groups(), facts=facts, seed=options.seed)
    results = results.with_provenance(commit=current_commit(), seed=options.seed)
    results.to_json(options.out / "results.json")
    table = markdown_table(results)
    (options.out / "table.md").write_text(table, encoding="utf-8")
    console = Console()
    console.print(table, soft_wrap=True, highlight=False)
    console.print(f"everything lies in {options.out}", soft_wrap=True)
    return results


def _texts(predictor: "Predictor", wanted: str | None) -> "dict[str, Tensor]":
    import torch

    from medvlp.evaluation.prompt_evaluation import class_embeddings
    from medvlp.prediction.predictor import prompted

    evaluation = prompted(predictor, wanted)
    names = evaluation.class_names
    sentences = [evaluation.prompts.texts(name, evaluation.template)[1] for name in names]
    with torch.no_grad():
        embeddings = class_embeddings(
            sentences, predictor.tokenizer, predictor.model.embed_text, torch.device("cpu")
        )
    return dict(zip(names, embeddings, strict=True))


def _points(
    row: dict, twin: "PaintedTwin", predictor: "Predictor", texts: "dict[str, Tensor]"
) -> "list[Pointing]":
    import torch

    from medvlp.evaluation.activation import activation_maps
    from medvlp.prediction.painted_truth import strongest_places, study_image

    present = [name for name in texts if row["labels"].get(name) == 1 and name in twin.id_of]
    points = []
    for number, scans in enumerate(twin.samples(row, several=predictor.takes_several_scans)):
        if not present:
            continue
        found = activation_maps(
            predictor.model, study_image(scans), torch.stack(list(texts.values()))
        )
        places = dict(zip(texts, strongest_places(found.maps, scans), strict=True))
        for name in present:
            point = _point(name, twin.id_of[name], scans, places)
            if point is not None:
                sample = f"{row['study_id']}/{number}"
                points.append(point._replace(sample_id=sample, patient_id=row["patient_id"]))
    return points


def _point(name: str, number: int, scans: "list[PaintedScan]", places: dict) -> "Pointing | None":
    """Look where the maps of all findings point; None if the finding is not in the field."""
    from medvlp.evaluation.pointing_game import Pointing

    fields = [scan.grid.field() for scan in scans]
    masks = [(scan.findings == number) & field for scan, field in zip(scans, fields, strict=True)]
    size = sum(int(mask.sum()) for mask in masks)
    if not size:
        return None
    hits = {
        other: place is not None and bool(masks[index][place])
        for other, (index, place) in places.items()
    }
    others = [hit for other, hit in hits.items() if other != name]
    return Pointing(
        sample_id="",
        patient_id="",
        finding=name,
        hit=hits[name],
        chance=size / sum(int(field.sum()) for field in fields),
        other_maps=sum(others) / max(1, len(others)),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of the user end with one line."""
    parser = argparse.ArgumentParser("python -m medvlp.pointing_game", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--ckpt", type=Path, required=True, help="of medvlp.train on a twin")
    add("--out", type=Path, default=Path("pointing_game"), help="folder; default: %(default)s")
    add("--set", action="append", metavar="KEY=VALUE", help="override of the checkpoint's tree")
    add("--evaluation", help="whose prompts; default: the experiment's first")
    add("--limit", type=int, help="only the first so many studies")
    add("--seed", type=int, default=0, help="of the bootstrap; default: %(default)s")
    options = parser.parse_args(arguments)
    with one_line_errors():
        play(options)


if __name__ == "__main__":
    main()
