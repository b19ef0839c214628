"""Reading a catalogue of labelled image sets: all layouts, and everything that goes wrong."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medvlp.data.catalogue_sets import Registry
from medvlp.data.image_catalogue import CatalogueImages
from medvlp.data.image_dataset import decode
from medvlp.data.image_recipe import ImageRecipe
from tests.data.catalogue_files import write_catalogue, write_image

TABLE = {"table": "table.csv", "image": 0, "label": 1, "labels": ["no", "yes"]}


def small(tmp_path: Path, content: str | None = None, **layout: Any) -> CatalogueImages:
    """One set of two classes with images a.png ... d.png and its table."""
    entry = {"modality": "xray", "prompts": "mine", "classes": ["no", "yes"]}
    chosen = layout if {"folders", "name"} & set(layout) else {**TABLE, **layout}
    sets = {"mine": {**entry, "layout": chosen}}
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump({"sets": sets}))
    for value, name in enumerate("abcd"):
        write_image(tmp_path / "set" / f"{name}.png", value)
    if content is not None:
        (tmp_path / "set" / "table.csv").write_text(content, encoding="utf-8")
    (tmp_path / "catalogue.json").write_text(json.dumps({"mine": {"path": "set"}}))
    return CatalogueImages(
        str(tmp_path / "catalogue.json"), registry=str(tmp_path / "registry.yaml")
    )


def labels(images: CatalogueImages) -> dict[str, str]:
    """Name of the file -> label."""
    items = [images[index] for index in range(len(images))]
    return {item.image_id.partition("/")[2]: item.metadata["label"] for item in items}


def reasons(images: CatalogueImages) -> str:
    return "; ".join(f"{skip.id}: {skip.reason}" for skip in images.skips)


def test_every_layout_of_the_21_sets_gives_its_images(tmp_path: Path) -> None:
    registry = Registry.load()
    images = CatalogueImages(str(write_catalogue(tmp_path, registry, per_class=2)))
    images.open()
    assert images.missing == {} and images.skips == []
    assert len(images) == 2 * sum(len(registry.sets[name].classes) for name in registry.averaged)
    found: Counter[str] = Counter()
    for index in range(len(images)):
        item = images[index]
        one = registry.sets[item.metadata["dataset"]]
        assert item.metadata["modality"] == one.modality
        assert np.asarray(decode(item))[0, 0] == int(item.metadata["label"])
        assert item.image_id.startswith(f"{one.name}/")
        found[one.name] += 1
    assert list(found) == registry.averaged
    assert len({images[index].image_id for index in range(len(images))}) == len(images)
    assert images.text_length(0) == 0


def test_the_patient_comes_from_the_path_where_the_set_says_how(tmp_path: Path) -> None:
    registry = Registry.load()
    path = write_catalogue(tmp_path, registry, leave_out=tuple(registry.sets)[1:])
    folder = tmp_path / "chexpert-5x200"
    for view in ("view1", "view2"):
        write_image(folder / "CheXpert" / "patient7" / f"{view}.png", 0)
    table = tmp_path / "local_data" / "chexpert-5x200.csv"
    head = table.read_text().splitlines()[0]
    rows = [f"CheXpert/patient7/view{k}.png,1,0,0,0,0" for k in (1, 2)]
    table.write_text("\n".join([head, *rows]))
    images = CatalogueImages(str(path))
    images.open()
    assert [images[k].patient_id for k in (0, 1)] == ["chexpert-5x200/patient7"] * 2


def test_only_the_chosen_sets_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_catalogue(tmp_path, Registry.load())
    images = CatalogueImages(str(path), sets=["PCAM"])
    with caplog.at_level(logging.WARNING):
        images.open()
    assert len(images) == 2 and images.skips == [] and caplog.text == ""
    assert images.missing["BACH"] == "not among the chosen sets"
    with pytest.raises(ValueError, match=r"no set 'PCAN'; did you mean 'PCAM'\?; known are"):
        CatalogueImages(str(path), sets=["PCAN"])


def test_sets_that_are_not_there_are_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry.load()
    path = write_catalogue(tmp_path, registry, leave_out=("breast_us",))
    (tmp_path / "thyroid_us" / "thyroid_test_fold1.csv").unlink()
    (tmp_path / "PCAM" / "PCam_Test_preprocessed").rename(tmp_path / "PCAM" / "other")
    (tmp_path / "NCK_CRC" / "CRC-VAL-HE-7K" / "STR").rename(tmp_path / "STR")
    organs = tmp_path / "CT_axial" / "organs_axial" / "annotations.csv"
    organs.write_text(organs.read_text().replace(",test", ",train"))
    tree = json.loads(path.read_text())
    tree["BACH"] = {"folder": "bach"}
    tree["Osteo"]["path"] = "elsewhere"
    tree["PCAN"] = tree["imagenet"] = {"path": "x", "type": "special"}
    path.write_text(json.dumps(tree))
    images = CatalogueImages(str(path))
    with caplog.at_level(logging.WARNING):
        images.open()
    missing = images.missing
    expected = {
        "breast_us": "does not name it; add its path",
        "thyroid_us": "thyroid_test_fold1.csv is not there",
        "PCAM": "PCam_Test_preprocessed is not there",
        "NCK_CRC": "lacks the class folder STR",
        "CT_axial": "no row with split = test; found: train",
        "BACH": 'its entry has no "path"',
        "Osteo": "elsewhere is not a folder",
    }
    assert set(missing) == set(expected)
    for name, text in expected.items():
        assert text in missing[name]
        assert name in caplog.text
    assert "names an unknown set; did you mean 'PCAM'?" in reasons(images)
    assert "imagenet: not evaluated: the published evaluation does not run it" in reasons(images)
    assert "no image of modality ultrasound: give one of breast_us, thyroid_us" in caplog.text
    assert "no image of modality ct" not in caplog.text


def test_a_folder_without_a_class_is_left_out_and_counted(tmp_path: Path) -> None:
    path = write_catalogue(tmp_path, Registry.load())
    for number in range(3):
        write_image(tmp_path / "NCK_CRC" / "CRC-VAL-HE-7K" / "BACK" / f"{number}.png", 0)
    (tmp_path / "LC25000_lung" / "colon_n").mkdir()
    (tmp_path / "LC25000_lung" / "lung_n" / "Thumbs.db").write_bytes(b"x")
    images = CatalogueImages(str(path))
    images.open()
    assert not images.missing
    assert "BACK: a folder that is no class: its 3 files are left out" in reasons(images)
    assert "lung_n: 1 files that are no images by their names" in reasons(images)
    assert len(images.skips) == 2


def test_labels_outside_the_classes_are_left_out_and_counted(tmp_path: Path) -> None:
    images = small(tmp_path, "file,label\na.png,no\nb.png,maybe\nc.png,yes\nd.png,yes\n")
    images.open()
    assert labels(images) == {"a.png": "0", "c.png": "1", "d.png": "1"}
    assert reasons(images) == "mine/b.png: its label 'maybe' is none of the classes no, yes"


def test_numbers_as_labels(tmp_path: Path) -> None:
    images = small(tmp_path, "f,l\na.png,0\nb.png,1.0\nc.png,11\nd.png,-1\n", labels=[0, 1])
    images.open()
    assert labels(images) == {"a.png": "0", "b.png": "1"}
    assert reasons(images).count("is none of the classes 0, 1") == 2


def test_lists_as_labels(tmp_path: Path) -> None:
    content = "f,l\na.png,\"['yes', 'no']\"\nb.png,[]\nc.png,yes\nd.png,['no']\n"
    images = small(tmp_path, content, in_list=True)
    images.open()
    assert labels(images) == {"a.png": "1", "d.png": "0"}
    assert reasons(images).count("is no list with an entry") == 2


def test_class_columns(tmp_path: Path) -> None:
    content = "f,yes,no\na.png,1,0\nb.png,0,0\nc.png,,1.0\nd.png,x,1\n"
    layout = {"table": "table.csv", "image": "f", "label": None, "labels": []}
    images = small(tmp_path, content, one_hot=["no", "yes"], **layout)
    images.open()
    assert labels(images) == {"a.png": "1", "c.png": "0"}
    assert "mine/b.png: not exactly one class is marked" in reasons(images)
    assert "mine/d.png: a class column holds no number" in reasons(images)
    images = CatalogueImages(
        str(images.catalogue), registry=str(tmp_path / "registry.yaml"), compat="published"
    )
    images.open()
    assert labels(images)["b.png"] == "0"


def test_labels_in_file_names(tmp_path: Path) -> None:
    images = small(tmp_path, folder="names", name="_(\\d+)[_.]")
    for name in ("1_0.png", "2_1.png", "3_2.png", "4.png"):
        write_image(tmp_path / "set" / "names" / name, 0)
    images.open()
    assert labels(images) == {"names/1_0.png": "0", "names/2_1.png": "1"}
    assert reasons(images).count("its name holds no label: expected a class index from 0 to 1") == 2


def test_rows_that_are_no_good(tmp_path: Path) -> None:
    lines = ["f,l", "a.png,no", "a.png,no", "gone.png,yes", "../x.png,yes", "/b.png,yes", "b.png"]
    images = small(tmp_path, "\n".join(lines))
    images.open()
    assert labels(images) == {"a.png": "0"}
    for reason in (
        "mine/a.png: named again; its first row counts",
        "mine/gone.png: the image file is not there",
        "../x.png: its path leads out of",
        "/b.png: its path leads out of",
        "table.csv: a row of more or fewer cells than the header",
    ):
        assert reason in reasons(images)


def test_the_published_code_counts_an_image_as_often_as_it_is_named(tmp_path: Path) -> None:
    images = small(tmp_path, "f,l\na.png,no\na.png,no\nb.png,yes\n")
    images = CatalogueImages(
        str(images.catalogue), registry=str(tmp_path / "registry.yaml"), compat="published"
    )
    images.open()
    assert labels(images) == {"a.png": "0", "a.png (1)": "0", "b.png": "1"}
    assert images[0].patient_id == images[1].patient_id == "mine/a.png"
    assert images.skips == []


def test_a_table_without_a_header_keeps_its_first_image(tmp_path: Path) -> None:
    content = "a.png,no\nb.png,yes\n"
    images = small(tmp_path, content)
    images.open()
    assert labels(images) == {"a.png": "0", "b.png": "1"}
    assert "no header: its first line is an image" in reasons(images)
    images = CatalogueImages(
        str(images.catalogue), registry=str(tmp_path / "registry.yaml"), compat="published"
    )
    images.open()
    assert labels(images) == {"b.png": "1"}


@pytest.mark.parametrize(
    ("content", "layout", "message"),
    [
        (None, {}, "table.csv is not there"),
        ("", {}, "is empty; check the download"),
        ("f\na.png\n", {}, "has 1 columns (f), expected at least 2"),
        (
            "imgpth,l\na.png,no\n",
            {"image": "imgpath"},
            "no column 'imgpath'; did you mean 'imgpth'",
        ),
        ("f,l\na.png,no\n", {"where": {"split": "test"}}, "has no column 'split'"),
        ("f,l\nz.png,no\n", {}, "no image of 1 with a sound label is there; the first: "),
        ("f,l\na.png,maybe\n", {}, "no image of 0 with a sound label is there"),
    ],
)
def test_when_no_set_is_left_the_reasons_are_named(
    tmp_path: Path, content: str | None, layout: dict, message: str
) -> None:
    images = small(tmp_path, content, **layout)
    with pytest.raises(ValueError, match="no image of any set is there: mine: ") as caught:
        images.open()
    assert message in str(caught.value)


def test_a_table_of_bytes_is_named(tmp_path: Path) -> None:
    images = small(tmp_path, "")
    (tmp_path / "set" / "table.csv").write_bytes(b"\xff\xfe\x00f,l\n")
    with pytest.raises(ValueError, match="is not a readable UTF-8 CSV table"):
        images.open()


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not readable JSON"), ("[]", "expected name -> ")]
)
def test_a_catalogue_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "catalogue.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        CatalogueImages(str(path)).open()
    with pytest.raises(FileNotFoundError, match="it names the folder of each set"):
        CatalogueImages(str(tmp_path / "none.json")).open()


def test_images_of_any_mode_become_input(tmp_path: Path) -> None:
    from PIL import Image

    images = small(tmp_path, "f,l\na.png,no\nb.png,no\nc.png,yes\nd.tif,yes\n")
    Image.fromarray(np.arange(80, dtype=np.uint16).reshape(10, 8) * 800).save(
        tmp_path / "set" / "a.png"
    )
    Image.new("P", (9, 9), 3).save(tmp_path / "set" / "b.png")
    Image.new("1", (9, 9), 1).save(tmp_path / "set" / "c.png")
    Image.new("CMYK", (9, 9), (9, 8, 7, 6)).save(tmp_path / "set" / "d.tif")
    images.open()
    recipe = ImageRecipe(8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    inputs = [recipe.evaluation_input(decode(images[index])) for index in range(4)]
    assert [tuple(one.shape) for one in inputs] == [(3, 8, 8)] * 4


def test_other_files_or_labels_are_other_images(tmp_path: Path) -> None:
    first = small(tmp_path, "f,l\na.png,no\nb.png,yes\n")
    first.open()
    (tmp_path / "set" / "table.csv").write_text("f,l\na.png,yes\nb.png,yes\n")
    second = CatalogueImages(str(first.catalogue), registry=str(tmp_path / "registry.yaml"))
    second.open()
    assert first.describe()["sets"] == second.describe()["sets"] == {"mine": 2}
    assert first.describe() != second.describe()
