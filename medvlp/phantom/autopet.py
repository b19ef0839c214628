"""Write a phantom twin of AutoPET with HCL-AL's annotations: folders, masks, tables, vocabulary.

Beside the files of the real set lie `ground_truth/` (organs on the lattice of each CT,
`cases.json` with place, centre, radii and uptake of every lesion) and `twin.json`.
"""

import hashlib
from pathlib import Path
from typing import Any

from medvlp.data.lesion_table import BOX_COLUMNS
from medvlp.phantom.autopet_case import WrittenCase, write_case
from medvlp.phantom.autopet_plan import place_vocabulary, plan_cases
from medvlp.phantom.tables import write_json, write_table
from medvlp.phantom.twin import TwinWriter
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.phantom.whole_body import ORGANS

FORMAT_VERSION = 3  # 2: patients are divided by another hash; 3: lesions between neighbours
_IMAGES = ("image_path", "image_path1", "image_path2")
_DIAGNOSES = ("MELANOMA", "LYMPHOMA", "LUNG_CANCER")


def write_autopet_twin(
    root: str | Path, parameters: TwinParameters, *, num_workers: int = 0
) -> Path:
    """Write the twin; arguments and errors are those of `TwinWriter.build`.

    `root` gets FDG-PET-CT-Lesions/, lesion_mask/, tables, vocabulary and ground_truth/. The hash of
    `AutoPET` puts the patients into the split that is meant. `shape` is that of the CT, for 1,040 x
    470 x 470 mm. Hard cases are a case without lesions, one with a lesion of one voxel, one with a
    lesion at the border, a mask whose axes run the other way, a truncated PET, a misspelt place, a
    pair that differs in side only, and two studies of a patient in nested folders.
    """
    writer = TwinWriter("AutoPET", FORMAT_VERSION, plan_cases, write_case, _write_tables)
    return writer.build(root, parameters, num_workers=num_workers)


def _write_tables(root: Path, written: list[WrittenCase]) -> dict[str, Any]:
    places = [row for entry in written for row in entry.places]
    boxes = [row for entry in written for row in entry.boxes]
    # with a byte order mark, as the published code reads them
    columns = ("image_path", *BOX_COLUMNS, "GT")
    write_table(root / "anno.csv", columns, places, encoding="utf-8-sig")
    write_table(root / "bbox.csv", (*_IMAGES, *BOX_COLUMNS), boxes, encoding="utf-8-sig")
    columns = ("Subject ID", "File Location", "diagnosis", "age", "sex")
    write_table(root / "fdg_metadata.csv", columns, [_metadata(entry) for entry in written])
    write_json(root / "anatomy_vocabulary_library.json", _vocabulary())
    write_json(root / "augmented_location_descriptions.json", place_vocabulary().descriptions)
    truth = root / "ground_truth"
    write_json(truth / "labels.json", {"organs": dict(enumerate(ORGANS))})
    write_json(truth / "cases.json", {entry.case.case_id: entry.truth for entry in written})
    hard = [
        {"kind": entry.case.hard_case, "study": entry.case.case_id}
        for entry in written
        if entry.case.hard_case
    ]
    return {"num_volumes": 2 * len(written), "hard_cases": hard}


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
    for place in place_vocabulary().places:
        tree.setdefault(place.body, {}).setdefault(place.coarse, {})[place.fine] = place.name
    return tree
