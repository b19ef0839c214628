"""Write a phantom twin of AutoPET with HCL-AL's annotations: folders, masks, tables, vocabulary.

Beside the files of the real set lie `ground_truth/` (organs on the lattice of each CT,
`cases.json` with place, centre, radii and uptake of every lesion) and `twin.json`.
"""

import hashlib
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from medvlp.data.autopet import BOX_COLUMNS
from medvlp.phantom.autopet_case import WrittenCase, write_case
from medvlp.phantom.autopet_plan import (
    TwinParameters,
    place_descriptions,
    place_list,
    plan_cases,
)
from medvlp.phantom.tables import write_json, write_table
from medvlp.phantom.twin import check_sizes, finish, paint_all, prepare_root
from medvlp.phantom.whole_body import ORGANS
from medvlp.types import Size3D

TITLE = "AutoPET"
FORMAT_VERSION = 1
_IMAGES = ("image_path", "image_path1", "image_path2")
_DIAGNOSES = ("MELANOMA", "LYMPHOMA", "LUNG_CANCER")


def write_autopet_twin(
    root: str | Path,
    *,
    num_train: int,
    num_test: int,
    seed: int = 0,
    shape: Size3D = (96, 64, 64),
    num_workers: int = 0,
    hard_cases: bool = True,
) -> Path:
    """Write the twin, or finish one that was interrupted; a finished one is left as it is.

    Args:
        root: Gets FDG-PET-CT-Lesions/, lesion_mask/, tables, vocabulary and ground_truth/.
        num_train: Cases of patients that the hash of `AutoPET` puts into "train".
        num_test: Cases of patients that it puts into "test".
        seed: Of everything. More cases of the same seed begin with the same ones.
        shape: Typical voxels of the CT along z, y, x, for 1,040 x 470 x 470 mm.
        num_workers: Processes; 0 writes in this one.
        hard_cases: Add a case without lesions, one with a lesion of one voxel, one with a lesion
            at the border, a mask whose axes run the other way, a truncated PET, a misspelt place,
            a pair that differs in side only, and two studies of a patient in nested folders.

    Returns:
        `root`.

    Raises:
        ValueError: If a parameter is out of range, or `root` holds something else.
    """
    root = Path(root)
    check_sizes(num_train, num_test, shape)
    parameters = TwinParameters(num_train, num_test, seed, shape, hard_cases)
    if prepare_root(root, TITLE, version=FORMAT_VERSION, parameters=asdict(parameters)):
        return root
    write = partial(write_case, root, parameters)
    cases = list(plan_cases(parameters))
    written = paint_all(write, cases, num_workers, f"Painting {TITLE} twin")
    _write_tables(root, written)
    hard = [
        {"kind": entry.case.hard_case, "study": entry.case.case_id}
        for entry in written
        if entry.case.hard_case
    ]
    facts = {"num_volumes": 2 * len(written), "hard_cases": hard}
    finish(root, TITLE, version=FORMAT_VERSION, parameters=asdict(parameters), facts=facts)
    return root


def _write_tables(root: Path, written: list[WrittenCase]) -> None:
    places = [row for entry in written for row in entry.places]
    boxes = [row for entry in written for row in entry.boxes]
    # with a byte order mark, as the published code reads them
    columns = ("image_path", *BOX_COLUMNS, "GT")
    write_table(root / "anno.csv", columns, places, encoding="utf-8-sig")
    write_table(root / "bbox.csv", (*_IMAGES, *BOX_COLUMNS), boxes, encoding="utf-8-sig")
    columns = ("Subject ID", "File Location", "diagnosis", "age", "sex")
    write_table(root / "fdg_metadata.csv", columns, [_metadata(entry) for entry in written])
    write_json(root / "anatomy_vocabulary_library.json", _vocabulary())
    write_json(root / "augmented_location_descriptions.json", place_descriptions())
    truth = root / "ground_truth"
    write_json(truth / "labels.json", {"organs": dict(enumerate(ORGANS))})
    write_json(truth / "cases.json", {entry.case.case_id: entry.truth for entry in written})


def _metadata(entry: WrittenCase) -> dict[str, str]:
    case = entry.case
    patient = case.case_id.partition("/")[0]
    patient = "_".join(patient.split("_")[:2])
    digest = hashlib.sha256(patient.encode()).digest()[0]
    return {
        "Subject ID": patient,
        "File Location": f"./FDG-PET-CT-Lesions/{case.case_id}",
        "diagnosis": _DIAGNOSES[digest % len(_DIAGNOSES)] if case.lesions else "NEGATIVE",
        "age": f"{case.body.age:03d}Y",
        "sex": case.body.sex,
    }


def _vocabulary() -> dict[str, Any]:
    tree: dict[str, dict[str, dict[str, str]]] = {}
    for place in place_list():
        leaves = tree.setdefault(place["body"], {}).setdefault(place["coarse"], {})
        leaves[place["fine"]] = place["name"]
    return tree
