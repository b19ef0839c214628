from pathlib import Path

from medvlp.data.records import ScanRecord, StudyRecord, StudySource
from medvlp.data.shuffled_reports import ShuffledReports


class TenStudies(StudySource):
    name = "ten"
    label_names = ("a",)

    def __init__(self) -> None:
        self.skips = []

    def studies(self):
        for row in range(10):
            yield StudyRecord(
                study_id=str(row),
                patient_id=str(row),
                split="train" if row < 8 else "test",
                scans=(ScanRecord(scan_id=str(row), path=Path(str(row))),),
                texts={"findings": str(row)},
                labels={"a": row % 2},
            )


def test_only_training_texts_change_owner_and_none_is_lost():
    before = list(TenStudies().studies())
    after = list(ShuffledReports(TenStudies(), seed=1).studies())
    texts = [study.texts["findings"] for study in after]
    assert texts[8:] == ["8", "9"]
    assert sorted(texts[:8]) == [str(row) for row in range(8)]
    assert texts[:8] != [str(row) for row in range(8)]
    assert [study.labels for study in after] == [study.labels for study in before]
