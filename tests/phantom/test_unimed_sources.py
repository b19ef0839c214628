"""The twins of UniMed's sources: from raw files to the shards that must come out."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hydra.utils import instantiate
from jsonargparse import ArgumentParser

from medvlp import config
from medvlp.data.caption_choice import caption_candidates
from medvlp.data.shard_images import ShardImages
from medvlp.data.shard_manifest import ShardManifest
from medvlp.phantom.__main__ import main
from medvlp.phantom.registry import UNIMED_SOURCES
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.phantom.unimed_source_layouts import AGES
from medvlp.phantom.unimed_source_table import SOURCES
from medvlp.phantom.unimed_sources import write_unimed_sources_twin
from medvlp.prepare import prepare_shards

NUM_IMAGES = 3


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ShardManifest]:
    folder = tmp_path_factory.mktemp("unimed")
    small = [f"data.twin.num_train={NUM_IMAGES}", "data.twin.size=24", f"paths.data={folder}"]
    cfg = config.compose(["data=phantom/unimed_sources", *small], "prepare")
    manifests = prepare_shards(cfg)
    return dict(zip(SOURCES, manifests, strict=True))


def root_of(manifest: ShardManifest) -> Path:
    return manifest.folder.parents[1] / "unimed_sources"


def truth_of(name: str, manifest: ShardManifest) -> dict[str, list[dict[str, str]]]:
    return json.loads((root_of(manifest) / "ground_truth" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", SOURCES)
def test_the_samples_that_must_come_out_do_and_are_read_back(
    prepared: dict[str, ShardManifest], name: str
) -> None:
    manifest = prepared[name]
    truth = truth_of(name, manifest)
    images = ShardImages(f"{manifest.folder}/dataset-*.tar", name=name)
    images.open()
    samples = truth["samples"]
    mentions = NUM_IMAGES if name == "llava_med_instruct" else 0
    assert len(images) == manifest.num_samples == len(samples) + mentions and not images.skips
    for index, sample in enumerate(samples):
        item = images[index]
        file = root_of(manifest) / SOURCES[name].images / sample["image"]
        assert item.content == file.read_bytes()
        assert said(name, sample) in item.texts["caption"]


@pytest.mark.parametrize("name", ["radimagenet", "chexpert", "chest_xray8", "retina_part1"])
def test_training_draws_among_the_captions_that_were_written(
    prepared: dict[str, ShardManifest], name: str
) -> None:
    manifest = prepared[name]
    for example, sample in zip(
        manifest.examples, truth_of(name, manifest)["samples"], strict=False
    ):
        assert example["image"] == sample["image"]
        assert caption_candidates(example["text"]) == list(sample["captions"])


def said(name: str, sample: dict[str, str]) -> str:
    if name == "retina_part2":
        return "65 year old" if sample["odd"] == AGES else "The fundus image of "
    return sample["captions"][0].rstrip(".")


@pytest.mark.parametrize("name", SOURCES)
def test_everything_odd_is_left_out_and_counted(
    prepared: dict[str, ShardManifest], name: str
) -> None:
    manifest = prepared[name]
    left_out = Counter(row["why"] for row in truth_of(name, manifest)["left_out"])
    times = 2 if name == "llava_med_instruct" else 1  # every row is read for either text
    assert manifest.num_skipped == sum(left_out.values()) * times
    assert manifest.skips["the path of the image leads out of the image folder"] == 1
    rows = (manifest.folder / "quarantine.csv").read_text().splitlines()
    assert len(rows) == 1 + manifest.num_skipped


def test_each_source_has_a_caption_table_of_three_rows(
    prepared: dict[str, ShardManifest],
) -> None:
    assert [len(manifest.examples) for manifest in prepared.values()] == [3] * 13


@pytest.mark.parametrize("name", ["openi", "llava_med_instruct", "retina_part1"])
def test_a_source_is_prepared_alone_from_its_own_twin(name: str, tmp_path: Path) -> None:
    main([f"unimed_{name}", str(tmp_path / "raw"), "--studies", "2", "--shape", "16", "16", "16"])
    overrides = [f"data=unimed/{name}", f"paths.raw={tmp_path / 'raw'}", f"paths.data={tmp_path}"]
    cfg = config.compose([*overrides, "max_quarantine_share=0.0"], "prepare")
    (manifest,) = prepare_shards(cfg)
    assert manifest.folder == tmp_path / "unimed" / f"{name}_webdataset"
    assert manifest.num_samples == (4 if name == "llava_med_instruct" else 2)
    assert manifest.samples_per_shard == 1000


@pytest.mark.parametrize("name", UNIMED_SOURCES)
def test_each_source_has_a_config_of_its_own(name: str, tmp_path: Path) -> None:
    cfg = config.compose([f"data=unimed/{name}", f"paths.raw={tmp_path}"], "prepare")
    assert list(cfg.data.sources) == [name]


@pytest.mark.parametrize("name", ["unimed/all", "phantom/unimed_sources"])
def test_the_configs_build_in_both_ways(name: str, tmp_path: Path) -> None:
    cfg = config.compose([f"data={name}", f"paths.raw={tmp_path}"], "prepare")
    data = config.resolve(cfg)["data"]
    config.check_keys(data)
    built = instantiate(data, _convert_="all")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=type(built))
    parsed = parser.parse_object({"data": config.to_class_path(data)})
    again = parser.instantiate(parsed).data
    assert list(built.sources) == list(UNIMED_SOURCES)
    for key, source in built.sources.items():
        assert vars(again.sources[key]).keys() == vars(source).keys()
        assert again.sources[key].annotations == source.annotations


def test_the_same_parameters_give_the_same_bytes(tmp_path: Path) -> None:
    parameters = TwinParameters(2, 0, shape=(16, 16, 16), hard_cases=True, kinds=("chexpert",))
    roots = [write_unimed_sources_twin(tmp_path / name, parameters) for name in "ab"]
    files = [
        {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*.*")
            if path.is_file()
        }
        for root in roots
    ]
    assert files[0] == files[1]


def test_an_unknown_source_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    parameters = TwinParameters(1, 0, kinds=("chexprt",))
    with pytest.raises(ValueError, match=r"no source 'chexprt'; known: radimagenet, chexpert"):
        write_unimed_sources_twin(tmp_path / "twin", parameters)


def test_a_source_that_is_not_there_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from medvlp.data.engine import PreparationError

    main(["unimed_quilt_1m", str(tmp_path / "raw"), "--studies", "2", "--shape", "16", "16", "16"])
    overrides = ["data=unimed/all", f"paths.raw={tmp_path / 'raw'}", f"paths.data={tmp_path}"]
    (manifest,) = prepare_shards(config.compose([*overrides, "data.only=[quilt_1m]"], "prepare"))
    assert manifest.num_samples == 2
    with pytest.raises(PreparationError, match=r"12 of 13 sources:\n  radimagenet: the annotation"):
        prepare_shards(config.compose(overrides, "prepare"))
    assert "quilt_1m_webdataset" in capsys.readouterr().out
