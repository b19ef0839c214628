"""From a checkpoint and labelled data to the files of a probe."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlp import linear_probe
from medvlp.evaluation.results import Results
from medvlp.phantom.image_painter import FINDINGS, paint
from medvlp.prediction.embeddings import Embedder

MODALITIES = ("xray", "fundus", "pathology")
SPLITS = ("train", "val", "test")
BRIEF = ["--fractions", "0.2", "--shots", "2", "--draws", "2", "--resamples", "30"]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Paint 20 images of each of three modalities, of 20 patients, with a table and splits."""
    root = tmp_path_factory.mktemp("painted")
    rows = []
    for number in range(60):
        modality = MODALITIES[number % 3]
        pixels = paint(modality, FINDINGS[modality][0], np.random.default_rng(number), size=32)
        Image.fromarray(pixels).save(root / f"{number}.png")
        split = ("train", "train", "val", "test", "test")[number // 3 % 5]
        one_hot = {name: int(name == modality) for name in MODALITIES}
        rows.append(
            {"study_id": f"s{number}", "path": f"{number}.png", "patient_id": f"p{number // 3}"}
            | {"split": split, "sex": "MF"[number % 2], **one_hot}
        )
    with (root / "images.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


def data_of(images: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> list[str]:
    one = "{{_target_: medvlp.data.image_sets.FileImages, source: '${{images}}', split: {}}}"
    sets = {split: one.format(split) if split in splits else "" for split in SPLITS}
    return [
        *("data=images", f"paths.raw={images}", f"paths.cache={images}/cache"),
        "data.recipe.size=32",
        "data.recipe.mean=[0.5,0.5,0.5]",
        "data.recipe.std=[0.25,0.25,0.25]",
        f"images.label_columns=[{','.join(MODALITIES)}]",
        *(f"data.{split}=[{text}]" for split, text in sets.items()),
    ]


def run(*arguments: object) -> None:
    linear_probe.main([str(argument) for argument in arguments])


def test_a_probe_is_written_read_back_and_embeds_once(
    image_checkpoint, images, tmp_path, capsys, monkeypatch
):
    data = data_of(images)
    out = tmp_path / "out"
    run("--ckpt", image_checkpoint, *BRIEF, "--out", out, *data)
    printed = " ".join(capsys.readouterr().out.split())
    assert "| all | 24 |" in printed and "| 2 shots | 6 |" in printed
    assert printed.endswith(f"everything lies in {out}")
    results = Results.from_json(out / "results.json")
    assert results.protocol == "linear_probe/image_features/choice"
    assert "the data's own splits" in results.threshold_rule and results.num_samples == 24
    assert results.provenance.checkpoint_hash and results.num_patients == 8
    assert [row.name for row in results.macros] == ["all", "20 percent", "2 shots"]
    # painted modalities differ so much that a random tower tells them apart
    assert results.macros[0].figures["accuracy"].value > 0.8
    assert (out / "curve.png").stat().st_size > 5000 and (out / "roc.png").is_file()
    assert len((out / "predictions.csv").read_text().splitlines()) == 25
    assert len(list((images / "cache" / "embeddings").iterdir())) == 3
    monkeypatch.setattr(Embedder, "_embed", None)
    run("--ckpt", image_checkpoint, *BRIEF, "--out", tmp_path / "again", *data)
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert again == json.loads((out / "results.json").read_text())


def test_one_split_is_divided_by_patient_and_other_facts_can_be_the_target(
    image_checkpoint, images, tmp_path
):
    data = data_of(images, ("train",))
    out = tmp_path / "out"
    asked = ["--features", "image_embedding", "--target", "sex", "--per", "modality"]
    run("--ckpt", image_checkpoint, *BRIEF, *asked, "--out", out, *data)
    results = Results.from_json(out / "dx" / "results.json")
    assert results.protocol == "linear_probe/DX/image_embedding/choice"
    assert "divided by patient: 60% train, 20% val, 20% test" in results.threshold_rule
    assert [one.name for one in results.findings] == ["M"] and results.num_patients == 2


def test_a_probe_without_classes_or_data_is_refused(image_checkpoint, images, tmp_path):
    ours = ["--ckpt", image_checkpoint, "--out", tmp_path / "out"]
    data = data_of(images)
    with pytest.raises(SystemExit, match=r"--target age: .*known of them is modality, sex"):
        run(*ours, *data, "--target", "age")
    with pytest.raises(SystemExit, match="--per place: no sample has it"):
        run(*ours, *data, "--per", "place")
    with pytest.raises(SystemExit, match=r"mandatory values are missing: paths\.raw"):
        run(*ours, "data=images")
    with pytest.raises(SystemExit, match="shots are 0"):
        run(*ours, *data, "--shots", 0)


@pytest.mark.slow
def test_studies_of_volumes_are_probed_finding_by_finding(chest_checkpoint, tmp_path):
    data = ["data=phantom/ct_rate", "data.source.num_train=60", "data.source.num_valid=40"]
    data += ["data.source.shape=[24,24,24]", "data.recipe.size=[24,24,24]"]
    data += [f"paths.raw={tmp_path}/twin", f"paths.cache={tmp_path}/cache"]
    out = tmp_path / "out"
    run("--ckpt", chest_checkpoint, *BRIEF, "--out", out, "data.splits.val_fraction=0.3", *data)
    results = Results.from_json(out / "results.json")
    assert results.protocol == "linear_probe/image_features/findings"
    assert len(results.findings) + len(results.skipped) == 18
