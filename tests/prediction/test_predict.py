"""One study from files to findings and maps."""

import json
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from pydicom.uid import generate_uid

from medvlp import predict
from medvlp.checkpoints.files import open_weights
from medvlp.evaluation.activation import activation_maps
from medvlp.evaluation.zero_shot import ZeroShotClassification
from medvlp.prediction.predictor import load_predictor
from medvlp.prediction.series import Wanted, find_series
from medvlp.prediction.study import Stated, read_study
from tests.data.readers.dicom_writer import set_all, write_series

from .conftest import chest, save_nifti


def run(capsys, *arguments: object) -> str:
    """Run the verb; return what it printed."""
    predict.main([str(argument) for argument in arguments])
    return " ".join(capsys.readouterr().out.split())


def refusal(*arguments: object) -> str:
    with pytest.raises(SystemExit) as error:
        predict.main([str(argument) for argument in arguments])
    return str(error.value)


def test_a_nifti_file_gives_findings_an_embedding_and_maps(
    chest_checkpoint, chest_scan, tmp_path, capsys
):
    out = tmp_path / "out"
    printed = run(capsys, chest_scan, "--ckpt", chest_checkpoint, "--map", "--out", out)
    assert printed.endswith(f"everything lies in {out}")
    tree = json.loads((out / "prediction.json").read_text())
    assert len(tree["findings"]) == 18
    assert all(0 <= one["score"] <= 1 and one["rule"] == "pair" for one in tree["findings"])
    assert tree["recipe"]["size"] == [24, 24, 24] and tree["checkpoint"]["step"] == 3
    assert np.linalg.norm(np.load(out / "embedding.npy")) == pytest.approx(1, abs=1e-5)
    best = sorted(tree["findings"], key=lambda one: -one["score"])[:3]
    assert [one["finding"] for one in tree["maps"]] == [one["name"] for one in best]
    original = nib.load(chest_scan)
    for one in tree["maps"]:
        volume = nib.load(out / one["volumes"][0])
        assert volume.shape == original.shape
        np.testing.assert_allclose(volume.affine, original.affine, atol=1e-4)
        values = volume.get_fdata()
        assert values.min() >= 0 and values[tuple(one["maximum"]["voxel_ijk"])] > 0.6 * values.max()
        assert (out / one["overlay"]).stat().st_size > 1000
        assert (out / one["slices"]).stat().st_size > 1000


def test_probabilities_are_those_of_the_evaluation(chest_checkpoint, chest_scan, tmp_path, capsys):
    out = tmp_path / "out"
    run(capsys, chest_scan, "--ckpt", chest_checkpoint, "--out", out)
    predictor = load_predictor(chest_checkpoint)
    evaluation = predictor.evaluations["phantom_ct_rate"]
    assert isinstance(evaluation, ZeroShotClassification)
    found = find_series([chest_scan])
    wanted, stated = Wanted("CT", 8), Stated("CT")
    (scan,), _ = read_study(found, predictor.recipe, stated, wanted=wanted, several=False)
    with torch.no_grad():
        model = predictor.model
        evaluation.prepare(model.embed_text, model.logit_scale, torch.device("cpu"))
        batch = {"sample_id": ["a"], "patient_id": ["a"], "recipe_hash": "r"}
        embedding = model.embed_image(scan.image[None], torch.tensor([1]))
        evaluation.update(embedding, {**batch, "image": scan.image[None]})
    scores = [one["score"] for one in json.loads((out / "prediction.json").read_text())["findings"]]
    np.testing.assert_allclose(scores, evaluation.rows()[0]["scores"], atol=1e-6)


