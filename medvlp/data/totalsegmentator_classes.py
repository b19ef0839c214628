"""The classes of TotalSegmentator: ids and names of its versions, and how to tell them apart."""

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Real

from medvlp.data.tables import nearest

Task = Literal["total", "total_mr"]

NIFTI = (".nii.gz", ".nii")
_LABEL = re.compile(rb'<Label Key="(\d{1,4})"[^>]*>(?:<!\[CDATA\[)?([^<\]]{1,100})')
_HEART_V1 = ("heart_myocardium", "heart_atrium_left", "heart_ventricle_left")
_HEART_V1 += ("heart_atrium_right", "heart_ventricle_right")
# Of the ids that are lung in one version and soft tissue in the other.
_LUNG_ONLY_V2, _LUNG_ONLY_V1 = (10, 11, 12), (15, 17)
_LUNG_HU, _FEW_VOXELS = -400.0, 20


@cache
def class_names(task: Literal["total", "total_mr", "total_v1"] = "total") -> tuple[str, ...]:
    """List the classes of a task; the id of the first is 1.

    >>> class_names()[9], class_names("total_v1")[9]
    ('lung_upper_lobe_left', 'pancreas')
    """
    path = Path(__file__).with_name("totalsegmentator.json")
    return tuple(json.loads(path.read_text(encoding="utf-8"))[task])


def ids_of(names: Iterable[str], task: Task) -> tuple[dict[str, int], tuple[str, ...]]:
    """Give each class its id in version 2.

    The parts of the heart that version 1 has become the heart; classes that version 2 no longer
    has are left out.

    Returns:
        Name to id, and a note if there are names that no version has.
    """
    found = list(names)
    known = {name: number for number, name in enumerate(class_names(task), 1)}
    if task == "total":
        known |= dict.fromkeys(_HEART_V1, known["heart"])
    gone = set(class_names("total_v1")) if task == "total" else set()
    numbers = {name: known[name] for name in found if name in known}
    strange = [name for name in found if name not in known and name not in gone]
    notes = [f"{name!r}{nearest(name, known)}" for name in strange[:3]]
    more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
    told = f"no class of TotalSegmentator, left out: {', '.join(notes)}{more}"
    return numbers, (told,) if strange else ()


def names_in_header(path: Path) -> dict[int, str]:
    """Read the classes that version 2 writes into the header of a file of ids."""
    import nibabel as nib

    if not path.name.endswith(NIFTI):
        return {}
    header: Any = nib.load(path).header
    found = [
        match
        for extension in header.extensions
        if isinstance(extension.get_content(), bytes)
        for match in _LABEL.findall(extension.get_content())
    ]
    return {int(key): name.decode(errors="replace").strip() for key, name in found}


def refuse_v1(labels: Real[np.ndarray, "d h w"], hounsfield: Real[np.ndarray, "d h w"]) -> None:
    """Refuse ids of version 1 that are taken for version 2's, where the scan tells.

    Ids 10 to 12 are lobes of the lung in version 2, the pancreas and adrenal glands in version 1;
    15 and 17 are the oesophagus and the thyroid in version 2, lobes of the lung in version 1.

    Raises:
        ValueError: With what to set.
    """
    for ids, air_is_right in ((_LUNG_ONLY_V2, True), (_LUNG_ONLY_V1, False)):
        for number in ids:
            values = hounsfield[labels == number]
            if len(values) >= _FEW_VOXELS and (np.mean(values) < _LUNG_HU) != air_is_right:
                first, second = class_names()[number - 1], class_names("total_v1")[number - 1]
                raise ValueError(
                    f"the voxels of id {number} have {np.mean(values):.0f} HU on average: that is "
                    f"not {first} (version 2 of TotalSegmentator) but {second} (version 1); set "
                    "masks.version=v1, or v2 if you are sure"
                )
