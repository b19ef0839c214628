import json
from pathlib import Path

import pytest

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_tags import main, to_names, to_words
from medvlp.data.place_file import Place

PLACES = PlaceVocabulary(
    [
        Place("Chest", "Left lung", "Apex", "Left apex"),
        Place("Chest", "Right lung", "Apex", "Right apex"),
        Place("Chest", "Heart", "Heart", "Heart"),
    ],
    {},
)


def test_every_name_comes_back_and_so_do_lesions_of_several() -> None:
    rows = [{"x": str(k), "GT": place.name} for k, place in enumerate(PLACES.places)]
    rows.append({"x": "9", "GT": ",".join(place.name for place in PLACES.places)})
    words = to_words(rows, PLACES)
    assert words.rows[1] == {"x": "1", "coarse_gt": "Right lung", "fine_gt": "Apex"}
    assert len(words.rows) == 6
    assert to_names(words.rows, PLACES).rows == rows
    assert not words.problems


def test_what_cannot_be_converted_is_told() -> None:
    words = to_words([{"GT": "Left apx,Heart"}, {"GT": ""}], PLACES)
    assert [row["fine_gt"] for row in words.rows] == ["Heart"]
    assert "mean 'Left apex'" in words.problems[0] and "no name" in words.problems[1]
    rows = [{"coarse_gt": "Heart", "fine_gt": "Apex"}, {"coarse_gt": "Hart", "fine_gt": "x"}]
    names = to_names(rows, PLACES)
    assert not names.rows
    assert "not a fine word of 'Heart'" in names.problems[0] and "'Heart'" in names.problems[1]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = {"Chest": {"Heart": {"Heart": "Heart"}}}
    (tmp_path / "places.json").write_text(json.dumps(tree))
    table = "image_path,x,y,z,width,height,depth,GT\na/b.nii,1,2,3,4,5,6,Heart\n"
    (tmp_path / "anno.csv").write_text(table, encoding="utf-8-sig")
    anno, train, again = (str(tmp_path / f"{name}.csv") for name in ("anno", "train", "again"))
    vocabulary = ["--vocabulary", str(tmp_path / "places.json")]
    main([anno, train, *vocabulary])
    assert Path(train).read_text().endswith("coarse_gt,fine_gt\na/b.nii,1,2,3,4,5,6,Heart,Heart\n")
    main([train, again, *vocabulary, "--back"])
    assert Path(again).read_text() == table
    assert "left out: 0" in capsys.readouterr().out
    (tmp_path / "anno.csv").write_text(table.replace(",Heart", ",Hart"))
    with pytest.raises(SystemExit, match="nothing is left of 1 rows"):
        main([anno, train, *vocabulary])
