"""One scan from a file to a report and to answers."""

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from medvlp import predict
from medvlp.data.readers.registry import read
from medvlp.data.recipe import Recipe
from medvlp.models.hsenet_clip import HSENetCLIP
from medvlp.models.hsenet_vlm import HSENetVLM
from medvlp.prediction.loaded_model import LoadedModel, load_model
from medvlp.text.language_model import Ending

from .conftest import write_checkpoint

REPORT = "Can you summarize with findings the images presented?"
QUESTION = "Is there a pleural effusion?"


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("writer") / "writer.ckpt"
    changes = {"system.max_new_tokens": 6, "system.stop_ids": [5]}
    return write_checkpoint(path, changes, "init=none", experiment="hsenet_mrg")


def run(*arguments: object) -> None:
    predict.main([str(argument) for argument in arguments])


def refusal(*arguments: object) -> str:
    with pytest.raises(SystemExit) as error:
        run(*arguments)
    return str(error.value)


def inputs_of(loaded: LoadedModel, scan: Path) -> dict[str, torch.Tensor]:
    recipe = cast(Recipe, loaded.recipe)
    prepared = recipe.prepare(read(scan).restated(modality="CT"))
    return recipe.inputs(lambda name, region: prepared.arrays[name], {"scan_id": "one"})


def answers(checkpoint: Path, scan: Path, questions: list[str]) -> list[str]:
    """Answer each question on its own, from the recipe's pieces."""
    loaded = load_model(checkpoint)
    model, inputs = cast(HSENetVLM, loaded.model), inputs_of(loaded, scan)
    ending = Ending(6, (loaded.tokenizer.end_id, 5), loaded.tokenizer.pad_id)
    ids = [
        model.generate(
            inputs["image"][None],
            torch.ones(1, dtype=torch.int64),
            inputs["slice_features"][None],
            loaded.tokenizer.prompts([question]),
            ending,
        )
        for question in questions
    ]
    return [loaded.tokenizer.decode(one)[0].strip() for one in ids]


def test_a_scan_gives_a_report_and_answers(
    writer: Path, chest_scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(chest_scan, "--ckpt", writer, "--out", out, "--ask", QUESTION, "--ask", " Where? ")
    tree = json.loads((out / "prediction.json").read_text())
    report, *others = answers(writer, chest_scan, [REPORT, QUESTION, "Where?"])
    assert report
    assert tree["report"] == {"question": REPORT, "text": report}
    assert tree["answers"] == [
        {"question": question, "text": text}
        for question, text in zip([QUESTION, "Where?"], others, strict=True)
    ]
    assert (out / "report.txt").read_text() == report + "\n"
    assert tree["recipe"]["kind"] == "hsenet" and tree["checkpoint"]["step"] == 3
    assert b"doe" not in (out / "prediction.json").read_bytes()  # the file's name has it
    printed = capsys.readouterr().out
    assert QUESTION in printed and "research use only" in printed and "used" in printed


def test_a_model_of_questions_alone_answers_and_writes_no_report(
    chest_scan: Path, tmp_path: Path
) -> None:
    out, changes = tmp_path / "out", {"system.max_new_tokens": 6}
    checkpoint = write_checkpoint(
        tmp_path / "answers.ckpt", changes, "init=none", experiment="hsenet_vqa"
    )
    asked = [chest_scan, "--ckpt", checkpoint, "--out", out]
    assert "hsenet_vqa learnt from questions alone and writes no report" in refusal(*asked)
    run(*asked, "--ask", QUESTION)
    tree = json.loads((out / "prediction.json").read_text())
    assert tree["report"] is None and not (out / "report.txt").exists()
    assert [one["question"] for one in tree["answers"]] == [QUESTION]


def test_what_does_not_suit_the_model_is_refused(
    writer: Path, chest_checkpoint: Path, chest_scan: Path, tmp_path: Path
) -> None:
    asked = [chest_scan, "--out", tmp_path / "out", "--ckpt"]
    refused = refusal(*asked, writer, "--findings", "Cardiomegaly", "--map")
    assert "--findings, --map: for models that score; this one writes" in refused
    assert "--scoring: for models of 2D images" in refusal(*asked, writer, "--scoring", "cosine")
    assert "empty question" in refusal(*asked, writer, "--ask", " ")
    assert "--ask: for language models" in refusal(*asked, chest_checkpoint, "--ask", QUESTION)
    few = refusal(*asked, writer, "--min-slices", "100")
    assert "no scan can be used" in few and "too few slices: 24" in few
    long = refusal(*asked, writer, "--ask", "why " * 300)
    assert "shorten the question" in long
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="is a model of language"):
        load_model(writer).two_tower  # noqa: B018


def test_the_second_stage_embeds_a_scan_with_its_slices(chest_scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    checkpoint = write_checkpoint(
        tmp_path / "two.ckpt", {}, "init=none", experiment="hsenet_stage2"
    )
    run(chest_scan, "--ckpt", checkpoint, "--out", out, "--prompt", "There is pleural effusion.")
    loaded = load_model(checkpoint)
    model, inputs = cast(HSENetCLIP, loaded.model), inputs_of(loaded, chest_scan)
    image, slices = inputs["image"][None], inputs["slice_features"][None]
    with torch.no_grad():
        with_them, without = (
            model.embed_image(image, torch.tensor([1]), features)[0].numpy()
            for features in (slices, torch.zeros_like(slices))
        )
    found = np.load(out / "embedding.npy")
    np.testing.assert_allclose(found, with_them, atol=1e-6)
    assert np.abs(found - without).max() > 1e-4
