import logging
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from medvlp.data import image_inspection
from medvlp.data.caption_choice import MultiCaption
from medvlp.data.image_datamodule import ImageDataModule
from medvlp.data.image_inspection import inspect_images
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.image_sets import ImageItem
from medvlp.data.shard_images import ShardImages
from tests.data.image_files import encoded, module_of, shard_id, write_set, write_shards
from tests.data.test_shard_images import write_shard


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


def test_without_inspection_a_damaged_image_is_replaced_told_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = module_of(tmp_path, [write_set(tmp_path, "a", 4, damaged=2)], inspect=False)
    batch = next(iter(module.train_dataloader()))
    assert sorted(batch["sample_id"]) == ["a2/a_2.png"] * 3 + ["a3/a_3.png"]  # 0 and 1 give way
    assert {name for name, _ in batch["replaced"]} == {"a, image 0", "a, image 1"}
    with caplog.at_level(logging.WARNING):
        module.transfer_batch_to_device(batch, torch.device("cpu"), 0)
        module.transfer_batch_to_device(batch, torch.device("cpu"), 0)
        module.teardown("fit")
    assert len(re.findall("is replaced by the next image of its set", caplog.text)) == 2
    assert "fit: 2 images could not be used and were replaced" in caplog.text
    assert "6 times in all" in caplog.text


def test_a_damaged_image_ends_an_evaluation(tmp_path: Path) -> None:
    module = module_of(tmp_path, [write_set(tmp_path, "a", 4, damaged=1)], inspect=False)
    with pytest.raises(ValueError, match=r"a0/a_0\.png: (damaged|not an)"):
        next(iter(module.test_dataloader()))


def test_many_damaged_images_in_a_row_end_the_training(tmp_path: Path) -> None:
    module = module_of(tmp_path, [write_set(tmp_path, "a", 4, damaged=4)], inspect=False)
    with pytest.raises(ValueError, match=r"20 images in a row cannot be used, the last: .*inspect"):
        next(iter(module.train_dataloader()))


def test_images_without_a_caption_are_left_out_of_training_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = write_shards(tmp_path, "s", captions=["one", "", "_openi_", " . ", "two", "._dr_"])
    with caplog.at_level(logging.WARNING):
        module = module_of(tmp_path, [images], batch_size=2, texts=MultiCaption())
    assert "s: 4 of 6 training images have no caption and are left out" in caplog.text
    assert len(module.train_dataloader()) == 1 and len(list(module.test_dataloader())) == 3
    folder = next((tmp_path / "cache" / "s").iterdir())
    rows = (folder / "quarantine.csv").read_text().splitlines()
    assert len(rows) == 5 and all("no caption: not trained on" in row for row in rows[1:])


def test_a_caption_of_a_mere_marker_is_replaced_where_nothing_was_inspected(tmp_path: Path) -> None:
    images = write_shards(tmp_path, "s", captions=["one", "", "_openi_", "two"])
    module = module_of(tmp_path, [images], batch_size=3, texts=MultiCaption(), inspect=False)
    batch = next(iter(module.train_dataloader()))  # of three: the empty text shows in the index
    assert len(batch["tokens"].input_ids) == 3
    assert batch["replaced"] == [("s, image 2", f"{shard_id(images, 2)}: it has no caption")]


def test_a_header_inspection_sees_cut_files_and_no_more(tmp_path: Path) -> None:
    images = write_shards(tmp_path, "s", captions=["a", "b", "c"], cut=[1])
    module = module_of(tmp_path, [images], batch_size=2, inspect="header")
    assert len(module.datasets["train"]) == 2
    folder = next((tmp_path / "cache" / "s").iterdir())
    assert folder.name.endswith("_header")
    whole = inspect_images(images, tmp_path / "cache")
    assert whole.refused.tolist() == [1]
    again = inspect_images(images, tmp_path / "cache", header_only=True)
    assert again.folder == whole.folder  # what a whole look has found counts more


