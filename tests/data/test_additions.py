from pathlib import Path

import pytest

from medvlp.data.additions import Additions

from .conftest import write_table


def test_without_tables_every_study_has_the_default_split_and_no_text() -> None:
    additions = Additions(default_split="train")
    additions.read()
    assert additions.split("a", "p") == "train"
    assert additions.texts("a") == {}


def test_tables_beside_the_data_or_named_are_read(tmp_path: Path) -> None:
    write_table(tmp_path / "splits.csv", [{"study": "a", "split": "val"}])
    reports = [{"study": "a", "findings": " Blood. ", "impression": "nan"}]
    write_table(tmp_path / "reports.csv", reports)
    additions = Additions(str(tmp_path))
    additions.read()
    assert additions.split("a", "p") == "val"
    assert additions.split("b", "q") == "test"
    assert additions.texts("a") == {"findings": "Blood."}
    write_table(tmp_path / "mine.csv", [{"study": "b", "split": "train"}])
    named = Additions(str(tmp_path), splits=str(tmp_path / "mine.csv"))
    named.read()
    assert named.split("b", "q") == "train" and named.describe()["splits"].endswith("mine.csv")


def test_a_patient_does_not_straddle_splits(tmp_path: Path) -> None:
    rows = [{"study": "a", "split": "train"}, {"study": "b", "split": "test"}]
    write_table(tmp_path / "splits.csv", rows)
    additions = Additions(splits=str(tmp_path / "splits.csv"))
    additions.read()
    additions.split("a", "p")
    with pytest.raises(ValueError, match="patient 'p' stand under 'train' and 'test'"):
        additions.split("b", "p")


def test_wrong_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split is 'training'"):
        Additions(default_split="training")
    write_table(tmp_path / "splits.csv", [{"study": "a", "split": "dev"}])
    with pytest.raises(ValueError, match="split 'dev'"):
        Additions(splits=str(tmp_path / "splits.csv")).read()
    write_table(tmp_path / "reports.csv", [{"study": "a", "text": "x"}])
    with pytest.raises(ValueError, match="none of the columns report, findings, impression"):
        Additions(reports=str(tmp_path / "reports.csv")).read()


def test_reports_may_be_a_file_of_strings(tmp_path: Path) -> None:
    (tmp_path / "brain.json").write_text('{"a": {"series": {"T1": {}}, "report": ["B.", "A."]}}')
    additions = Additions(reports=str(tmp_path / "brain.json"))
    additions.read()
    assert additions.texts("a") == {"text_00": "B.", "text_01": "A."}
