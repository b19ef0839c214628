import io
import json
import os
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from medvlp.bench.__main__ import main
from medvlp.bench.image_shards import STORED, mean_pixels, write_shards
from medvlp.bench.images import load_recipe
from medvlp.bench.plain_images import PlainShards
from medvlp.bench.record import cpu_seconds
from medvlp.bench.text import captions
from medvlp.data.shard_images import ShardImages
from medvlp.data.shard_index import expand_shards
from medvlp.phantom.unimed_components import COMPONENTS


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (_, _, mode) in STORED.items():
        monkeypatch.setitem(STORED, name, (48, 40, mode))


def test_shards_hold_the_published_shares(small: None, tmp_path: Path) -> None:
    images = ShardImages(write_shards(tmp_path, 40), name="bench")
    images.open()
    assert len(images) == 40 and not images.skips
    assert {component.folder for component in COMPONENTS} == set(STORED)
    modes = {Image.open(io.BytesIO(images[i].content)).mode for i in range(40)}
    assert modes == {"L", "RGB"}
    assert all(images[i].texts["caption"] for i in range(40))


def test_the_mix_is_of_real_sizes() -> None:
    assert 200_000 < mean_pixels() < 500_000


def test_both_pipelines_make_the_same_pixels(small: None, tmp_path: Path) -> None:
    shards = expand_shards(write_shards(tmp_path, 16))
    with tarfile.open(shards[0]) as archive:
        file = archive.extractfile("000000.jpg")
        assert file is not None
        content = file.read()
    recipe = load_recipe()
    plain = PlainShards(shards, recipe)
    theirs = plain.normalise(plain.cut(plain.decode(content), torch.Generator().manual_seed(1)))
    image = Image.open(io.BytesIO(content))
    box = recipe.random_box(image.size, torch.Generator().manual_seed(1))
    torch.testing.assert_close(recipe.finish(recipe.cut(image, box)), theirs, rtol=0, atol=1e-6)
    assert len(list(plain)) == 16


def test_the_command_line_writes_loader_and_stages(small: None, tmp_path: Path) -> None:
    path = tmp_path / "images.json"
    main(["images", "--quick", "--workers", "0", "--folder", str(tmp_path), "--json", str(path)])
    tables = json.loads(path.read_text())["tables"]
    assert [row["loader"] for row in tables["loader"]][-1] == "plain Pillow + torch"
    assert all(row["images/CPU s"] > 0 for row in tables["loader"])
    stages = tables["stages, CPU ms per image"]
    assert stages[-1]["stage"] == "all" and len(stages) == 6
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads CPU time from /proc")
def test_cpu_time_of_other_processes() -> None:
    assert cpu_seconds([os.getpid()]) > 1.5 * cpu_seconds()


def test_captions_are_those_of_a_step() -> None:
    texts = captions(20)
    assert len(texts) == 20 and not any("_radimagenet_" in text for text in texts)


def test_the_text_tower_is_equal_however_captions_are_padded(tmp_path: Path) -> None:
    path = tmp_path / "text.json"
    main(["text", "--texts", "4", "--layers", "1", "--repeats", "1", "--json", str(path)])
    rows = json.loads(path.read_text())["rows"]
    assert [row["captions"] for row in rows] == [
        "padded to 256",
        "cut to the longest",
        "cut, 4 groups by length",
    ]
    assert all(row["largest difference"] < 1e-5 for row in rows)
    with pytest.raises(SystemExit, match="no model 'tiny' in conf/model"):
        main(["text", "--model", "tiny"])
