"""Shards are whole or not there, and hold what was written."""

import tarfile
from pathlib import Path

import pytest

from medvlp.data.shard_images import ShardImages
from medvlp.data.shard_writer import ShardWriter, is_whole


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        found = {}
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
        return found


def test_samples_are_numbered_over_all_shards_and_kept_unchanged(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, samples_per_shard=2)
    done = [writer.add(bytes([k]) * k, f"caption {k} é") for k in range(3)]
    assert done[0] is None and done[1] is not None and done[2] is None
    assert (done[1].file, done[1].samples) == ("dataset-000001.tar", 2)
    last = writer.close()
    assert last is not None and writer.close() is None
    assert members(tmp_path / "dataset-000001.tar") == {
        "000000.jpg": b"",
        "000000.txt": "caption 0 é".encode(),
        "000001.jpg": b"\x01",
        "000001.txt": "caption 1 é".encode(),
    }
    assert list(members(tmp_path / "dataset-000002.tar")) == ["000002.jpg", "000002.txt"]


def test_what_was_written_is_what_shard_images_reads(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, samples_per_shard=2)
    for k in range(5):
        writer.add(f"image {k}".encode(), f"caption {k}")
    writer.close()
    images = ShardImages(f"{tmp_path}/dataset-*.tar", name="set")
    images.open()
    items = [images[index] for index in range(len(images))]
    assert not images.skips
    assert [item.content for item in items] == [f"image {k}".encode() for k in range(5)]
    assert [item.texts["caption"] for item in items] == [f"caption {k}" for k in range(5)]


def test_an_unfinished_shard_is_not_there(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, samples_per_shard=2)
    writer.add(b"x", "text")
    assert not list(tmp_path.glob("*.tar"))
    writer.discard()
    assert not list(tmp_path.iterdir())


def test_writing_goes_on_behind_shards_that_are_there(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, samples_per_shard=2, num_shards=3, num_samples=6)
    writer.add(b"x", "text")
    writer.close()
    assert list(members(tmp_path / "dataset-000004.tar")) == ["000006.jpg", "000006.txt"]


@pytest.mark.parametrize("harm", ["cut", "gone", "end mark", "changed"])
def test_a_damaged_shard_is_noticed(tmp_path: Path, harm: str) -> None:
    writer = ShardWriter(tmp_path, samples_per_shard=1)
    shard = writer.add(b"image", "text")
    assert shard is not None
    path = tmp_path / shard.file
    assert is_whole(path, shard, verify=True)
    content = bytearray(path.read_bytes())
    if harm == "cut":
        path.write_bytes(content[:-512])
    elif harm == "gone":
        path.unlink()
    else:
        content[-1 if harm == "end mark" else 512] ^= 1
        path.write_bytes(content)
    assert not is_whole(path, shard, verify=True)
    assert is_whole(path, shard, verify=False) == (harm == "changed")


def test_a_shard_that_lost_bytes_on_the_way_is_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, samples_per_shard=2)
    writer.add(b"x", "text")
    writer._held += 1  # as if a member had not reached the disk
    with pytest.raises(OSError, match="holds 2 members where 4 were written"):
        writer.close()
    assert not list(tmp_path.glob("*.tar"))


def test_shards_of_no_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="samples_per_shard is 0"):
        ShardWriter(tmp_path, samples_per_shard=0)
