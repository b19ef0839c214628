"""Painted 2D images: every finding, at any size, the same for the same seed."""

import numpy as np
import pytest

from medvlp.phantom.image_painter import FINDINGS, MODALITIES, paint

ALL = [(modality, finding) for modality in MODALITIES for finding in FINDINGS[modality]]


def painted(modality: str, finding: str, seed: int, size: int = 48):
    return paint(modality, finding, np.random.default_rng(seed), size=size)


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_finding_is_painted_and_a_seed_decides_it(modality):
    assert len(FINDINGS[modality]) >= 6
    for finding in FINDINGS[modality]:
        first = painted(modality, finding, 1)
        assert first.shape == (48, 48, 3) and first.dtype == np.uint8
        assert first.std() > 8
        np.testing.assert_array_equal(first, painted(modality, finding, 1))
        assert (first != painted(modality, finding, 2)).any()


def test_findings_differ_by_more_than_chance():
    # with one seed all nuisance agrees as far as it is drawn before the finding
    for modality, finding in ALL:
        other = next(name for name in FINDINGS[modality] if name != finding)
        assert (painted(modality, finding, 3) != painted(modality, other, 3)).mean() > 0.005


def test_only_pathology_and_fundus_have_colours():
    for modality in MODALITIES:
        image = painted(modality, FINDINGS[modality][0], 0)
        assert (image[..., 0] == image[..., 2]).all() == (modality not in ("pathology", "fundus"))


@pytest.mark.parametrize("size", [16, 33, 224])
def test_any_size(size):
    for modality, finding in ALL[::7]:
        assert painted(modality, finding, 0, size).shape == (size, size, 3)


@pytest.mark.parametrize(
    ("modality", "finding", "said"),
    [
        ("pet", "normal", "'xray', 'ct'"),
        ("xray", "fracture", r"known: \['normal', 'pneumonia'"),
    ],
)
def test_what_cannot_be_painted_is_named_with_what_can(modality, finding, said):
    with pytest.raises(ValueError, match=said):
        painted(modality, finding, 0)


def test_too_small_an_image_is_refused():
    with pytest.raises(ValueError, match="size 8 is too small"):
        painted("ct", "axial liver", 0, 8)
