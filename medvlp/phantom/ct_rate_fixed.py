"""Write a phantom twin of CT-RATE v2: HU in the files, right headers, organ masks beside them.

Tables, names and `ground_truth/` are those of the twin of v1; the volumes lie in
`dataset/{train,valid}_fixed`, TotalSegmentator's masks in `dataset/{train,valid}_mask` (the tree of
the fVLM repository), and `metadata/no_chest_train.txt` names a volume that is to be left out.
"""

from pathlib import Path

import numpy as np

from medvlp.phantom.chest_twin import ChestTwin
from medvlp.phantom.ct_rate import write_version
from medvlp.phantom.ct_rate_plan import HARD_KINDS, Reconstruction, Session, TwinParameters
from medvlp.phantom.ct_rate_session import Layout, raw_numbers
from medvlp.phantom.nifti_file import write_bytes, write_nifti
from medvlp.phantom.study import PaintedVolume
from medvlp.phantom.totalsegmentator import segment
from medvlp.types import Size3D

FORMAT_VERSION = 1
_KINDS = (*HARD_KINDS, "raw numbers", "other orientation", "no chest")
_PADDING_HU = -1024


def write_ct_rate_fixed_twin(
    root: str | Path,
    *,
    num_train: int,
    num_test: int,
    seed: int = 0,
    shape: Size3D = (48, 56, 56),
    num_workers: int = 0,
    hard_cases: bool = False,
    prevalence: float = 0.3,
) -> Path:
    """Write the twin, or finish one that was interrupted; a finished one is left as it is.

    Args:
        root: Gets `dataset/`, `ground_truth/` and `twin.json`.
        num_train: Training sessions.
        num_test: Sessions of the published "valid" split.
        seed: Of everything.
        shape: Typical voxels along z, y, x; every volume differs a little.
        num_workers: Processes; 0 writes in this one.
        hard_cases: Add those of v1, a volume that was left with raw numbers, one stored in
            another orientation, and one on the list of volumes that show no chest.
        prevalence: Share of the sessions with each finding.

    Raises:
        ValueError: If a parameter is out of range, or `root` holds something else.
    """
    parameters = TwinParameters(num_train, num_test, seed, shape, prevalence, hard_cases)
    twin = ChestTwin(Path(root), "CT-RATE fixed", FORMAT_VERSION, parameters, _KINDS)
    return write_version(twin, Layout("{split}_fixed", store_fixed), num_workers)


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
