"""Images and texts to probabilities, from Python and by `medvlp.predict`."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from medvlp import predict
from medvlp.data.readers.image2d import read_image
from medvlp.prediction.expected_scores import ExpectedScores
from medvlp.prediction.image_classifier import ImageClassifier, prompts_of
from medvlp.prediction.image_scores import ImageScores
from medvlp.prediction.loaded_model import load_model
from tests.checkpoints.synthetic import (
    TEXT,
    make_unimed_clip,
    published_unimed_clip,
    write_released,
)

TEXTS = ["Pleural effusion.", "No nodule.", "Cardiomegaly and effusion."]
REAL = (
    Path(os.environ.get("MEDVLP_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
    / "data"
    / "images_2d"
)


@pytest.fixture(scope="module")
def model(image_checkpoint) -> ImageClassifier:
    return ImageClassifier.load(image_checkpoint, device="cpu")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Write one image of each kind that the field has, a damaged one, and a table."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    colour, grey = Image.fromarray(values), Image.fromarray(values[..., 0])
    colour.save(folder / "colour.png")
    grey.save(folder / "grey.jpg")
    colour.convert("CMYK").save(folder / "cmyk.tiff")
    colour.convert("P").save(folder / "palette.bmp")
    Image.fromarray(values[..., 0].astype(np.uint16) * 200).save(folder / "deep" / "deep.png")
    (folder / "broken.png").write_bytes((folder / "colour.png").read_bytes()[:400])
    (folder / "table.csv").write_text("a,b\n")
    (folder / ".hidden.png").write_bytes(b"x")
    return folder


def expected(model: ImageClassifier, path: Path, scoring: str) -> torch.Tensor:
    """Follow the published quick start, written out."""
    image = model.recipe.finish(model.recipe.evaluation_input(read_image(path).image))[None]
    with torch.no_grad():
        features = model.model.image_projection(model.model.vision(image, torch.tensor([1])))
        texts = torch.cat([model.model.embed_text(model.tokenizer([text])) for text in TEXTS])
        normalised = features / features.norm(dim=-1, keepdim=True)
        scale = model.model.logit_scale.exp()
    logits = {
        "temperature": scale * normalised @ texts.T,
        "raw_image": features @ texts.T,
        "cosine": normalised @ texts.T,
    }[scoring]
    return logits if scoring == "cosine" else logits.softmax(dim=-1)


@pytest.mark.parametrize("scoring", ["temperature", "raw_image", "cosine"])
def test_scores_are_those_of_the_published_quick_start(model, folder, scoring):
    paths = [folder / "colour.png", folder / "grey.jpg", folder / "cmyk.tiff"]
    result = model(paths, TEXTS, scoring=scoring, batch_size=2)
    assert result.table.shape == (3, 3) and list(result.table.columns) == TEXTS
    for path, row in zip(paths, result.scores, strict=True):
        wanted = expected(model, path, scoring)[0].numpy()
        np.testing.assert_allclose(row, wanted, atol=2e-6)
        assert result.best[str(path)] == TEXTS[int(wanted.argmax())]
    np.testing.assert_allclose(np.linalg.norm(result.embeddings, axis=1), 1, atol=1e-5)


def test_every_kind_of_image_is_read_and_the_broken_one_named(model, folder):
    result = model(folder, TEXTS)
    names = [Path(name).relative_to(folder).as_posix() for name in result.images]
    assert names == ["cmyk.tiff", "colour.png", "grey.jpg", "palette.bmp", "deep/deep.png"]
    ((broken, reason),) = result.unreadable.items()
    assert broken.endswith("broken.png") and "damaged or truncated" in reason
    again = model(str(folder / "**" / "*.p*g"), TEXTS, num_workers=1)
    assert len(again.images) == 2 and len(again.unreadable) == 1
    np.testing.assert_allclose(again.scores[1], result.scores[4], atol=1e-6)


def test_the_result_is_a_table_a_file_and_a_picture(model, folder, tmp_path):
    result = model([folder / "colour.png", folder / "broken.png"], TEXTS)
    assert "1 images could not be read" in repr(result)
    assert "colour.png" in result._repr_html_()
    tree = json.loads(result.to_json(tmp_path / "new" / "scores.json").read_text())
    assert tree["kind"] == "probability" and tree["scoring"] == "temperature"
    assert tree["images"][0]["scores"] == [float(p) for p in result.scores[0]]
    assert tree["unreadable"][0]["image"].endswith("broken.png")
    assert tree["recipe"]["size"] == 32 and tree["checkpoint"]["step"] == 3
    with Image.open(result.plot(tmp_path / "picture.png")) as picture:
        assert picture.width == 900


def test_a_template_goes_before_or_around_and_ensembles_are_means(model, folder):
    path = folder / "colour.png"
    published = model(path, ["effusion", "nodule"], template="this is a photo of")
    written_out = model(path, ["this is a photo of effusion", "this is a photo of nodule"])
    np.testing.assert_array_equal(published.scores, written_out.scores)
    assert published.texts == ["effusion", "nodule"]
    assert prompts_of("nodule", "a {} here.") == {"nodule": ["a nodule here."]}
    groups = {"sick": ["effusion", "nodule"], "well": ["normal"]}
    result = model(path, groups, scoring="cosine")
    with torch.no_grad():
        parts = model.model.embed_text(model.tokenizer(groups["sick"]))
    mean = torch.nn.functional.normalize(parts.mean(dim=0), dim=0).numpy()
    assert result.scores[0, 0] == pytest.approx(float(result.embeddings[0] @ mean), abs=1e-6)


def test_bad_texts_and_images_are_refused(model, folder, tmp_path):
    path = folder / "colour.png"
    with pytest.raises(ValueError, match="came twice: a"):
        model(path, ["a", "b", "a"])
    with pytest.raises(ValueError, match="a text is empty"):
        model(path, ["a", " "])
    with pytest.raises(ValueError, match="none came"):
        model(path, [])
    with pytest.raises(ValueError, match="b: no sentences"):
        model(path, {"a": ["x"], "b": []})
    with pytest.raises(FileNotFoundError, match="there is no image at"):
        model(tmp_path / "absent.png", TEXTS)
    with pytest.raises(FileNotFoundError, match="no file matches"):
        model(str(tmp_path / "*.tif"), TEXTS)
    with pytest.raises(ValueError, match=r"none of 1 images can be read: .*broken\.png: damaged"):
        model(folder / "broken.png", TEXTS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="0 files and no image among them"):
        model(tmp_path / "empty", TEXTS)


def test_a_released_file_loads_strictly_with_its_experiment(folder, tmp_path):
    text = {**TEXT, "vocab_size": 1024, "max_position_embeddings": 32}
    published = make_unimed_clip(text=text)
    weights = published_unimed_clip(published)
    released = write_released(tmp_path, weights)
    with pytest.raises(ValueError, match="carries no preprocessing recipe"):
        ImageClassifier.load(released)
    named: dict[str, Any] = {"experiment": "unimed_vitb16", "overrides": small(text)}
    model = ImageClassifier.load(released, device="cpu", **named)
    path = folder / "grey.jpg"
    pixels = model.recipe.evaluation_input(read_image(path).image)[None]
    with torch.no_grad():
        image = published.eval().embed_image(model.recipe.finish(pixels), torch.tensor([1]))
        cosine = image @ published.embed_text(model.tokenizer(TEXTS)).T
    result = model(path, TEXTS, scoring="cosine")
    np.testing.assert_allclose(result.scores, cosine.numpy(), atol=1e-5)
    del weights["visual.ln_post.weight"]
    with pytest.raises(ValueError, match=r"visual\.ln_post\.weight|vision\.norm\.weight"):
        ImageClassifier.load(write_released(tmp_path, weights), **named)


def small(text: dict[str, Any]) -> list[str]:
    """Shrink the published experiment to the towers of `make_unimed_clip`."""
    hidden = (text["hidden_size"] + 12) // 2
    words = ",".join(f"{key}: {value}" for key, value in text.items())
    vision = {"image_size": 32, "patch_size": 8, "width": 64, "depth": 2, "num_heads": 1}
    return [
        *(f"model.vision.{key}={value}" for key, value in vision.items()),
        f"model.text.config={{{words}}}",
        *("model.image_projection.in_features=64", "model.image_projection.out_features=12"),
        f"model.text_projection.in_features={text['hidden_size']}",
        *(f"model.text_projection.hidden_features={hidden}", "data.recipe.size=32"),
        "model.text_projection.out_features=12",
        "tokenizer._target_=medvlp.text.tokenizers.WordPieceTokenizer",
        *("~tokenizer.name_or_path", "+tokenizer.vocab=phantom", "tokenizer.context_length=32"),
    ]


def test_models_of_volumes_and_of_images_are_told_apart(chest_checkpoint, image_checkpoint):
    with pytest.raises(ValueError, match="is a model of volumes"):
        ImageClassifier(load_model(chest_checkpoint))
    with pytest.raises(SystemExit, match="scoring: for models of 2D images"):
        predict.main(["x.nii", "--ckpt", str(chest_checkpoint), "--scoring", "cosine"])
    with pytest.raises(SystemExit, match=r"--findings, --map: for models of volumes"):
        predict.main(["x.png", "--ckpt", str(image_checkpoint), "--map", "--findings", "a"])


def run(capsys, *arguments: object) -> tuple[str, object]:
    """Run the verb; return what it printed and its exit code."""
    code = 0
    try:
        predict.main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code
    return " ".join(capsys.readouterr().out.split()), code


def test_predict_takes_images_one_by_one(image_checkpoint, model, folder, tmp_path, capsys):
    out = tmp_path / "out"
    prompts = [word for text in TEXTS for word in ("--prompt", text)]
    asked = ["--ckpt", image_checkpoint, "--out", out, "--scoring", "raw_image", *prompts]
    printed, code = run(capsys, folder, *asked)
    assert code == 3 and "1 of 6 images could not be read" in printed
    assert "broken.png: damaged" in printed and "1 files of the folders are no images" in printed
    assert printed.endswith(f"everything lies in {out}") and "│ deep/deep.png │" in printed
    result = model(folder, TEXTS, scoring="raw_image")
    tree = json.loads((out / "prediction.json").read_text())
    assert [one["image"] for one in tree["images"]] == result.images
    with (out / "scores.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", *TEXTS] and len(rows) == 6
    np.testing.assert_allclose(np.array(rows[1:])[:, 1:].astype(float), result.scores, atol=1e-6)
    assert np.load(out / "embeddings.npy").shape == result.embeddings.shape
    assert (out / "images.png").stat().st_size > 10_000
    _, code = run(capsys, folder / "grey.jpg", *asked)
    assert code == 0


def test_predict_compares_with_published_scores(image_checkpoint, model, folder, tmp_path, capsys):
    result = model(folder, TEXTS, scoring="raw_image")
    images = {
        Path(n).name: row.tolist() for n, row in zip(result.images, result.scores, strict=True)
    }
    tree = {"scoring": "raw_image", "tolerance": 1e-5, "prompts": TEXTS, "images": images}
    file = tmp_path / "expected.yaml"
    file.write_text(yaml.safe_dump(tree))
    asked = [folder, "--ckpt", image_checkpoint, "--out", tmp_path / "out", "--expect", file]
    printed, code = run(capsys, *asked)
    assert code == 3 and "within 1e-05; largest differences: cmyk.tiff 0.0e+00" in printed
    _, code = run(capsys, *asked, "--scoring", "temperature")
    assert "the scores differ from" in str(code) and "by more than 1e-05" in str(code)
    images["absent.png"] = [0.0, 0.0, 1.0]
    file.write_text(yaml.safe_dump(tree))
    assert "absent.png, which did not come" in str(run(capsys, *asked)[1])
    images["absent.png"] = [1.0]
    file.write_text(yaml.safe_dump(tree))
    assert "not one score for each prompt: absent.png" in str(run(capsys, *asked)[1])
    assert "brings its own prompts" in str(run(capsys, *asked, "--prompt", "a")[1])


def test_scores_that_are_not_a_number_are_no_match(tmp_path):
    expected = ExpectedScores(tmp_path / "e.yaml", "cosine", 1.0, ["a"], {"x.png": [0.5]})
    pictures = np.zeros((0, 8, 8, 3), np.uint8)
    nothing = np.full((1, 1), np.nan, np.float32)
    scores = ImageScores(["x.png"], ["a"], nothing, "cosine", {}, nothing, pictures)
    with pytest.raises(ValueError, match=r"the scores differ .* by more than 1: x\.png nan"):
        expected.require(scores)


def test_the_published_table_is_one_distribution_for_each_of_six_images():
    root = Path(__file__).resolve().parents[2]
    expected = ExpectedScores.load(root / "experiments" / "unimed_vitb16" / "quick_start.yaml")
    assert len(expected.images) == len(expected.prompts) == 6
    for row in expected.images.values():
        assert sum(row) == pytest.approx(1, abs=1e-5)


def test_predict_needs_texts_and_shows_the_best_of_many(image_checkpoint, folder, tmp_path, capsys):
    ours = ["--ckpt", image_checkpoint, "--out", tmp_path / "out"]
    with pytest.raises(SystemExit, match="give a --prompt"):
        predict.main([str(word) for word in (folder, *ours)])
    many = [word for number in range(9) for word in ("--prompt", f"{number} nodules")]
    printed, code = run(capsys, folder / "grey.jpg", *ours, *many)
    assert code == 0 and "best" in printed and "third" in printed
    printed, _ = run(capsys, folder / "grey.jpg", *ours, "--prompt", "one")
    assert "one text alone always has probability 1" in printed


@pytest.mark.skipif(not REAL.is_dir(), reason=f"there is no {REAL}")
@pytest.mark.filterwarnings("ignore:.*EXIF orientation")
def test_real_images_and_dicom_files_are_read(model):
    result = model(REAL, TEXTS)
    assert len(result.images) == 19 and not result.unreadable
    assert np.isfinite(result.scores).all()
