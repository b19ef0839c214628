import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlp.data.folder import Folder
from medvlp.data.image_dataset import decode
from medvlp.data.image_sets import FileImages, ImageItem
from medvlp.data.readers.registry import ReadError
from medvlp.data.shard_images import ShardImages, expand_shards


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
    kept = list(tmp_path.glob(".medvlp_index_*.npz"))
    before = kept[0].stat().st_mtime_ns
    ShardImages(shards, name="set").open()
    assert len(kept) == 1 and kept[0].stat().st_mtime_ns == before
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
