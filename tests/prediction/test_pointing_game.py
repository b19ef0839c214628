"""The pointing game on a twin of a few studies, from the files to the table."""

import json
from pathlib import Path

import pytest
import torch

from medvlp import pointing_game
from medvlp.callbacks.provenance import CHECKPOINT_KEY
from medvlp.prediction.painted_truth import PaintedTwin, strongest_places
from medvlp.prediction.predictor import load_predictor

from .conftest import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A random model whose tree names a prepared twin of four held-out studies."""
    from hydra.utils import instantiate

    from medvlp.data.preparation import prepare_dataset

    folder = tmp_path_factory.mktemp("game")
    changes = {
        "paths.raw": str(folder / "raw"),
        "paths.cache": str(folder / "cache"),
        "data.source.num_train": 2,
        "data.source.num_valid": 4,
        "data.source.shape": [32, 32, 32],
        "data.source.num_workers": 0,
    }
    path = write_checkpoint(folder / "game.ckpt", changes)
    tree = torch.load(path, weights_only=True)[CHECKPOINT_KEY]["config"]
    source, recipe = (
        instantiate(tree["data"][key], _convert_="all") for key in ("source", "recipe")
    )
    engine = instantiate(tree["engine"] | {"num_workers": 0}, _convert_="all")
    prepare_dataset(source, recipe, cache_dir=folder / "cache", engine=engine)
    return path


def test_the_table_has_rows_of_groups_and_findings(checkpoint, tmp_path, capsys):
    pointing_game.main(["--ckpt", str(checkpoint), "--out", str(tmp_path)])
    assert f"everything lies in {tmp_path}" in " ".join(capsys.readouterr().out.split())
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["protocol"] == "pointing_game/phantom_ct_rate/volume"
    assert results["macros"][0]["name"] == "all"
    assert (tmp_path / "table.md").read_text().count("\n") == 2 + len(results["macros"])
    for row in results["macros"]:
        assert 0 <= row["figures"]["hit_rate"]["value"] <= 1
        assert 0 < row["figures"]["chance"]["value"] < 1


def test_a_map_that_is_the_mask_always_hits(checkpoint):
    """Ground truth in place of a map: places and masks are on the same grid."""
    predictor = load_predictor(checkpoint)
    twin = PaintedTwin(predictor.data, predictor.recipe)
    number = twin.id_of["Cardiomegaly"]
    tried = 0
    for row in twin.rows():
        for scans in twin.samples(row, several=False):
            mask = scans[0].findings == number
            if not mask.any():
                continue
            shares = _shares(mask, scans[0].grid, (10, 10, 10))
            (place,) = strongest_places(shares[None, None], scans)
            assert place[1] is not None and mask[place[1]]
            tried += 1
            break
    assert tried


def test_a_data_set_without_masks_is_refused(checkpoint):
    predictor = load_predictor(checkpoint)
    data = dict(predictor.data)
    data["source"] = {"_target_": "medvlp.data.ct_rate.CTRate", "root": "none"}
    with pytest.raises(ValueError, match="only twins have; the checkpoint's data set is ct_rate"):
        PaintedTwin(data, predictor.recipe)


def _shares(mask, grid, size) -> torch.Tensor:
    """Count, for each token, how many of the nearest voxels around its centre are in the mask."""
    shares = torch.zeros(size)
    for token in torch.cartesian_prod(*[torch.arange(n) for n in size]).tolist():
        at = grid.to_scan_index(token, size)
        if at is not None:
            around = tuple(slice(max(0, n - 1), n + 2) for n in at)
            shares[tuple(token)] = float(mask[around].mean()) + float(mask[at])
    return shares
