import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medvlp.data import shard_images, shard_index
from medvlp.data.folder import Folder
from medvlp.data.image_dataset import decode
from medvlp.data.image_sets import FileImages, ImageItem
from medvlp.data.readers.registry import ReadError
from medvlp.data.shard_images import ShardImages
from medvlp.data.shard_index import expand_shards


def jpeg(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def write_shard(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path) -> str:
    for shard in (1, 2):
        members = []
        for sample in range(3):
            key = f"{(shard - 1) * 3 + sample:06d}"
            members += [(f"{key}.jpg", jpeg(sample)), (f"{key}.txt", f"caption {key}".encode())]
        write_shard(tmp_path / f"dataset-{shard:06d}.tar", members)
    return f"{tmp_path}/dataset-{{000001..000002}}.tar"


def test_samples_are_read_in_place(shards: str) -> None:
    images = ShardImages(shards, name="set", modality="DX")
    images.open()
    assert len(images) == 6 and images.skips == []
    item = images[4]
    assert item.texts == {"caption": "caption 000004"} and item.content == jpeg(1)
    assert item.metadata == {"modality": "DX"} and images.text_length(4) == 14
    assert decode(item).size == (8, 8)


def test_the_index_is_kept_until_a_shard_changes(shards: str, tmp_path: Path) -> None:
    ShardImages(shards, name="set").open()
    kept = sorted(tmp_path.glob(".medvlp_index_*"))
    before = [file.stat().st_mtime_ns for file in kept]
    ShardImages(shards, name="set").open()
    assert [file.suffix for file in kept] == [".json", ".npy"]
    assert [file.stat().st_mtime_ns for file in kept] == before
    write_shard(tmp_path / "dataset-000002.tar", [("a.jpg", jpeg(0)), ("a.txt", b"new")])
    changed = ShardImages(shards, name="set")
    changed.open()
    assert len(changed) == 4


def test_a_shard_that_is_cut_off_keeps_what_is_whole(shards: str, tmp_path: Path) -> None:
    path = tmp_path / "dataset-000001.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[: 512 * 7 + 5])  # inside the second caption
    images = ShardImages(shards, name="set")
    images.open()
    assert [images[i].texts["caption"][-1] for i in range(len(images))] == ["0", "3", "4", "5"]
    reasons = [skip.reason for skip in images.skips if "dataset-000001.tar" in skip.id]
    assert "the shard has no end mark: it was cut off" in reasons
    path.write_bytes(whole[: 512 * 8])  # between two samples
    images = ShardImages(shards, name="set")
    images.open()
    assert len(images) == 5 and len(images.skips) == 1


def test_incomplete_and_double_samples_are_counted(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "s.tar",
        [
            ("v1.0/a.jpg", jpeg(1)),
            ("v1.0/a.txt", b"one"),
            ("v1.0/a.txt", b"two"),
            ("b.jpg", jpeg(2)),
            ("c.txt", b"text only"),
        ],
    )
    images = ShardImages(f"{tmp_path}/*.tar", name="set")
    images.open()
    assert len(images) == 1 and images[0].texts == {"caption": "one"}
    reasons = sorted(skip.reason for skip in images.skips)
    assert reasons == [
        "a second member of this name",
        "no image in the sample",
        "no text in the sample",
    ]


def test_an_empty_shard_is_named_and_others_files_are_not_looked_at(
    shards: str, tmp_path: Path
) -> None:
    write_shard(tmp_path / "dataset-000003.tar", [])
    (tmp_path / "dataset-000004.tar").write_bytes(b"")
    (tmp_path / "sizes.json").write_text('{"dataset-000001.tar": 999}')
    (tmp_path / "__len__").write_text("999")
    images = ShardImages(shards.replace("000002}", "000004}"), name="set")
    images.open()
    assert len(images) == 6
    reasons = {Path(skip.id).name: skip.reason for skip in images.skips}
    assert reasons["dataset-000003.tar"] == "the shard is empty"
    assert "damaged or cut off: empty file" in reasons["dataset-000004.tar"]
    assert len(reasons) == 2


def test_suffixes_in_capitals_and_the_order_of_members(tmp_path: Path) -> None:
    far = ("far.dat", bytes(2**17))
    members = [("A.JPG", jpeg(1)), far, ("A.TXT", b"one"), ("b.Txt", b"two"), ("b.Jpeg", jpeg(2))]
    write_shard(tmp_path / "s.tar", members)
    images = ShardImages(f"{tmp_path}/s.tar", name="set")
    images.open()
    assert [images[i].texts["caption"] for i in range(2)] == ["one", "two"]
    assert [images[i].content for i in range(2)] == [jpeg(1), jpeg(2)]


def test_a_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.tar", [("a.jpg", jpeg(1)), ("a.txt", b"caf\xe9")])
    images = ShardImages(f"{tmp_path}/s.tar", name="set")
    images.open()
    with pytest.raises(ReadError, match=r"set/s\.tar/512: the text is not UTF-8"):
        images[0]


def test_a_shard_that_changes_after_it_was_opened_is_refused(shards: str, tmp_path: Path) -> None:
    images = ShardImages(shards, name="set")
    images.open()
    write_shard(tmp_path / "dataset-000001.tar", [("a.jpg", jpeg(0)), ("a.txt", b"new")])
    with pytest.raises(OSError, match=r"dataset-000001\.tar has changed since its index was made"):
        images[0]
    assert images[3].texts == {"caption": "caption 000003"}
    with (tmp_path / "dataset-000002.tar").open("r+b") as file:
        file.truncate(3000)  # while it is open
    with pytest.raises(OSError, match=r"dataset-000002\.tar has changed"):
        images[5]


def test_few_files_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_images, "_MAX_OPEN", 2)
    for shard in range(4):
        write_shard(tmp_path / f"{shard}.tar", [("a.jpg", jpeg(shard)), ("a.txt", b"x")])
    images = ShardImages(f"{tmp_path}/*.tar", name="set")
    images.open()
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for shard in (0, 1, 0, 2, 0, 3, 1):
        assert images[shard].content == jpeg(shard)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before + 2


