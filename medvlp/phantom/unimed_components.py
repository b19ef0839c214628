"""The 13 shard sets of UniMed: folder, size, what they show, and how their text fields look.

Folders, numbers of shards and forms of the fields are those of github.com/mbzuai-oryx/UniMed-CLIP.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medvlp.phantom.image_captions import (
    label_captions,
    name_of,
    native_caption,
    report,
    wordings,
)

TextWriter = Callable[[str, str, np.random.Generator], str]


@dataclass(frozen=True)
class Component:
    """One of the 13.

    Attributes:
        folder: Name.
        shards: How many of 1000 samples the real one has.
        modalities: What it shows, one after the other.
        text: Writes the field of an image, called as `text(modality, finding, generator)`.
    """

    folder: str
    shards: int
    modalities: tuple[str, ...]
    text: TextWriter


def _labelled(marker: str, *, strip: bool = True) -> TextWriter:
    def write(modality: str, finding: str, generator: np.random.Generator) -> str:
        captions = label_captions(modality, name_of(modality, finding))
        # as published, RadImageNet's captions keep their full stop and get another
        return "".join(f"{c.strip('.') if strip else c}.{marker}" for c in captions)

    return write


def _openi(modality: str, finding: str, generator: np.random.Generator) -> str:
    captions = [native_caption(modality, finding, generator) for _ in range(4)]
    return "".join(f"{caption.strip('.')}._openi_" for caption in captions)


def _mimic(modality: str, finding: str, generator: np.random.Generator) -> str:
    captions = _labelled("_mimiccxr_")(modality, finding, generator)
    last = report(modality, finding, generator) if generator.random() < 0.7 else "noreportpresent"
    return f"{captions}_mimiccxr_{last}"


def _retina(modality: str, finding: str, generator: np.random.Generator) -> str:
    marker = "_all_retina_merged_"
    whole = native_caption(modality, finding, generator).strip(".")
    return _labelled(marker)(modality, finding, generator) + f"{whole}.{marker}"


def _keyword(modality: str, finding: str, generator: np.random.Generator) -> str:
    phrases = wordings()["findings"][modality][finding]["phrases"]
    return f"The fundus image of {phrases[int(generator.integers(len(phrases)))]}"


_RADIOLOGY = ("xray", "ct", "mri", "ultrasound")
_ALL = (*_RADIOLOGY, "pathology", "fundus")

COMPONENTS = (
    Component(
        "radimagenet_webdataset",
        1049,
        ("ct", "mri", "ultrasound"),
        _labelled("_radimagenet_", strip=False),
    ),
    Component("chexpert_webdataset", 212, ("xray",), _labelled("_chexpert_")),
    Component("openi_webdataset", 7, ("xray",), _openi),
    Component("chest_xray8_webdataset", 113, ("xray",), _labelled("_chestxray8_")),
    Component("mimic_cxr_webdataset", 270, ("xray",), _mimic),
    Component("rocov2_webdataset", 61, _RADIOLOGY, native_caption),
    Component("pmc_oa_webdataset", 1645, _ALL, native_caption),
    Component("llava_med_alignment_webdataset", 468, _ALL, native_caption),
    Component("llava_med_instruct_webdataset", 265, _ALL, native_caption),
    Component("quilt_1m_webdataset", 1018, ("pathology",), native_caption),
    Component("retina_part1_webdataset", 155, ("fundus",), _retina),
    Component("retina_part2_webdataset", 13, ("fundus",), _keyword),
    Component("retina_part3_webdataset", 6, ("fundus",), native_caption),
)

HELD_OUT = tuple(
    Component(folder, 0, _ALL, native_caption) for folder in ("validation_pairs", "test_pairs")
)
