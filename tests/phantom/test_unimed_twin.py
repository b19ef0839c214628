"""UniMed's twin: published layout, several captions a field, hard cases that are told apart."""

import io
import json
import tarfile
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvlp.data.caption_choice import caption_candidates, has_caption
from medvlp.phantom.image_captions import all_texts, label_captions, name_of, native_caption
from medvlp.phantom.image_captions import wordings as words_of_images
from medvlp.phantom.image_painter import FINDINGS
from medvlp.phantom.image_twins import ImageTwin, TwinShards
from medvlp.phantom.image_vocabulary import build_image_vocabulary
from medvlp.phantom.unimed import sizes
from medvlp.phantom.unimed_components import COMPONENTS
from medvlp.prompts.prompt_ensembles import PromptEnsembles
from medvlp.text.tokenizers import WordPieceTokenizer


def twin(root, **changes) -> ImageTwin:
    chosen = {"num_train": 60, "num_test": 12, "size": 24, "hard_cases": True, **changes}
    return ImageTwin(str(root), dataset="unimed", **chosen)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    one = twin(tmp_path_factory.mktemp("unimed"))
    one.materialise()
    return one


def opened(one: ImageTwin, component: str) -> TwinShards:
    images = TwinShards(one, component=component)
    images.open()
    return images


def test_all_components_lie_there_as_published(written, tmp_path):
    for component, size in zip(COMPONENTS, sizes(60), strict=True):
        images = opened(written, component.folder)
        assert len(images) >= size > 0
        item = images[0]
        assert Image.open(io.BytesIO(item.content)).size[0] >= 24
        assert caption_candidates(item.texts["caption"])
    with tarfile.open(f"{written.root}/quilt_1m_webdataset/dataset-000001.tar") as shard:
        assert shard.getnames()[:3] == ["000000.jpg", "000000.txt", "000001.jpg"]


def test_components_are_as_large_as_roots_of_the_real_sizes():
    counts = dict(zip((component.folder for component in COMPONENTS), sizes(10_000), strict=True))
    assert sum(counts.values()) == 10_000
    ratio = counts["pmc_oa_webdataset"] / counts["retina_part3_webdataset"]
    assert ratio == pytest.approx((1645 / 6) ** 0.5, rel=0.02)


def test_label_sets_hold_ten_captions_and_native_sets_one(written):
    def captions(folder: str) -> list[str]:
        return caption_candidates(opened(written, folder)[0].texts["caption"])

    for folder in ("radimagenet", "chexpert", "chest_xray8", "retina_part1"):
        assert len(set(captions(f"{folder}_webdataset"))) == 10
    for folder in ("openi", "rocov2", "pmc_oa", "quilt_1m", "retina_part2"):
        assert len(captions(f"{folder}_webdataset")) == 1


def test_hard_cases_are_named_and_each_is_what_it_says(written):
    record = json.loads(Path(written.root, "twin.json").read_text())
    studies = {case["kind"]: case["study"] for case in record["hard_cases"]}
    assert set(studies) == {
        *("empty caption", "only a marker", "16-bit PNG", "CMYK JPEG", "palette PNG"),
        *("broken image", "cut shard", "empty shard"),
    }
    for kind, mode in (("16-bit PNG", "I;16"), ("CMYK JPEG", "CMYK"), ("palette PNG", "P")):
        folder, shard, key = studies[kind].split("/")
        with tarfile.open(f"{written.root}/{folder}/{shard}") as tar:
            member = tar.extractfile(f"{key}.jpg")
            assert member is not None
            assert Image.open(member).mode == mode
    images = opened(written, "chexpert_webdataset")
    silent = [i for i in range(len(images)) if not has_caption(images[i].texts["caption"])]
    assert len(silent) == 2
    assert any(skip.reason for skip in opened(written, "pmc_oa_webdataset").skips)


def test_another_seed_gives_other_images_and_the_same_one_the_same(written, tmp_path):
    def first(one: ImageTwin) -> bytes:
        one.materialise()
        return opened(one, "quilt_1m_webdataset")[0].content

    same = twin(tmp_path / "same", num_train=40)
    assert first(same) == opened(written, "quilt_1m_webdataset")[0].content
    assert first(twin(tmp_path / "other", seed=1)) != first(same)


def test_held_out_pairs_show_all_modalities(written):
    for folder in ("validation_pairs", "test_pairs"):
        assert len(opened(written, folder)) == 12
    ours, theirs = (opened(written, name)[0] for name in ("validation_pairs", "test_pairs"))
    assert ours.content != theirs.content


def test_every_finding_has_words():
    for modality, findings in FINDINGS.items():
        names = {name_of(modality, finding) for finding in findings}
        assert names == set(words_of_images()["findings"][modality])
        for name in names:
            assert len(set(label_captions(modality, name))) == 10


def test_captions_are_not_the_prompts():
    prompts = {
        text.strip(".").lower()
        for name in ("unimed_clip", "phantom_unimed")
        for one in PromptEnsembles.load(name).sets.values()
        for texts in one.values()
        for text in texts
    }
    generator = np.random.default_rng(0)
    for modality, findings in FINDINGS.items():
        for finding in findings:
            written = {native_caption(modality, finding, generator) for _ in range(40)}
            written |= set(label_captions(modality, name_of(modality, finding)))
            assert not prompts & {text.strip(".").lower() for text in written}


def test_the_shipped_vocabulary_is_what_the_function_builds_and_knows_all_words():
    tokenizer, built = WordPieceTokenizer("phantom_unimed", 64), build_image_vocabulary()
    texts = list(all_texts())
    for one in PromptEnsembles.load("unimed_clip").sets.values():
        texts += [text for group in one.values() for text in group]
    ids = set(tokenizer(texts).input_ids.flatten().tolist())
    shipped = resources.files("medvlp.text").joinpath("vocab/phantom_unimed.txt")
    assert shipped.read_text(encoding="utf-8").splitlines() == built
    assert len(built) <= 1024
    assert not {built[i] for i in ids if built[i] == "[UNK]" or built[i].startswith("##")}