def test_another_process_maps_the_same_index(shards: str) -> None:
    images = ShardImages(shards, name="set")
    assert len(pickle.loads(pickle.dumps(images))) == 0
    images.open()
    assert images[0].texts and len(pickle.dumps(images)) < 2000
    assert pickle.loads(pickle.dumps(images))[5].texts == {"caption": "caption 000005"}


def test_an_index_that_was_interrupted_goes_on(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_index, "_GROUP", 1)
    monkeypatch.setattr(shard_index, "_THREADS", 1)
    whole = shard_index._samples

    def interrupted(path: Path, skips: list[Any]) -> Any:
        if "000002" in path.name:
            raise KeyboardInterrupt
        return whole(path, skips)

    monkeypatch.setattr(shard_index, "_samples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ShardImages(shards, name="set").open()
    assert len(list(tmp_path.glob(".medvlp_index_*"))) == 1

    looked_at: list[str] = []
    monkeypatch.setattr(
        shard_index,
        "_samples",
        lambda path, skips: looked_at.append(path.name) or whole(path, skips),
    )
    images = ShardImages(shards, name="set")
    images.open()
    assert looked_at == ["dataset-000002.tar"] and len(images) == 6
    assert len(list(tmp_path.glob(".medvlp_index_*"))) == 2


def test_a_folder_that_cannot_be_written_is_told(shards: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match="another index_dir"):
        ShardImages(shards, name="set", index_dir=str(tmp_path / "file" / "x")).open()


def test_missing_shards_are_counted(shards: str) -> None:
    with pytest.raises(FileNotFoundError, match="1 of 3 shards are not there"):
        expand_shards(shards.replace("000002}", "000003}"))
    with pytest.raises(FileNotFoundError, match="no shard matches"):
        expand_shards("nowhere/*.tar")
    with pytest.raises(ValueError, match="backwards"):
        expand_shards("x-{3..1}.tar")


def test_no_shard_has_a_sample(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(b"no archive at all" * 100)
    with pytest.raises(ValueError, match=r"no sample in 1 shards; the first: the shard"):
        ShardImages(f"{tmp_path}/s.tar", name="set").open()


def test_files_are_named_by_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(7))
    (tmp_path / "b.jpg").write_bytes(jpeg(7)[:100])
    (tmp_path / "images.csv").write_text(
        "study_id,path,split,caption,Normal\n1,a.jpg,train,A chest.,1\n2,b.jpg,train,B.,0\n"
        "3,a.jpg,test,C.,\n"
    )
    source = Folder(
        f"{tmp_path}/images.csv",
        str(tmp_path),
        text_columns={"caption": "caption"},
        label_columns=["Normal"],
        modality="DX",
    )
    images = FileImages(source, split="train")
    images.open()
    assert len(images) == 2 and images.label_names == ("Normal",)
    assert images[0].labels == {"Normal": 1} and images[0].metadata["modality"] == "DX"
    with pytest.raises(ReadError, match=r"2/b\.jpg: (damaged|not an)"):
        decode(images[1])
    with pytest.raises(ValueError, match="no image in split 'val'"):
        FileImages(source, split="val").open()


def test_dicom_images_are_decoded_from_bytes() -> None:
    pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    path = get_testdata_file("CT_small.dcm")
    item = ImageItem("a/b.dcm", "p", Path(str(path)).read_bytes())
    assert decode(item).size == (128, 128)
