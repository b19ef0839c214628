import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medvlp.data.ct_rate import CTRate
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.engine import LocalEngine
from medvlp.data.organ_captions import OrganCaptions
from medvlp.data.organ_reports import WithOrganTexts
from medvlp.data.organ_texts import OrganCaptionSampler
from medvlp.data.records import ScanRecord, Skip, StudyRecord, StudySource
from medvlp.data.volume_datamodule import VolumeDataModule

from .conftest import CTRateTree
from .volume_batches import Letters

ORGANS = ("lung", "heart", "aorta")
DESCRIPTIONS = {"a": {"lung": "A nodule", "aorta": ""}, "x": {"lung": "Clear"}}
CONCLUSIONS = {"a": {"aorta": "", "heart": "Cardiomegaly", "thyroid": "Nodule"}, "c": {}}
REPORT = {"findings": "Calcific plaques in the aorta.", "impression": "Atheroma."}


class Source(StudySource):
    def __init__(self, names: tuple[str, ...] = ("a", "b", "c")) -> None:
        self.name, self.label_names, self.names = "source", (), names
        self.skips = []

    def studies(self) -> Iterator[StudyRecord]:
        self.skips = [Skip("d", "no volume")]
        for name in self.names:
            scans = (ScanRecord(name, Path(name)),)
            yield StudyRecord(name, name, "train", scans, texts=REPORT)


@pytest.fixture
def files(tmp_path) -> tuple[str, str]:
    paths = (tmp_path / "desc_info.json", tmp_path / "conc_info.json")
    for path, tree in zip(paths, (DESCRIPTIONS, CONCLUSIONS), strict=True):
        path.write_text(json.dumps(tree))
    return str(paths[0]), str(paths[1])


@pytest.mark.parametrize("compat", [None, "published"])
def test_the_sections_make_the_captions_of_the_files(files, compat):
    first, *_ = WithOrganTexts(Source(), *files).studies()
    expected = OrganCaptions(*files, organs=ORGANS, compat=compat).of("a")
    units = OrganCaptionSampler(ORGANS, compat=compat)(first.texts, np.random.default_rng(0))
    assert [unit.text for unit in units] == [c.encoder_text for c in expected.values()]
    assert [not unit.normal for unit in units] == [c.abnormal for c in expected.values()]
    assert first.texts["findings"] == REPORT["findings"]
    assert first.texts["impression/thyroid"] == "Nodule"  # for models of more organs


def test_what_is_missing_is_told(files):
    source = WithOrganTexts(Source(), *files)
    _, second, third = source.studies()
    assert second.texts == third.texts == REPORT
    assert [(skip.id, skip.reason) for skip in source.skips] == [
        ("d", "no volume"),
        ("b", "desc_info.json and conc_info.json say nothing of its organs"),
        ("c", "desc_info.json and conc_info.json say nothing of its organs"),
        ("x", "desc_info.json and conc_info.json: the data set has no such study"),
    ]


def test_files_of_other_studies_are_refused(files):
    with pytest.raises(ValueError, match=r"name none of the studies of source; .* 'a', .*'v'"):
        list(WithOrganTexts(Source(("v",)), *files).studies())


def test_without_files_it_is_the_data_set(files):
    source = WithOrganTexts(Source())
    assert [study.texts for study in source.studies()] == [REPORT] * 3
    assert source.describe() == {"name": "source"}
    assert source.skips == [Skip("d", "no volume")]
    assert WithOrganTexts(Source(), *files).describe()["organ_texts"] == list(files)
    with pytest.raises(ValueError, match="both files"):
        WithOrganTexts(Source(), files[0])


def test_batches_have_the_captions_and_what_is_odd_is_counted(
    tree: CTRateTree, recipe: CTRecipe, files, tmp_path, caplog
):
    tree.write()
    studies = {study.study_id: study for study in CTRate(str(tree.root)).studies()}
    Path(files[0]).write_text(json.dumps({name: {"lung": f"Of {name}"} for name in studies}))
    module = VolumeDataModule(
        WithOrganTexts(CTRate(str(tree.root)), *files),
        recipe,
        cache_dir=str(tmp_path / "cache"),
        tokenizer=Letters(),
        texts=OrganCaptionSampler(["heart", "lung"]),
        batch_size=2,
        engine=LocalEngine(1),
    )
    module.prepare_data()
    with caplog.at_level(logging.WARNING):
        module.setup("fit")
    assert "training studies" not in caplog.text
    batch = next(iter(module.train_dataloader()))
    assert batch["text_organ"].tolist() == [0, 1, 0, 1]
    module.texts, module.datasets = OrganCaptionSampler(["heart"]), {}
    with caplog.at_level(logging.WARNING):
        module.setup("fit")
    assert "training studies say nothing of any of the organs heart: all are normal" in caplog.text
