import io
import logging
import random
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medvlp.data.caption_choice import (
    MultiCaption,
    caption_candidates,
    choose_caption,
    has_caption,
)
from medvlp.data.image_datamodule import ImageDataModule
from medvlp.data.image_dataset import ImageDataset
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.sampling import SampleKey
from medvlp.data.shard_images import ShardImages
from medvlp.losses.functional import match_statements
from medvlp.text.tokenizers import WordPieceTokenizer
from medvlp.types import TextKind


def joined(marker: str, *captions: str) -> str:
    return "".join(caption + marker for caption in captions)


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


TEN = [f"Variant {number} of the label." for number in range(10)]
MIMIC = joined("_mimiccxr_", *TEN) + "_mimiccxr_"


@pytest.mark.parametrize("marker", ["_radimagenet_", "_chexpert_", "_chestxray8_"])
def test_one_of_ten(marker: str) -> None:
    assert caption_candidates(joined(marker, *TEN, "The eleventh.")) == TEN


def test_empty_captions_are_kept_only_as_published() -> None:
    field = joined("_chexpert_", "One.", "", " Two. ", ".")
    assert caption_candidates(field) == ["One.", "Two."]
    assert caption_candidates(field, "published") == ["One.", "", " Two. ", ".", ""]


def test_a_report_comes_before_captions() -> None:
    assert caption_candidates(MIMIC + "Clear lungs.") == ["Clear lungs."]
    for missing in ("noreportpresent", "", " "):
        assert caption_candidates(MIMIC + missing) == TEN
    assert caption_candidates(MIMIC, "published") == [""]  # an empty report is a report there


def test_what_the_published_loader_never_draws_has_a_name() -> None:
    openi = joined("_openi_", "Original.", "First rewrite.", "Second rewrite.")
    assert caption_candidates(openi) == ["Original."]
    assert len(caption_candidates(openi, also=["openi_rewrites"])) == 3
    retina = joined("_all_retina_merged_", *TEN, "A sentence.")
    assert caption_candidates(retina) == TEN
    assert caption_candidates(retina, also=["retina_sentence"]) == [*TEN, "A sentence."]
    drawn = Counter(caption_candidates(MIMIC + "Clear lungs.", also=["mimic_captions"]))
    assert drawn["Clear lungs."] == 10 and all(drawn[caption] == 1 for caption in TEN)
    with pytest.raises(ValueError, match="never draws"):
        MultiCaption("published", also=["openi_rewrites"])
    with pytest.raises(ValueError, match="names openi_rewrite, expected some of openi_rewrites"):
        MultiCaption(also=["openi_rewrite"])


NOTHING = ["", " \n", "...", "_chexpert_", "._radimagenet_", "_openi__openi_"]
NOTHING += ["_mimiccxr__mimiccxr_", "_mimiccxr__mimiccxr_noreportpresent"]


@pytest.mark.parametrize("field", NOTHING)
def test_nothing_said(field: str) -> None:
    assert not has_caption(field)
    assert MultiCaption()({"caption": field}, chance()) == []
    assert MultiCaption().statements({"caption": field}) == ()


def test_a_single_caption_takes_no_draw() -> None:
    generator = random.Random(0)
    state = generator.getstate()
    assert choose_caption(["only"], generator) == "only" and generator.getstate() == state


def test_a_caption_follows_from_the_generator_and_all_are_drawn() -> None:
    sections = {"caption": joined("_chexpert_", *TEN)}
    drawn = [MultiCaption()(sections, chance(seed))[0] for seed in range(200)]
    assert drawn[:5] == [MultiCaption()(sections, chance(seed))[0] for seed in range(5)]
    assert {unit.text for unit in drawn} == set(TEN)
    assert all(unit.kind is TextKind.REPORT for unit in drawn)


@pytest.mark.parametrize("sampler", [MultiCaption(), MultiCaption("published")])
def test_an_evaluation_always_sees_the_first_caption_that_says_something(
    sampler: MultiCaption,
) -> None:
    sections = {"caption": joined("_chexpert_", "", *TEN)}
    texts = {sampler.evaluation(sections, chance(seed))[0].text for seed in range(20)}
    assert texts == {TEN[0]}


def test_a_text_is_true_of_the_images_of_its_label() -> None:
    """Which is what a label-aware loss looks at: statements of a text within those of an image."""
    edema = {"caption": joined("_chexpert_", "Edema is seen.", "The lungs are wet. Edema.")}
    normal = {"caption": joined("_chexpert_", "No finding.", "A normal X-ray.")}
    plain = {"caption": "Edema is seen. A tube is in place."}
    sampler = MultiCaption()
    images = [sampler.statements(sections) for sections in (edema, edema, normal, plain)]
    longest = max(map(len, images))
    rows = torch.tensor([[*row, *[-1] * (longest - len(row))] for row in images])
    for seed in range(3):
        unit = sampler(edema, chance(seed))[0]
        positive = match_statements(torch.tensor([unit.statements]), rows)[0].tolist()
        assert positive == [True, True, False, unit.text == "Edema is seen."]


@pytest.fixture
def images(tmp_path: Path) -> ShardImages:
    """One image with ten captions."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    field = joined("_dr_", *TEN).encode()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("0.png", buffer.getvalue()), ("0.txt", field)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return ShardImages(str(tmp_path / "a.tar"), name="a")


RECIPE = ImageRecipe(8, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.mark.parametrize(("training", "expected"), [(True, set(TEN)), (False, {TEN[0]})])
def test_epochs_differ_in_training_alone(
    images: ShardImages, training: bool, expected: set[str]
) -> None:
    images.open()
    dataset = ImageDataset(
        [images],
        RECIPE,
        rows=[np.arange(1)],
        texts=MultiCaption(),
        label_names=(),
        seed=0,
        training=training,
    )
    samples = [dataset[[SampleKey(epoch, 0)]][0] for epoch in range(80)]
    assert {sample.texts[0].text for sample in samples} == expected
    assert all(set(s.texts[0].statements) < set(s.statements) for s in samples)
    assert len(samples[0].statements) == 10


def test_joined_captions_shown_as_one_text_are_warned_of(
    images: ShardImages, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for sampler, warned in ((None, 1), (MultiCaption(), 1)):
        module = ImageDataModule(
            RECIPE,
            train=[images],
            cache_dir=str(tmp_path / "cache"),
            tokenizer=WordPieceTokenizer("phantom", 16),
            texts=sampler,
            inspect=False,
        )
        with caplog.at_level(logging.WARNING):
            module.prepare_data()
            module.setup("fit")
        assert caplog.text.count("several captions of an image by '_dr_'") == warned
