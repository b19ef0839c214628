"""Name the places of lesions: `python -m medvlp.localise CT... --coarse CKPT --fine CKPT`.

Of one study, in the order of the models' channels: CT, for most models PET (SUV) and the lesion
mask, whose components are the lesions. Boxes (--box, --boxes) or points (--point, a sphere of
--radius-mm around each) may tell lesions instead; without a mask a box is filled with an ellipsoid.
Files may lie on different grids.

Of many studies: --list TABLE, a CSV file as HCL-AL's: image_path, image_path1, ... and in mode box
x, y, z, width, height, depth (centre and sides in mm; LPS, as ITK and DICOM have it, unless
--coordinates RAS).

Into --out go predictions.csv (HCL-AL's columns; "remark" where something is odd of a lesion),
predictions.json (all ranked names with their probabilities and paths in the hierarchy), and
lesion_0001.png, ... in the order of the rows. The exit code is 3 if some lesions have no answer.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medvlp.user_errors import one_line_errors

if TYPE_CHECKING:
    from rich.console import Console

    from medvlp.data.lesion_recipe import LesionRecipe
    from medvlp.prediction.lesion_localiser import LesionLocaliser
    from medvlp.prediction.lesion_stage import OpenedStage
    from medvlp.prediction.lesion_study import LocalisedLesion, SeenLesion

NO_ANSWER_CODE = 3


def localise(options: argparse.Namespace) -> "list[LocalisedLesion]":
    """Run what the command line asks for.

    Raises:
        FileNotFoundError, ValueError: If a list, a checkpoint or the vocabulary cannot be used.
    """
    _check(options)  # before the imports below, which take seconds

    from rich.console import Console
    from rich.progress import track

    from medvlp import config
    from medvlp.prediction.lesion_list import write_json, write_table
    from medvlp.prediction.lesion_pictures import lesion_picture

    config.require_writable(options.out, "--out FOLDER")
    localiser = _localiser(options)
    recipe = next(iter(localiser.stages.values())).recipe
    options.out.mkdir(parents=True, exist_ok=True)
    done: list[LocalisedLesion] = []
    for number, seen in enumerate(track(_lesions(options, localiser, recipe), "lesions"), start=1):
        done.append(seen.result)
        if options.pictures:
            lesion_picture(options.out / f"lesion_{number:04d}.png", seen, recipe)
    write_table(done, options.out / "predictions.csv", fine="fine" in localiser.stages)
    write_json(done, options.out / "predictions.json", localiser)
    _print(Console(), done, options.out)
    return done


def _check(options: argparse.Namespace) -> None:
    if (options.list is None) == (not options.files):
        raise ValueError("give the files of one study, or --list with a table of many; not both")
    if options.coarse is None and (options.fine is None or options.list is None):
        raise ValueError(
            "--coarse is needed; only --list with columns coarse_labels and coarse_probs can do "
            "with --fine alone"
        )
    of_boxes = options.box or options.point or options.boxes
    if options.list is not None and of_boxes:
        raise ValueError("--box, --boxes and --point are of one study; a list has boxes of its own")
    if options.radius_mm <= 0:
        raise ValueError(f"--radius-mm is {options.radius_mm}: a sphere needs one above 0")
    if options.top_k < 0 or not 0 <= options.fusion_threshold <= 1:
        raise ValueError(
            f"--top-k is {options.top_k} and --fusion-threshold {options.fusion_threshold}: "
            "expected a number from 1, or 0 for all places, and a probability"
        )
    named = (options.coarse, options.fine, options.key_file, options.list, options.boxes)
    for path in (*filter(None, named), *options.files):
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there")


def _localiser(options: argparse.Namespace) -> "LesionLocaliser":
    from medvlp.data.lesion_places import PlaceVocabulary
    from medvlp.evaluation.place_cascade import PlaceCascade
    from medvlp.prediction.lesion_localiser import LesionLocaliser

    _check_device(options.device)
    published = options.compat == "published"
    cascade = PlaceCascade(
        PlaceVocabulary.load(options.vocabulary, options.descriptions),
        options.top_k or None,
        fusion_threshold=options.fusion_threshold,
        filter_by_sex=not published,
        filter_by_size=not published,
        compat=options.compat,
    )
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[Literal["coarse", "fine"], Path | None]
        paths = {"coarse": options.coarse, "fine": options.fine}
        opened = {k: _opened(options, k, Path(folder)) for k, path in paths.items() if path}
        if len(opened) == 2:
            _check_order(options, opened["coarse"].recipe, opened["fine"].recipe)
        _check_inputs(options, next(iter(opened.values())).recipe)
        stages = {name: stage.load() for name, stage in opened.items()}
    return LesionLocaliser(
        cascade,
        coarse=stages.get("coarse"),
        fine=stages.get("fine"),
        device=options.device,
        precision=options.precision,
        text_cache=options.text_cache,
    )


def _opened(
    options: argparse.Namespace, stage: Literal["coarse", "fine"], folder: Path
) -> "OpenedStage":
    """Open a stage; out of its encrypted container, into `folder`, if there is a key."""
    from medvlp.checkpoints.encrypted import decrypt_file, is_encrypted
    from medvlp.prediction.lesion_stage import open_stage

    path: Path = getattr(options, stage)
    if options.key_file is not None and path.is_file() and is_encrypted(path):
        container, path = path, folder / stage / path.name
        path.parent.mkdir()
        decrypt_file(container, path, options.key_file.read_bytes())
    return open_stage(path, stage, overrides=options.set or (), compat=options.compat)


def _check_inputs(options: argparse.Namespace, recipe: "LesionRecipe") -> None:
    """Refuse what the models cannot look at before they are built and embed their texts."""
    from medvlp.prediction.lesion_list import files_of_study, list_rows

    if options.list is not None:
        list_rows(options.list, recipe, mode=options.mode, ranked=options.coarse is None)
    else:
        files_of_study(options.files, recipe, boxes=bool(_boxes(options)))


def _check_order(options: argparse.Namespace, coarse: "LesionRecipe", fine: "LesionRecipe") -> None:
    """Refuse stages that were swapped: published files do not say which one they are."""
    wide, narrow = (
        [n * mm for n, mm in zip(grid.size, grid.spacing_mm, strict=True)]
        for grid in (coarse.grids["coarse"], fine.grids["fine"])
    )
    if math.prod(wide) < math.prod(narrow) or options.coarse == options.fine:
        raise ValueError(
            f"--coarse {options.coarse} sees patches of {wide} mm and --fine {options.fine} of "
            f"{narrow}: the coarse stage sees more; were they swapped?"
        )


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # unknown, or not of this PyTorch
        reason = str(error).splitlines()[0][:100]
        raise ValueError(f"--device {device} cannot be used ({reason}); choose cpu") from error


def _lesions(
    options: argparse.Namespace, localiser: "LesionLocaliser", recipe: "LesionRecipe"
) -> "Iterator[SeenLesion]":
    from medvlp.prediction.lesion_list import fields_of, files_of_study, localise_rows
    from medvlp.prediction.lesion_study import localise_study

    coordinates = options.coordinates
    if options.list is not None:
        yield from localise_rows(
            options.list,
            localiser,
            mode=options.mode,
            images=options.images,
            coordinates=coordinates,
        )
        return
    boxes = _boxes(options)
    located = files_of_study(options.files, recipe, boxes=bool(boxes))
    fields = enumerate(fields_of(recipe))
    paths = {f"image_path{i or ''}": str(located.get(field, "")) for i, field in fields}
    yield from localise_study(
        located,
        [paths | box for box in boxes] or [paths],
        localiser,
        mode="box" if boxes else "mask",
        coordinates=coordinates,
        sex=options.sex,
    )


def _boxes(options: argparse.Namespace) -> list[dict[str, str]]:
    """Collect the boxes of the command line as rows of a table."""
    from medvlp.data.lesion_table import BOX_COLUMNS
    from medvlp.data.tables import read_table

    side = 2 * options.radius_mm
    numbers = [*(options.box or ()), *([*point, side, side, side] for point in options.point or ())]
    rows = [
        {str(name): str(mm) for name, mm in zip(BOX_COLUMNS, box, strict=True)} for box in numbers
    ]
    return rows + (read_table(options.boxes, BOX_COLUMNS) if options.boxes else [])


def _print(console: "Console", done: "Sequence[LocalisedLesion]", out: Path) -> None:
    from rich.table import Table

    table = Table("lesion", "place", "probability", "remark")
    for number, lesion in enumerate(done[:20], start=1):
        answer = lesion.answer
        name = answer.names[0] if answer else "no answer"
        probability = f"{answer.probabilities[0]:.2f}" if answer else ""
        table.add_row(str(number), name, probability, lesion.remark)
    console.print(table)
    lost = sum(lesion.answer is None for lesion in done)
    odd = sum(bool(lesion.remark) for lesion in done)
    told = f"{len(done)} lesions, {lost} without an answer, {odd} with a remark; everything lies in"
    console.print(f"{told} {out}", soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m medvlp.localise", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    files = "of one study, in the order of the models' channels: CT, PET, lesion mask"
    add("files", nargs="*", type=Path, metavar="FILE", help=files)
    checkpoint = "checkpoint of medvlp.train, or params.pth as published"
    add("--coarse", type=Path, metavar="CKPT", help=checkpoint)
    add("--fine", type=Path, metavar="CKPT", help=f"{checkpoint}; without it: coarse places only")
    key = "with the key of weights that are published in an encrypted container: 16 letters"
    add("--key-file", type=Path, metavar="FILE", help=key)
    names = "a shipped one, or a file of your own; default: %(default)s"
    add("--vocabulary", default="whole_body", metavar="NAME|FILE", help=names)
    add("--descriptions", metavar="FILE", help="of the vocabulary, where they are a file apart")
    add("--out", type=Path, default=Path("localisation"), help="folder; default: %(default)s")
    many = "coarse places that are looked into; 0: all; default: %(default)s"
    add("--top-k", type=int, default=3, help=many)
    fusion = "average with the coarse place's where no fine probability reaches it; default: never"
    add("--fusion-threshold", type=float, default=0.0, metavar="P", help=fusion)
    quirks = "all quirks of the published inference, which knows no sex and no size of places"
    add("--compat", choices=("published",), help=quirks)
    tree = "override of the checkpoints' trees, as tokenizer.name_or_path=FOLDER of a BERT"
    add("--set", action="append", metavar="KEY=VALUE", help=tree)
    add("--device", default="cpu", help="default: %(default)s")
    faster = "of the image towers; bf16 is faster and moves probabilities; default: %(default)s"
    add("--precision", choices=("fp32", "bf16"), default="fp32", help=faster)
    kept = "keeps the texts' embeddings for the next time; default: they are made anew"
    add("--text-cache", type=Path, metavar="DIR", help=kept)
    add("--no-pictures", dest="pictures", action="store_false", help="no PNG of each lesion")
    add("--coordinates", choices=("LPS", "RAS"), default="LPS", help="default: %(default)s")
    _add_options_of_one(parser.add_argument_group("one study"))
    _add_options_of_lists(parser.add_argument_group("many studies"))
    return parser


def _add_options_of_one(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    box = {"nargs": 6, "type": float, "action": "append"}
    sides = ("X", "Y", "Z", "WIDTH", "HEIGHT", "DEPTH")
    add("--box", **box, metavar=sides, help="centre and sides in mm; may be repeated")
    add("--boxes", type=Path, metavar="FILE", help="CSV: x, y, z, width, height, depth")
    point = {"nargs": 3, "type": float, "action": "append"}
    add("--point", **point, metavar=("X", "Y", "Z"), help="in mm; may be repeated")
    radius = "of the sphere around each point; default: %(default)s"
    add("--radius-mm", type=float, default=5.0, help=radius)
    sex = "of the patient, rules places out; default: of Body_CT.json beside the CT, if it is there"
    add("--sex", choices=("F", "M"), default="", help=sex)


def _add_options_of_lists(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--list", type=Path, metavar="TABLE", help="CSV file, see above")
    mode = "mask: every component of each mask is a lesion; default: %(default)s"
    add("--mode", choices=("box", "mask"), default="box", help=mode)
    add("--images", type=Path, metavar="DIR", help="where relative paths of the list start")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of the user end with one line."""
    options = _parser().parse_args(arguments)
    with one_line_errors():
        done = localise(options)
    if any(lesion.answer is None for lesion in done):
        sys.exit(NO_ANSWER_CODE)


if __name__ == "__main__":
    main()