def test_an_interrupted_inspection_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_inspection, "_CHUNK", 2)
    monkeypatch.setattr(image_inspection, "_PIECE", 4)
    images = write_shards(tmp_path, "s", captions=[""] + ["a"] * 10, cut=[1, 9])
    images.open()
    asked: list[int] = []
    stop = {9}
    read = ShardImages.__getitem__

    def reading(self: ShardImages, index: int) -> ImageItem:
        asked.append(index)
        if index in stop:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(ShardImages, "__getitem__", reading)
    with pytest.raises(KeyboardInterrupt):
        inspect_images(images, tmp_path / "cache", montage=0)
    stop.clear()
    asked.clear()
    found = inspect_images(images, tmp_path / "cache", montage=0)
    assert asked == [8, 9, 10]
    assert found.refused.tolist() == [1, 9] and found.without_caption.tolist() == [0]
    assert found.num_images == 11 and found.modes == {"L": 9}
    assert found.sizes == {"width": [9, 9, 9], "height": [12, 12, 12]}
    assert sorted(path.name for path in found.folder.glob("[!.]*")) == [
        "quarantine.csv",
        "rows.npz",
        "summary.json",
    ]


def test_what_another_run_finds_meanwhile_is_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_shards(tmp_path, "s", captions=["a", "b", "c"], cut=[1])
    images.open()
    looks: list[int] = []
    look, exclusive = image_inspection._look, image_inspection.exclusive

    @contextmanager
    def waiting(folder: Path) -> Iterator[None]:
        monkeypatch.setattr(image_inspection, "exclusive", exclusive)
        inspect_images(images, tmp_path / "cache", montage=0)  # the other, while this one waits
        yield

    def looking(*arguments: Any) -> None:
        looks.append(1)
        look(*arguments)

    monkeypatch.setattr(image_inspection, "_look", looking)
    monkeypatch.setattr(image_inspection, "exclusive", waiting)
    found = inspect_images(images, tmp_path / "cache", montage=0)
    assert found.refused.tolist() == [1] and len(looks) == 1


def test_odd_images_of_a_shard_reach_the_batch_or_the_quarantine(tmp_path: Path) -> None:
    grey = np.arange(108, dtype=np.uint16).reshape(12, 9)
    small = Image.fromarray(grey.astype(np.uint8))
    sound = {
        "deep": encoded(Image.fromarray(grey * 500), "PNG"),
        "cmyk": encoded(small.convert("CMYK"), "JPEG"),
        "palette": encoded(small.convert("P"), "PNG"),
        "bits": encoded(small.convert("1"), "PNG"),
        "float": encoded(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        "png_as_jpg": encoded(small.convert("RGBA"), "PNG"),
    }
    header = bytearray(encoded(small, "PNG"))
    struct.pack_into(">II", header, 16, 60_000, 60_000)
    struct.pack_into(">I", header, 29, zlib.crc32(bytes(header[12:29])))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8))
    damaged = {"empty": b"", "bomb": bytes(header), "cut": encoded(noise, "JPEG")[:-400]}
    members = []
    for name, content in (sound | damaged).items():
        members += [(f"{name}.JPG", content), (f"{name}.txt", name.encode())]
    members += [("latin.jpg", sound["deep"]), ("latin.txt", b"caf\xe9")]
    write_shard(tmp_path / "odd.tar", members)
    module = module_of(tmp_path, [ShardImages(f"{tmp_path}/odd.tar", name="odd")], batch_size=6)
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape == (6, 3, 8, 8)
    folder = next((tmp_path / "cache" / "odd").iterdir())
    quarantine = (folder / "quarantine.csv").read_text()
    reasons = ("0 bytes", "exceeds limit", "truncated", "the text is not UTF-8")
    assert all(reason in quarantine for reason in reasons) and len(quarantine.splitlines()) == 5
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_set_without_a_sound_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none of 2 images can be used"):
        module_of(tmp_path, [write_set(tmp_path, "a", 2, damaged=2)])


def test_no_images_at_all(tmp_path: Path) -> None:
    recipe = ImageRecipe(8, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(ValueError, match="no set of images"):
        ImageDataModule(recipe, cache_dir=str(tmp_path))
    module = module_of(tmp_path, [write_set(tmp_path, "a", 4)])
    assert module.val_dataloader() == []
