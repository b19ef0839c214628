"""Write a phantom twin of CT-RATE v2: HU in the files, right headers, organ masks beside them.

Tables, names and `ground_truth/` are those of the twin of v1; the volumes lie in
`dataset/{train,valid}_fixed`, TotalSegmentator's masks in `dataset/{train,valid}_mask` (the tree of
the fVLM repository), its decomposed reports in `{desc,conc}_info.json`, and
`metadata/no_chest_train.txt` names a volume that is to be left out.
"""

from pathlib import Path

import numpy as np

from medvlp.phantom.ct_rate import version_writer
from medvlp.phantom.ct_rate_plan import HARD_KINDS, Reconstruction, Session
from medvlp.phantom.ct_rate_session import Layout, WrittenSession, raw_numbers
from medvlp.phantom.nifti_file import write_bytes, write_nifti
from medvlp.phantom.organ_texts import write_organ_texts
from medvlp.phantom.study import PaintedVolume
from medvlp.phantom.totalsegmentator import segment
from medvlp.phantom.twin_parameters import TwinParameters

FORMAT_VERSION = 2  # 2: reports split by organ
_KINDS = (*HARD_KINDS, "raw numbers", "other orientation", "no chest")
_PADDING_HU = -1024


def write_ct_rate_fixed_twin(
    root: str | Path, parameters: TwinParameters, *, num_workers: int = 0
) -> Path:
    """Write the twin; arguments and errors are those of `TwinWriter.build`.

    `root` gets `dataset/`, `ground_truth/` and `twin.json`. Studies are sessions; the held-out ones
    are those of the published "valid" split. Hard cases are those of v1, a volume that was left
    with raw numbers, one stored in another orientation, and one on the list of volumes that show no
    chest.
    """
    layout = Layout("{split}_fixed", store_fixed)
    writer = version_writer(
        "CT-RATE fixed", FORMAT_VERSION, layout, hard_kinds=_KINDS, write_more=_write_organ_texts
    )
    return writer.build(root, parameters, num_workers=num_workers)


def store_fixed(
    path: Path, session: Session, volume: Reconstruction, painted: PaintedVolume
) -> None:
    """Write a volume as v2 has it, and its organ mask before it."""
    affine = volume.grid.affine()
    array = raw_numbers(painted, volume)
    if session.hard_case != "raw numbers":
        intercept = int(volume.scanner["intercept"])
        array = np.maximum(array + np.int16(intercept), np.int16(_PADDING_HU))
    mask = segment(painted.organs)
    if session.hard_case == "other orientation":
        array, mask = array[:, ::-1, ::-1], mask[:, ::-1, ::-1]
        corner = np.asarray([array.shape[2] - 1, array.shape[1] - 1, 0, 1])
        affine = affine @ np.diag([-1.0, -1.0, 1.0, 1.0])
        affine[:3, 3] = (volume.grid.affine() @ corner)[:3]
    dataset, session_folder = path.parents[3], path.parent.relative_to(path.parents[2])
    masks = dataset / f"{session.split}_mask" / session_folder
    masks.mkdir(parents=True, exist_ok=True)
    write_nifti(masks / path.name, mask, affine)
    if session.hard_case == "no chest":
        names = sorted({file.name for file in path.parent.glob("*.nii.gz")} | {path.name})
        lines = [f"{session.split}/{session_folder.as_posix()}/{name}\n" for name in names]
        (dataset / "metadata").mkdir(exist_ok=True)
        listed = dataset / "metadata" / f"no_chest_{session.split}.txt"
        write_bytes(listed, "".join(lines).encode())
    write_nifti(path, array, affine, share=0.6 if volume.truncated else 1.0)


def _write_organ_texts(root: Path, written: list[WrittenSession]) -> None:
    write_organ_texts(root, {entry.session.name: entry.report for entry in written})
