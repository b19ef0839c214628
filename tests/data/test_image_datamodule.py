import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medvlp.data.folder import Folder
from medvlp.data.image_datamodule import ImageDataModule
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.image_sets import FileImages
from medvlp.data.mixing import Mixture
from medvlp.text.tokenizers import WordPieceTokenizer


def write_set(folder: Path, name: str, num_images: int, damaged: int = 0) -> FileImages:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["study_id,path,caption,Normal"]
    for number in range(num_images):
        file = folder / f"{name}_{number}.png"
        Image.fromarray(np.full((12, 9), number, np.uint8)).save(file)
        if number < damaged:
            file.write_bytes(file.read_bytes()[:30])
        lines.append(f"{name}{number},{file.name},no nodule {number},{number % 2}")
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    source = Folder(
        str(folder / f"{name}.csv"),
        str(folder),
        name=name,
        text_columns={"caption": "caption"},
        label_columns=["Normal"],
        split="train",
        modality="DX",
    )
    return FileImages(source)


def module_of(tmp_path: Path, sets: list[FileImages], **changes: Any) -> ImageDataModule:
    options: dict[str, Any] = {
        "train": sets,
        "test": sets[:1],
        "cache_dir": str(tmp_path / "cache"),
        "tokenizer": WordPieceTokenizer("phantom", 16),
        "batch_size": 4,
    }
    recipe = ImageRecipe(8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    module = ImageDataModule(recipe, **(options | changes))
    module.prepare_data()
    module.setup()
    return module


def test_a_batch_of_bytes_becomes_floats_on_the_device(tmp_path: Path) -> None:
    module = module_of(tmp_path, [write_set(tmp_path, "a", 6)])
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].dtype == torch.uint8 and batch["image"].shape == (4, 3, 8, 8)
    assert batch["labels"].shape == (4, 1) and batch["metadata"][0]["modality"] == "DX"
    assert len(batch["tokens"].input_ids) == 4 and batch["text_study"].tolist() == [0, 1, 2, 3]
    moved = module.transfer_batch_to_device(batch, torch.device("cpu"), 0)
    expected = batch["image"].float() / 127.5 - 1
    torch.testing.assert_close(moved["image"], expected, rtol=0, atol=1e-6)


def test_evaluation_shows_every_image_once_in_order(tmp_path: Path) -> None:
    module = module_of(tmp_path, [write_set(tmp_path, "a", 6)])
    ids = [name for batch in module.test_dataloader() for name in batch["sample_id"]]
    assert ids[:6] == [f"a{n}/a_{n}.png" for n in range(6)] and len(set(ids)) == 6


def test_damaged_images_are_left_out_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        module = module_of(tmp_path, [write_set(tmp_path, "a", 9, damaged=2)], batch_size=7)
    assert "left out of a: 2, named in" in caplog.text
    batch = next(iter(module.train_dataloader()))
    assert len({*batch["sample_id"]} - {"a0/a_0.png", "a1/a_1.png"}) == 7
    folder = next((tmp_path / "cache" / "a").iterdir())
    quarantine = (folder / "quarantine.csv").read_text()
    assert "a0/a_0.png" in quarantine and "a1/a_1.png" in quarantine
    assert (folder / "quality.png").stat().st_size > 5000


def test_without_inspection_the_first_damaged_image_ends_the_run(tmp_path: Path) -> None:
    module = module_of(tmp_path, [write_set(tmp_path, "a", 4, damaged=1)], inspect=False)
    with pytest.raises(ValueError, match=r"a0/a_0\.png: (damaged|not an)"):
        next(iter(module.train_dataloader()))


def test_a_set_without_a_sound_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of 2 images can be used"):
        module_of(tmp_path, [write_set(tmp_path, "a", 2, damaged=2)])


def test_sets_are_mixed_by_weight(tmp_path: Path) -> None:
    sets = [write_set(tmp_path, "a", 20), write_set(tmp_path, "b", 4)]
    mixture = Mixture([1.0, 1.0], epoch_size=400)
    module = module_of(tmp_path, sets, mixture=mixture, batch_size=8)
    loader = module.train_dataloader()
    ids = [name for batch in loader for name in batch["sample_id"]]
    assert len(loader) == 50 and len(ids) == 400
    assert 0.4 < np.mean([name.startswith("b") for name in ids]) < 0.6


def test_the_middle_of_an_epoch_is_found_again(tmp_path: Path) -> None:
    images = write_set(tmp_path, "a", 24)
    straight = list(module_of(tmp_path, [images]).train_dataloader())
    first = module_of(tmp_path, [images]).train_dataloader()
    iterator = iter(first)
    for _ in range(3):
        next(iterator)
    second = module_of(tmp_path, [images]).train_dataloader()
    second.load_state_dict(first.state_dict())
    rest = list(second)
    assert [batch["sample_id"] for batch in rest] == [b["sample_id"] for b in straight[3:]]
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(rest, straight[3:], strict=True))


def test_no_images_at_all(tmp_path: Path) -> None:
    recipe = ImageRecipe(8, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(ValueError, match="no set of images"):
        ImageDataModule(recipe, cache_dir=str(tmp_path))
    module = module_of(tmp_path, [write_set(tmp_path, "a", 4)])
    assert module.val_dataloader() == []