def test_a_dicom_study_tells_what_was_used_and_nothing_of_the_patient(
    chest_checkpoint, tmp_path, capsys
):
    study, raw = tmp_path / "study", (chest() + 1024).astype(np.uint16)
    big = set_all(SeriesNumber=2, PixelSpacing=[8.0, 8.0], SeriesDescription="Doe^Jane lung")
    write_series(study, raw, step=(0, 0, 9.0), change=big, series=generate_uid())
    scout = set_all(SeriesNumber=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(study, raw[:2], change=scout, prefix="t", series=generate_uid())
    second = set_all(SeriesNumber=3, PixelSpacing=[8.0, 8.0])
    write_series(
        study, raw[:12], step=(0, 0, 9.0), change=second, prefix="u", series=generate_uid()
    )
    out = tmp_path / "out"
    printed = run(capsys, study, "--ckpt", chest_checkpoint, "--out", out, "--map")
    assert "left out: localizer" in printed and "used" in printed
    tree = json.loads((out / "prediction.json").read_text())
    assert [scan["series_number"] for scan in tree["scans"]] == [2]
    reasons = {one["series_number"]: one["reason"] for one in tree["left_out"]}
    assert reasons[1] == "localizer"
    assert reasons[3].startswith("the model takes one scan of a study")
    for file in out.iterdir():
        content = file.read_bytes()
        assert not any(word in content for word in (b"Doe", b"4711", b"1970", b"Jane"))


def test_a_study_of_one_and_of_three_scans_on_a_multi_scan_model(
    brain_checkpoint, tmp_path, capsys
):
    rng = np.random.default_rng(0)
    names = [f"sequence{number}.nii.gz" for number in range(3)]
    for name in names:
        values = rng.integers(0, 900, (14, 20, 18)).astype(np.int16)
        save_nifti(tmp_path / name, values, (6.0, 1.0, 1.0))
    out = tmp_path / "one"
    one = run(capsys, tmp_path / names[0], "--ckpt", brain_checkpoint, "--out", out)
    assert one.count("note: the model was made for studies of several scans") == 1
    out = tmp_path / "three"
    scans = [tmp_path / name for name in names]
    asked = ["--findings", "Pleural effusion", "Something new", "--map"]
    printed = run(capsys, *scans, "--ckpt", brain_checkpoint, "--out", out, *asked)
    assert "note:" not in printed
    tree = json.loads((out / "prediction.json").read_text())
    assert len(tree["scans"]) == 3 and tree["scans"][0]["modality"] == "MR"
    assert [found["source"] for found in tree["findings"]][1] == "free words"
    assert tree["findings"][1]["negative"] == ["The volume shows: Not something new."]
    assert [found["method"] for found in tree["maps"]] == ["attention", "attention"]
    assert len(tree["maps"][0]["volumes"]) == 3


def test_whole_prompts_are_scored_by_similarity(chest_checkpoint, chest_scan, tmp_path, capsys):
    out = tmp_path / "out"
    prompts = ["--prompt", "The volume shows: Lung nodule.", "--prompt", "Nothing."]
    printed = run(capsys, chest_scan, "--ckpt", chest_checkpoint, "--out", out, *prompts)
    assert printed.count("(similarity)") == 2
    assert (out / "prediction.json").read_text().count('"similarity"') == 2


def test_published_weights_need_an_experiment(chest_checkpoint, chest_scan, tmp_path, capsys):
    bare = tmp_path / "bare.pt"
    torch.save(open_weights(chest_checkpoint).tensors, bare)
    assert "carries no preprocessing recipe" in refusal(chest_scan, "--ckpt", bare)
    out = tmp_path / "out"
    named = ["--experiment", "phantom/hlip_ctrate", "--set", "data.recipe.size=[24,24,24]"]
    run(capsys, chest_scan, "--ckpt", bare, "--out", out, *named)
    run(capsys, chest_scan, "--ckpt", chest_checkpoint, "--out", tmp_path / "ours")
    first, second = (
        json.loads((folder / "prediction.json").read_text())["findings"]
        for folder in (out, tmp_path / "ours")
    )
    assert first == second


def test_another_recipe_than_the_checkpoint_s_is_refused_with_both(chest_checkpoint, chest_scan):
    changed = ["--set", "data.recipe.window_hu=[-500.0,500.0]"]
    message = refusal(chest_scan, "--ckpt", chest_checkpoint, *changed)
    assert "two preprocessing recipes differ" in message
    assert "[-500.0, 500.0]" in message and "[-1000.0, 600.0]" in message
    named = ["--experiment", "phantom/hlip_ctrate"]
    message = refusal(chest_scan, "--ckpt", chest_checkpoint, *named)
    assert "size <-- differs" in message and "[48, 48, 48]" in message


def test_scans_that_cannot_be_used_are_told_in_one_line(chest_checkpoint, chest_scan, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(chest_scan.read_bytes()[:500])
    message = refusal(broken, "--ckpt", chest_checkpoint)
    assert message.startswith("medvlp: no scan can be used: broken.nii.gz: ")
    raw = save_nifti(tmp_path / "raw.nii.gz", chest() + 1024, (9.0, 8.0, 8.0))
    assert "rescale intercept is missing" in refusal(raw, "--ckpt", chest_checkpoint)
    thin = save_nifti(tmp_path / "thin.nii.gz", chest((4, 28, 26)), (9.0, 8.0, 8.0))
    assert "too few slices: 4" in refusal(thin, "--ckpt", chest_checkpoint)
    (tmp_path / "empty").mkdir()
    assert "holds no scan" in refusal(tmp_path / "empty", "--ckpt", chest_checkpoint)


def test_a_broken_scan_beside_a_good_one_is_left_out(
    chest_checkpoint, chest_scan, tmp_path, capsys
):
    folder = tmp_path / "study"
    folder.mkdir()
    shutil.copy(chest_scan, folder / "doe_jane.nii.gz")
    (folder / "broken_jane.nii.gz").write_bytes(chest_scan.read_bytes()[:500])
    out = tmp_path / "out"
    printed = run(capsys, folder, "--ckpt", chest_checkpoint, "--out", out)
    assert "left out:" in printed
    tree = json.loads((out / "prediction.json").read_text())
    assert len(tree["scans"]) == 1 and len(tree["left_out"]) == 1
    assert "jane" not in (out / "prediction.json").read_text()


def test_a_table_s_rescale_rule_can_be_stated(chest_checkpoint, chest_scan, tmp_path, capsys):
    raw = save_nifti(tmp_path / "raw.nii.gz", chest() + 1024, (9.0, 8.0, 8.0))
    stated = ["--rescale", "1", "-1024"]
    run(capsys, raw, "--ckpt", chest_checkpoint, "--out", tmp_path / "a", *stated)
    run(capsys, chest_scan, "--ckpt", chest_checkpoint, "--out", tmp_path / "b")
    first, second = (np.load(tmp_path / name / "embedding.npy") for name in "ab")
    np.testing.assert_array_equal(first, second)


def test_empty_prompts_unknown_evaluations_and_missing_checkpoints(
    chest_checkpoint, chest_scan, tmp_path
):
    ours = [chest_scan, "--ckpt", chest_checkpoint]
    assert "a finding or prompt is empty" in refusal(*ours, "--prompt", " ")
    assert "a finding or prompt is empty" in refusal(*ours, "--findings", "")
    message = refusal(*ours, "--evaluation", "other")
    assert "no evaluation 'other'" in message and "phantom_ct_rate" in message
    assert "no weight file at" in refusal(chest_scan, "--ckpt", tmp_path / "absent.ckpt")


def test_help_answers_without_torch():
    code = "import sys, medvlp.predict; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_maps_are_those_of_the_library(chest_checkpoint, chest_scan, tmp_path, capsys):
    out = tmp_path / "out"
    asked = ["--findings", "Cardiomegaly", "--map"]
    run(capsys, chest_scan, "--ckpt", chest_checkpoint, "--out", out, *asked)
    predictor = load_predictor(chest_checkpoint)
    wanted = Wanted("CT", 8)
    (scan,), _ = read_study(
        find_series([chest_scan]), predictor.recipe, Stated("CT"), wanted=wanted, several=False
    )
    tokens = predictor.tokenizer(["The volume shows: Cardiomegaly."])
    with torch.no_grad():
        text = predictor.model.embed_text(tokens)
    found = activation_maps(predictor.model, scan.image[None], text)
    (written,) = json.loads((out / "prediction.json").read_text())["maps"]
    assert written["largest"] == pytest.approx(float(found.maps.max()), rel=1e-4)
