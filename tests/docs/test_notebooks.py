"""Notebooks run from top to bottom, on real scans or phantoms and models of a few steps."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.smoke.test_phantom_hcl_al import SMALL as HCL_AL
from tests.smoke.test_phantom_hsenet import SMALL as HSENET

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("MEDVLP_SHARED", ROOT.parent / "shared")).resolve()
SHORT = {
    "hlip": "data.source.num_train=24 data.source.num_valid=8 data.source.shape=[32,32,32] "
    "data.splits.val_fraction=0.3 data.batch_size=8 trainer.max_steps=2",
    "unimed_clip": "unimed_twin.training.num_train=200 unimed_twin.training.num_test=20 "
    "unimed_twin.validation.num_test=1 unimed_twin.test.num_test=2 data.batch_size=32 "
    "trainer.max_steps=2 trainer.check_val_every_n_epoch=1",
    "hsenet": " ".join(HSENET),
    "hcl_al": " ".join(HCL_AL),
}
PHANTOMS_ALONE = ["hsenet", "hcl_al"]
PROBE = "--shots 1 --fractions --draws 2 --resamples 50"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem
)
def test_notebook_runs(notebook, tmp_path, monkeypatch):
    if notebook.stem not in PHANTOMS_ALONE and not (SHARED / "data").is_dir():
        pytest.skip(f"there is no {SHARED / 'data'}")
    monkeypatch.setenv("MEDVLP_SHARED", str(SHARED))
    monkeypatch.setenv("MEDVLP_NOTEBOOK_WORK", str(tmp_path))
    monkeypatch.setenv("MEDVLP_NOTEBOOK_TRAIN", SHORT.get(notebook.stem, ""))
    monkeypatch.setenv("MEDVLP_NOTEBOOK_PROBE", PROBE)
    content = nbformat.read(notebook, as_version=4)
    NotebookClient(
        content, timeout=500, resources={"metadata": {"path": str(notebook.parent)}}
    ).execute()
