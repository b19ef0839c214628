"""Where the twins of UniMed's sources put what, and what is odd in each.

Folders and file names are those of the data guide of github.com/mbzuai-oryx/UniMed-CLIP.
"""

from dataclasses import dataclass

from medvlp.phantom import unimed_source_layouts as layouts
from medvlp.phantom.unimed_source_layouts import (
    AGES,
    CELLS,
    EMPTY,
    LINE,
    LIST,
    NO_OWN,
    NUL,
    NUMBER,
    UNICODE,
)

_RADIOLOGY = ("ct", "mri", "ultrasound")
_ALL = ("xray", *_RADIOLOGY, "pathology", "fundus")
_FUNDUS, _TABLES = "Retina-Datasets", "Retina-Datasets/Retina-Annotations"


@dataclass(frozen=True)
class SourceLayout:
    """How the twin of a source is laid out.

    Attributes:
        annotations: Folder of the annotation files.
        images: Folder that the paths of the images are below.
        names: Path of image {i}, with its suffix.
        modalities: What it shows, one after the other.
        layout: Writes the annotation files.
        hard_cases: Beyond those of every source.
        label_set: Whether captions were written for labels.
    """

    annotations: str
    images: str
    names: str
    modalities: tuple[str, ...]
    layout: layouts.Layout
    hard_cases: tuple[str, ...]
    label_set: bool = False


SOURCES: dict[str, SourceLayout] = {
    "radimagenet": SourceLayout(
        "radimagenet/radiology_ai",
        "radimagenet",
        "radiology_ai/CT/abd/normal/ct{i:05d}.png",
        _RADIOLOGY,
        layouts.labels("radimagenet_with_captions_training_set.csv"),
        (LIST, EMPTY),
        label_set=True,
    ),
    "chexpert": SourceLayout(
        "CheXpert-v1.0-small",
        "CheXpert-v1.0-small",
        "train/patient{i:05d}/study1/view1_frontal.jpg",
        ("xray",),
        layouts.labels("chexpert_with_captions_only_frontal_view.csv"),
        (LIST, NUL),
        label_set=True,
    ),
    "openi": SourceLayout(
        "openi",
        "openi/image",
        "CXR{i}_IM-0001-3001.png",
        ("xray",),
        layouts.openi,
        (EMPTY, NO_OWN, NUL),
    ),
    "chest_xray8": SourceLayout(
        "chest_xray8",
        "chest_xray8/images",
        "{i:08d}_000.png",
        ("xray",),
        layouts.labels("Chest-Xray8_with_captions.csv"),
        (EMPTY,),
        label_set=True,
    ),
    "mimic_cxr": SourceLayout(
        "mimic-cxr-jpg",
        "mimic-cxr-jpg",
        "2.0.0/files/p10/p1000{i:04d}/s5000{i:04d}/view.jpg",
        ("xray",),
        layouts.mimic,
        (NO_OWN, EMPTY),
        label_set=True,
    ),
    "rocov2": SourceLayout(
        "ROCOV2",
        "ROCOV2/train",
        "ROCOv2_2023_train_{i:06d}.jpg",
        _ALL,
        layouts.rocov2,
        (EMPTY, CELLS),
    ),
    "pmc_oa": SourceLayout(
        "pmc_oa",
        "pmc_oa/caption_T060_filtered_top4_sep_v0_subfigures",
        "PMC{i}_Fig1_1.jpg",
        _ALL,
        layouts.pmc_oa,
        (LINE, EMPTY, UNICODE, NUL),
    ),
    "llava_med_alignment": SourceLayout(
        "llava_med",
        "llava_med/images",
        "{i}_F1.jpg",
        _ALL,
        layouts.llava_alignment,
        (EMPTY, NUMBER, UNICODE),
    ),
    "llava_med_instruct": SourceLayout(
        "llava_med",
        "llava_med/images",
        "{i}_F2.jpg",
        _ALL,
        layouts.llava_instruct,
        (EMPTY, UNICODE),
    ),
    "quilt_1m": SourceLayout(
        "Quilt",
        "Quilt/quilt_1m",
        "video_image_{i:06d}.jpg",
        ("pathology",),
        layouts.quilt,
        (EMPTY, NUL),
    ),
    "retina_part1": SourceLayout(
        _TABLES,
        _FUNDUS,
        "03_IDRiD/IDRiD_{i:03d}.jpg",
        ("fundus",),
        layouts.retina_tables,
        (LIST, NO_OWN, NUL),
        label_set=True,
    ),
    "retina_part2": SourceLayout(
        _TABLES,
        _FUNDUS,
        "06_DEN/{i}.jpg",
        ("fundus",),
        layouts.retina_keywords,
        (AGES, LIST, EMPTY),
    ),
    "retina_part3": SourceLayout(
        _TABLES,
        _FUNDUS,
        "39_MM_Retinal_dataset/CFP/{i}.jpg",
        ("fundus",),
        layouts.retina_descriptions,
        (EMPTY, NUL),
    ),
}
