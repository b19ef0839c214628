import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlp.data.folder import Folder
from medvlp.data.held_out import HeldOut
from medvlp.data.image_sets import FileImages, ImageSet
from medvlp.data.shard_images import ShardImages


def png(seed: int) -> bytes:
    rng, buffer = np.random.default_rng(seed), io.BytesIO()
    pixels = rng.integers(0, 255, (int(rng.integers(4, 90)), int(rng.integers(4, 90))), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def shards_of(folder: Path, contents: list[bytes]) -> ShardImages:
    for first in range(0, len(contents), 50):
        path = folder / f"dataset-{first // 50 + 1:06d}.tar"
        with tarfile.open(path, "w") as archive:
            for number, content in enumerate(contents[first : first + 50], start=first):
                for suffix, data in (("jpg", content), ("txt", f"caption {number}".encode())):
                    member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return ShardImages(str(folder / "dataset-*.tar"), name="shards", modality="ct")


def ids_of(images: ImageSet) -> list[str]:
    images.open()
    return [images[number].image_id for number in range(len(images))]


def parts_of(images: ImageSet, fraction: float) -> tuple[HeldOut, HeldOut]:
    return HeldOut(images, fraction, part="train"), HeldOut(images, fraction, part="val")


def test_the_parts_of_shards_make_the_whole(tmp_path: Path) -> None:
    contents = [png(seed) for seed in range(150)] + [png(seed) for seed in range(50)]
    shards = shards_of(tmp_path, contents)
    train, val = parts_of(shards, 0.2)
    kept, held_out = ids_of(train), ids_of(val)
    assert sorted(kept + held_out) == sorted(ids_of(shards)) and not set(kept) & set(held_out)
    assert 15 < len(held_out) < 70
    assert ids_of(HeldOut(shards, 0.2, part="val")) == held_out
    contents_of = [{one[number].content for number in range(len(one))} for one in (train, val)]
    assert not contents_of[0] & contents_of[1]  # copies of an image stay together
    assert val.modality == "ct" and val.name == "shards" and not val.skips
    rows = np.arange(len(val))
    assert set(val.shard_numbers(rows).tolist()) <= {0, 1, 2, 3}
    assert all(val.text_length(number) >= len("caption 0") for number in rows.tolist())
    assert train.describe() != val.describe() != shards.describe()
    with pytest.raises(IndexError, match="of"):
        val[len(val)]


def test_patients_are_not_parted(tmp_path: Path) -> None:
    lines = ["study_id,patient_id,path"]
    for number in range(60):
        (tmp_path / f"{number}.png").write_bytes(png(number))
        lines.append(f"s{number},p{number // 3},{number}.png")
    (tmp_path / "images.csv").write_text("\n".join(lines) + "\n")
    source = Folder(
        str(tmp_path / "images.csv"), str(tmp_path), name="own", split="train", modality="DX"
    )
    train, val = parts_of(FileImages(source), 0.3)
    assert len(ids_of(train)) + len(ids_of(val)) == 60
    patients = [{one[number].patient_id for number in range(len(one))} for one in (train, val)]
    assert not patients[0] & patients[1] and len(patients[0] | patients[1]) == 20
    assert len(val) == 3 * len(patients[1]) > 0 and val.modality == "DX"


def test_at_least_one_is_held_out_and_one_is_left(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, [png(seed) for seed in range(4)])
    for fraction, expected in ((1e-9, 1), (1 - 1e-9, 3)):
        train, val = parts_of(shards, fraction)
        assert len(ids_of(val)) == expected and len(ids_of(train)) == 4 - expected


def test_what_cannot_be_divided(tmp_path: Path) -> None:
    images = HeldOut(shards_of(tmp_path, [png(0), png(0)]), 0.5, part="val")
    with pytest.raises(ValueError, match=r"shards: 2 images .* cannot be divided"):
        images.open()
    with pytest.raises(ValueError, match="between 0 and 1"):
        HeldOut(shards_of(tmp_path, [png(0)]), 0.0, part="val")
