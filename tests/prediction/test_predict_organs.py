"""One CT scan with organ masks, asked of a model of organs."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from medvlp import config, predict
from medvlp.callbacks.provenance import CHECKPOINT_KEY
from medvlp.data.recipe import recipe_hash
from medvlp.prediction.loaded_model import load_model

from .conftest import save_nifti

LUNG, HEART, AORTA, LIVER = 10, 51, 52, 5  # TotalSegmentator 2
TINY = {
    "model.vision.patch_embed.patch_size": [4, 4, 4],
    "model.vision.patch_embed.embed_dim": 16,
    "model.vision.grid": [3, 4, 4],
    "model.vision.depth": 2,
    "model.vision.num_heads": 2,
    "model.vision.taps": [1],
    "model.pooling.dim": 16,
    "model.pooling.embed_dim": 8,
    "model.pooling.num_heads": 2,
    "model.text_projection.in_features": 96,
    "model.text_projection.out_features": 8,
    "data.recipe.size": [12, 16, 16],
    "data.recipe.spacing_mm": [9.0, 8.0, 8.0],
    "data.recipe.margin": [1, 1, 1],
    "system.window": [12, 16, 16],
    "system.multiple": [4, 4, 4],
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    small = config.compose(["experiment=phantom/hlip_ctrate", "paths.run=none"])
    cfg = config.compose(["experiment=fvlm_ctrate", "paths.run=none", "paths.raw=none"])
    for key, value in TINY.items():
        OmegaConf.update(cfg, key, value, merge=False)
    for key in ("model.text", "tokenizer"):
        node = OmegaConf.to_container(OmegaConf.select(small, key), resolve=True)
        OmegaConf.update(cfg, key, node, merge=False)
    tree = config.resolve(cfg)
    torch.manual_seed(0)
    model = instantiate(tree["model"], _convert_="all")
    fields = instantiate(tree["data"]["recipe"], _convert_="all").describe()
    content = {
        "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        "pytorch-lightning_version": "2.6.0",
        CHECKPOINT_KEY: {
            "config": tree,
            "source": config.plain(cfg),
            "recipe": {"hash": recipe_hash(fields), "fields": fields},
            "commit": "abc",
        },
    }
    path = tmp_path_factory.mktemp("organs") / "organs.ckpt"
    torch.save(content, path)
    return path


@pytest.fixture
def study(tmp_path):
    """A scan, and masks without an esophagus."""
    array = np.full((14, 20, 20), -900, np.int16)
    mask = np.zeros_like(array, np.uint8)
    for k, label in enumerate((LUNG, HEART, AORTA, LIVER)):
        mask[3 * k + 1 : 3 * k + 4, 4:14, 4 + k : 12 + k] = label
    array[(mask > 0) & (mask != LUNG)] = 40
    spacing = (9.0, 8.0, 8.0)
    scan = save_nifti(tmp_path / "doe_jane.nii.gz", array, spacing)
    return scan, save_nifti(tmp_path / "masks.nii.gz", mask, spacing)


def run(checkpoint, study, out, *options: str) -> dict:
    scan, masks = study
    arguments = [scan, "--ckpt", checkpoint, "--masks", masks, "--out", out, *options]
    predict.main([str(argument) for argument in arguments])
    return json.loads((out / "prediction.json").read_text())


def refusal(*arguments: object) -> str:
    with pytest.raises(SystemExit) as error:
        predict.main([str(argument) for argument in arguments])
    return str(error.value)


def test_findings_are_scored_in_their_organs(checkpoint, study, tmp_path, capsys):
    tree = run(checkpoint, study, tmp_path / "out", "--prompt", "Emphysema.")
    printed = " ".join(capsys.readouterr().out.split())
    scores = {one["name"]: one["score"] for one in tree["findings"]}
    assert len(scores) == 16 and scores["Hiatal hernia"] is None
    assert all(0 < score < 1 for name, score in scores.items() if name != "Hiatal hernia")
    assert [one["voxels"] > 0 for one in tree["organs"]] == [True, True, False, True]
    assert "the scan does not show esophagus" in printed and "not a diagnosis" in printed
    embedding = np.load(tmp_path / "out" / "organ_embedding.npy")
    assert np.isnan(embedding[2]).all()
    np.testing.assert_allclose(np.linalg.norm(embedding[[0, 1, 3]], axis=1), 1, atol=1e-5)
    similarity = tree["prompts"][0]["similarity"]
    model = load_model(checkpoint).model
    heart = next(one for one in tree["findings"] if one["name"] == "Cardiomegaly")
    assert (heart["organ"], heart["positive"]) == ("heart", ["Cardiomegaly."])
    assert similarity["esophagus"] is None and set(similarity) == set(model.organs)
    assert "doe" not in (tmp_path / "out" / "prediction.json").read_text()


def test_findings_can_be_chosen(checkpoint, study, tmp_path):
    tree = run(checkpoint, study, tmp_path / "out", "--findings", "Emphysema", "Cardiomegaly")
    assert [one["name"] for one in tree["findings"]] == ["Emphysema", "Cardiomegaly"]


def test_maps_lie_in_the_organs_of_what_is_asked(checkpoint, study, tmp_path):
    out = tmp_path / "out"
    asked = ("--findings", "Emphysema", "Cardiomegaly", "Hiatal hernia", "--prompt", "A mass.")
    tree = run(checkpoint, study, out, "--map", *asked, "--set", "system.compat=published")
    expected = {one["name"]: (one["organ"], one["score"]) for one in tree["findings"]}
    (said,) = tree["prompts"]
    shown = {organ: value for organ, value in said["similarity"].items() if value is not None}
    best = max(shown, key=shown.__getitem__)
    expected[f"prompt 1 {best}: A mass."] = (best, shown[best])
    del expected["Hiatal hernia"]  # no esophagus
    drawn = {one["finding"]: (one["organ"], one["score"]) for one in tree["maps"]}
    assert drawn == {name: (organ, pytest.approx(x)) for name, (organ, x) in expected.items()}
    for one in tree["maps"]:
        volume = nib.load(out / one["volume"]).get_fdata()
        assert volume.max() > 0 and (out / one["overlay"]).exists()


def test_the_highest_findings_are_mapped_where_none_is_named(checkpoint, study, tmp_path):
    tree = run(checkpoint, study, tmp_path / "out", "--map")
    scores = sorted((one["score"] for one in tree["findings"] if one["score"]), reverse=True)
    assert [one["score"] for one in tree["maps"]] == pytest.approx(scores[:3])


def test_bad_input_is_refused_with_advice(checkpoint, study, tmp_path):
    scan, masks = study
    common = (scan, "--ckpt", checkpoint, "--out", tmp_path / "out")
    assert "needs their masks: --masks FILE" in refusal(*common)
    assert "no organ masks at" in refusal(*common, "--masks", tmp_path / "none.nii.gz")
    given = (*common, "--masks", masks)
    assert "no finding Fracture in prompt set fvlm" in refusal(*given, "--findings", "Fracture")
    assert "one scan with its masks" in refusal(scan, *given)
    assert "too few slices: 14, at least 15" in refusal(*given, "--min-slices", 15)
    liver = save_nifti(tmp_path / "liver.nii.gz", np.full((14, 20, 20), 5, np.uint8), (9, 8, 8))
    assert "liver.nii.gz" in refusal(*common, "--masks", liver)
    with pytest.raises(ValueError, match=r"organs\.ckpt is a model of organs"):
        _ = load_model(checkpoint).two_tower
