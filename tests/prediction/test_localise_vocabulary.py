"""Words of one's own in place of the trained ones, and vocabularies that cannot be right."""

from pathlib import Path

import pytest

from medvlp import localise

from .lesion_files import outputs, write_published, write_study

# sub-locations that no training saw: the zero-shot list of HCL-AL's supplement
# (Gao et al., IEEE TMI 2025, doi 10.1109/TMI.2025.3599197)
PARTS = {
    "Stomach": ("Gastric fundus", "Gastric body", "Antrum", "Pylorus"),
    "Pancreas": ("Pancreatic head", "Pancreatic body", "Pancreatic tail"),
}


def vocabulary(folder: Path) -> Path:
    lines = ["places:", "  Abdomen:"]
    for coarse, parts in PARTS.items():
        lines += [f"    {coarse}:", *(f"      {part}: {part}" for part in parts)]
    words = [*PARTS, *(part for parts in PARTS.values() for part in parts)]
    lines += ["descriptions:", *(f"  {word}: in the {word.lower()}" for word in words)]
    path = folder / "mine.yaml"
    path.write_text("\n".join(lines))
    return path


def test_new_words_need_no_training(tmp_path: Path) -> None:
    study, words = write_study(tmp_path), vocabulary(tmp_path)
    coarse = write_published(tmp_path / "coarse.pth", spacing=[4, 4, 4])
    fine = write_published(tmp_path / "fine.pth")
    stages = ["--coarse", str(coarse), "--fine", str(fine), "--no-pictures"]
    localise.main([*study, *stages, "--vocabulary", str(words), "--out", str(tmp_path / "out")])
    rows, listed = outputs(tmp_path / "out")
    assert len(rows) == 3
    for row, entry in zip(rows, listed, strict=True):
        best = entry["places"][0]
        body, where, word = best["path"]
        assert body == "Abdomen" and word in PARTS[where] and row["pred"] == best["name"]
        assert len(entry["places"]) == 7
        assert sum(place["probability"] for place in entry["places"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Antrum: Antrum", "Antrum: Pylorus", "final name 'Pylorus' more than once"),
        ("Antrum: Antrum", "Pancreas: Antrum", ""),
        ("  Antrum: in the antrum", "", "lacks the description of 1 of 9"),
        ("in the antrum", "in the pylorus", "same description"),
        ("Antrum: Antrum", "Antrum: 'Antrum, left'", "has a comma"),
    ],
)
def test_vocabularies_that_cannot_be_right(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    study, path = write_study(tmp_path), vocabulary(tmp_path)
    text = path.read_text().replace(old, new, 1)
    if not message:  # a circle: the stomach is part of the pancreas, which is part of the stomach
        text = text.replace("Pancreatic tail: Pancreatic tail", "Stomach: Pancreatic tail", 1)
        message = "is part of itself"
    path.write_text(text)
    coarse = write_published(tmp_path / "coarse.pth")
    options = ["--coarse", str(coarse), "--vocabulary", str(path), "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match=message) as told:
        localise.main([*study, *options])
    assert str(path) in str(told.value)
