"""The prepare verb, on a twin-like tree and on the real scans at hand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hydra.utils import instantiate

from medvlp import config
from medvlp.data.engine import PreparationError
from medvlp.data.manifest import Manifest
from medvlp.prepare import prepare

SHARED = Path(os.environ.get("MEDVLP_SHARED", Path(__file__).parents[1].parent / "shared"))
CHEST = SHARED / "data" / "ct_chest_pulmonary" / "ct_cropped.nii.gz"
BODY = SHARED / "data" / "ct_body_totalseg" / "example_ct.nii.gz"


def run(*overrides: str) -> Manifest:
    return prepare(config.compose(list(overrides), "prepare"))


def verb(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "medvlp.prepare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(
    ("path", "shape", "orientation"),
    [(CHEST, [56, 153, 183], "SPL"), (BODY, [112, 303, 366], "SAR")],
)
def test_real_scans_through_the_published_chest_recipe(
    tmp_path: Path,
    path: Path,
    shape: list[int],
    orientation: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not path.is_file():
        pytest.skip(f"no real scans at {SHARED}: set MEDVLP_SHARED")
    table = tmp_path / "studies.csv"
    table.write_text(f"study_id,path\nreal,{path.name}\n")
    manifest = run(
        "data=folder",
        f"paths.raw={path.parent}",
        f"data.source.table={table}",
        f"paths.cache={tmp_path / 'cache'}",
    )
    (scan,) = manifest[0]["scans"]
    assert scan["shape"] == shape and scan["raw_orientation"] == orientation
    stored = manifest.cache.read(scan["scan_id"]).astype(np.float32)
    import nibabel as nib

    image = nib.load(path)
    # CT-RATE's storage order: to the left, to the back, upwards; array axes the other way round
    turned = nib.as_closest_canonical(image).get_fdata()[::-1, ::-1].transpose(2, 1, 0)
    factors = [length / raw for length, raw in zip(shape, turned.shape, strict=True)]
    centres = [
        np.clip(((np.arange(n) + 0.5) / f).astype(int), 0, raw - 1)
        for n, f, raw in zip(shape, factors, turned.shape, strict=True)
    ]
    nearest = turned[np.ix_(*centres)]
    assert np.corrcoef(stored.ravel(), nearest.ravel())[0, 1] > 0.93
    flipped = np.corrcoef(stored.ravel(), nearest[:, :, ::-1].ravel())[0, 1]
    assert flipped < 0.9 and np.abs(np.median(stored) - np.median(turned)) < 30
    assert (manifest.folder / "quality.png").stat().st_size > 10_000
    assert f"everything lies in {manifest.folder}" in capsys.readouterr().out


def test_real_organ_masks_are_imported_and_drawn(tmp_path: Path) -> None:
    if not BODY.is_file():
        pytest.skip(f"no real scans at {SHARED}: set MEDVLP_SHARED")
    table = tmp_path / "studies.csv"
    table.write_text(f"study_id,path\nreal,{BODY.name}\n")
    overrides = [
        "data=folder",
        "data/recipe=fvlm_chest_ct",
        f"paths.raw={BODY.parent}",
        f"data.source.table={table}",
        f"paths.cache={tmp_path / 'cache'}",
    ]
    with pytest.raises(PreparationError, match=r"needs anatomy_mask .*masks=import masks_dir"):
        run(*overrides)
    masks = [f"masks_dir={BODY.parent}", "masks.patterns=['example_seg_fast_force_split.nii.gz']"]
    manifest = run(*overrides, "masks=import", *masks)
    (scan,) = manifest[0]["scans"]
    assert scan["anatomy_voxels"]["aorta"] > 10_000 and manifest.fields == ("image", "anatomy_mask")
    mask = manifest.cache.read(scan["scan_id"], field="anatomy_mask")
    image = manifest.cache.read(scan["scan_id"])
    assert mask.shape == image.shape
    outlined = plt.imread(manifest.folder / "quality.png")[..., :3]
    assert (outlined.max(axis=-1) - outlined.min(axis=-1) > 0.2).sum() > 100  # coloured


def small_twin(folder: Path) -> list[str]:
    return [
        "data=phantom/ct_rate_fixed",
        "data.source.num_train=6",
        "data.source.num_test=3",
        "data.source.hard_cases=false",
        f"paths.data={folder}",
        "montage_scans=0",
    ]


def test_a_preview_shows_one_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    run(*small_twin(tmp_path), "preview=true")
    told = capsys.readouterr().out
    assert "one batch of the" in told and ", 1, 48, 48, 48)" in told


@pytest.mark.slow
def test_dask_prepares_what_one_process_prepares(tmp_path: Path) -> None:
    here = run(*small_twin(tmp_path), "engine.num_workers=0")
    other = f"paths.cache={tmp_path / 'other'}"
    there = run(*small_twin(tmp_path), other, "engine=dask", "engine.num_workers=2")
    assert contents(there.folder) == contents(here.folder)


def test_the_engines_are_chosen_by_name() -> None:
    for name, kind in {"local": "LocalEngine", "dask": "DaskEngine", "slurm": "DaskEngine"}.items():
        for config_name in ("prepare", "train"):
            tree = config.resolve(config.compose([f"engine={name}"], config_name))
            assert tree["data"]["engine"] == tree["engine"]
            config.check_keys(tree["engine"])
            assert type(instantiate(tree["engine"], _convert_="all")).__name__ == kind


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_help_is_quick() -> None:
    before = os.times().children_user
    result = verb("--help")
    assert result.returncode == 0
    assert re.search(r"data: .*\bct_rate,.*\bfolder\b", result.stdout)
    assert os.times().children_user - before < 2  # processor seconds: the machine may be shared


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data=ct_rat"], "did you mean ct_rate"),
        (["data.source.rot=x"], "did you mean data.source.root"),
        (["data=ct_rate"], "paths.raw"),
        pytest.param(
            ["data=ct_rate", "paths.raw=absent", "paths.cache=/dev/null/x"],
            "cannot write to",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_mistakes_are_told_without_a_traceback(arguments: list[str], message: str) -> None:
    result = verb(*arguments)
    assert result.returncode == 1
    assert message in result.stderr and "Traceback" not in result.stderr


def test_a_missing_data_set_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Request access"):
        run("data=ct_rate", f"paths.raw={tmp_path / 'absent'}", f"paths.cache={tmp_path}")
