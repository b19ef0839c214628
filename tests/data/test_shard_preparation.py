"""Preparing a source: what is left out, what is kept when a run is repeated, what is refused."""

import csv
import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from medvlp.data.engine import PreparationError
from medvlp.data.shard_manifest import ShardManifest, read_manifest
from medvlp.data.shard_preparation import ShardPreparation
from medvlp.data.shard_summary import check_skipped
from medvlp.data.unimed_label_sources import RetinaDescriptions
from medvlp.data.unimed_sources import QuiltCaptions, ROCOv2Captions


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), shade).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Seven rows of ROCOv2; the fourth has no image."""
    root = tmp_path / "raw"
    root.mkdir()
    with (root / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "Caption"])
        writer.writerows([f"i{k}", f"Caption {k}."] for k in range(7))
    for k in (0, 1, 2, 4, 5, 6):
        (root / f"i{k}.jpg").write_bytes(picture(k))
    return root


def preparation(raw: Path, size: int = 2, verify: bool = False) -> ShardPreparation:
    source = ROCOv2Captions(str(raw / "captions.csv"), str(raw))
    out = str(raw.parent / "out")
    return ShardPreparation({"set": source}, out, samples_per_shard=size, verify=verify)


def texts(manifest: ShardManifest) -> list[list[str]]:
    found = []
    for path in sorted(manifest.folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            names = [name for name in archive.getnames() if name.endswith("txt")]
            files = [archive.extractfile(name) for name in names]
            found.append([file.read().decode() for file in files if file])
    return found


WHOLE = [["Caption 0.", "Caption 1."], ["Caption 2.", "Caption 4."], ["Caption 5.", "Caption 6."]]


def test_a_missing_image_is_left_out_counted_and_named(raw: Path) -> None:
    seen: list[int] = []
    manifest = preparation(raw).prepare("set", on_row=seen.append)
    assert texts(manifest) == WHOLE and seen == [7] * 7
    assert (manifest.num_rows, manifest.num_samples, manifest.num_skipped) == (7, 6, 1)
    assert manifest.skips == {"the image is not there": 1}
    quarantine = (manifest.folder / "quarantine.csv").read_text()
    assert "captions.csv, line 5" in quarantine and "i3.jpg" in quarantine
    assert [row["image"] for row in manifest.examples] == ["i0.jpg", "i1.jpg", "i2.jpg"]
    assert read_manifest(manifest.folder) == manifest


@pytest.mark.parametrize("stop_after", range(1, 8))
def test_a_run_that_was_stopped_ends_as_one_that_was_not(raw: Path, stop_after: int) -> None:
    whole = preparation(raw).prepare("set")
    expected = {path.name: path.read_bytes() for path in whole.folder.iterdir()}
    shutil.rmtree(whole.folder)
    rows = 0

    def stop(left: int) -> None:
        nonlocal rows
        rows += 1
        if rows == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preparation(raw).prepare("set", on_row=stop)
    kept = {path: path.stat().st_mtime_ns for path in whole.folder.glob("*.tar")}
    again = preparation(raw).prepare("set")
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == expected
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert len(kept) == sum(stop_after >= row for row in (2, 5, 7))


def test_a_finished_set_is_left_alone(raw: Path) -> None:
    first = preparation(raw).prepare("set")
    times = {path: path.stat().st_mtime_ns for path in first.folder.glob("d*")}
    seen: list[int] = []
    again = preparation(raw).prepare("set", on_row=seen.append)
    assert again == first and not seen
    assert {path: path.stat().st_mtime_ns for path in first.folder.glob("d*")} == times


@pytest.mark.parametrize("verify", [False, True])
def test_a_damaged_shard_is_written_again(raw: Path, verify: bool) -> None:
    first = preparation(raw).prepare("set")
    path = first.folder / "dataset-000002.tar"
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:] if verify else content[:-512])
    again = preparation(raw, verify=verify).prepare("set")
    assert path.read_bytes() == content and again == first


def test_a_full_disk_leaves_whole_shards_only(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, done = tarfile.TarFile.addfile, 0

    def full(self: tarfile.TarFile, *member: Any) -> None:
        nonlocal done
        done += 1
        if done > 6:  # two samples, and one more
            raise OSError(28, "No space left on device")
        write(self, *member)

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "addfile", full)
        with pytest.raises(OSError, match="No space left"):
            preparation(raw).prepare("set")
    folder = raw.parent / "out" / "set_webdataset"
    assert [path.name for path in folder.glob("*dataset*")] == ["dataset-000001.tar"]
    assert texts(preparation(raw).prepare("set")) == WHOLE


def test_leftovers_of_a_killed_run_go(raw: Path) -> None:
    folder = raw.parent / "out" / "set_webdataset"
    folder.mkdir(parents=True)
    (folder / ".dataset-000001.tar.tmp").write_bytes(b"half")
    preparation(raw).prepare("set")
    assert not list(folder.glob("*.tmp")) and not list(folder.glob(".*.tmp"))


def test_other_annotations_or_options_do_not_mix(raw: Path) -> None:
    preparation(raw).prepare("set")
    with pytest.raises(ValueError, match=r"shards of other samples: 2, asked for is 3; delete"):
        preparation(raw, size=3).prepare("set")
    with (raw / "captions.csv").open("a") as file:
        file.write("i0,One more\n")
    with pytest.raises(ValueError, match="shards of other annotations"):
        preparation(raw).prepare("set")


def test_shards_of_somebody_else_are_not_touched(raw: Path) -> None:
    folder = raw.parent / "out" / "set_webdataset"
    folder.mkdir(parents=True)
    (folder / "dataset-000001.tar").write_bytes(b"theirs")
    with pytest.raises(ValueError, match=r"no manifest\.json beside it"):
        preparation(raw).prepare("set")


def test_a_run_that_gave_nothing_is_begun_anew(raw: Path) -> None:
    source = ROCOv2Captions(str(raw / "captions.csv"), str(raw / "wrong"))
    wrong = ShardPreparation({"set": source}, str(raw.parent / "out")).prepare("set")
    with pytest.raises(PreparationError, match="7 of 7 rows gave no sample"):
        check_skipped("set", wrong, allowed=1.0)
    manifest = preparation(raw).prepare("set")
    assert (manifest.num_samples, manifest.num_skipped) == (6, 1)
    assert len((manifest.folder / "quarantine.csv").read_text().splitlines()) == 2


def test_a_damaged_manifest_says_what_to_do(raw: Path) -> None:
    manifest = preparation(raw).prepare("set")
    (manifest.folder / "manifest.json").write_text('{"shards": ')
    with pytest.raises(ValueError, match=r"is damaged .*delete .* and start again"):
        preparation(raw).prepare("set")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the image file is empty"), (b"<html>403</html>", "the file is not an image")],
)
def test_a_file_that_is_no_image_is_left_out(raw: Path, content: bytes, reason: str) -> None:
    (raw / "i0.jpg").write_bytes(content)
    manifest = preparation(raw).prepare("set")
    assert manifest.skips == {reason: 1, "the image is not there": 1}


def test_what_pillow_merely_warns_of_is_kept(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # of 16: a warning, not yet an error
    assert preparation(raw).prepare("set").num_samples == 6


def test_a_folder_in_place_of_an_image_is_left_out(raw: Path) -> None:
    (raw / "i3.jpg").mkdir()
    manifest = preparation(raw).prepare("set")
    assert manifest.skips == {"the image cannot be read": 1}


def test_too_many_left_out_are_an_error_with_the_reasons(raw: Path) -> None:
    manifest = preparation(raw).prepare("set")
    check_skipped("set", manifest, allowed=0.5)
    message = r"1 of 7 rows gave no sample \(1 x the image is not there\)"
    with pytest.raises(PreparationError, match=message):
        check_skipped("set", manifest, allowed=0.05)


def test_a_wrong_image_folder_stops_after_a_thousand_rows(tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text("ID,Caption\n" + "".join(f"i{k},text\n" for k in range(5000)))
    source = ROCOv2Captions(str(table), str(tmp_path / "wrong"))
    wrong = ShardPreparation({"set": source}, str(tmp_path / "out"))
    with pytest.raises(PreparationError, match=r"none of the first 1,000 rows.*i999\.jpg"):
        wrong.prepare("set")


def test_published_rows_that_stop_the_script_stop_here_with_their_place(raw: Path) -> None:
    source = ROCOv2Captions(str(raw / "captions.csv"), str(raw), compat="published")
    shards = ShardPreparation({"set": source}, str(raw.parent / "out"), samples_per_shard=2)
    with pytest.raises(ValueError, match=r"captions\.csv, line 5: the image is not there"):
        shards.prepare("set")


def test_published_retina_scripts_leave_empty_shards_and_ours_do_not(raw: Path) -> None:
    table = raw / "retina.csv"
    names = ("i3", "i0", "i1", "i3", "i3", "i2", "i3")  # i3 is missing
    table.write_text("image,caption\n" + "".join(f"{name}.jpg,{name}\n" for name in names))
    found = {}
    for compat in ("published", None):
        source = RetinaDescriptions(str(table), str(raw), compat=compat)
        out = str(raw.parent / str(compat))
        one = ShardPreparation({"set": source}, out, samples_per_shard=2)
        found[compat] = texts(one.prepare("set"))
    # a shard is opened for the first row and, at every multiple of two samples, for each row
    assert found["published"] == [[], ["i0", "i1"], [], [], ["i2"]]
    assert found[None] == [["i0", "i1"], ["i2"]]


def test_published_quilt_passes_over_what_is_missing(raw: Path) -> None:
    table = raw / "quilt.csv"
    table.write_text(
        "n,caption,image,subset\n0,,i0.jpg,s\n1, a ,i1.jpg,s\n2,b,i3.jpg,s\n3, ,i2.jpg,s\n"
    )
    found = {}
    for compat in ("published", None):
        source = QuiltCaptions(str(table), str(raw), compat=compat)
        shards = ShardPreparation({"set": source}, str(raw.parent / str(compat)))
        found[compat] = texts(shards.prepare("set"))
    assert found == {"published": [["a", ""]], None: [["a"]]}
