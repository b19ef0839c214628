"""The twins that can be written, by name; nothing is imported before it is asked for."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Twin:
    """Where a twin's writer is, and what it writes unless told otherwise.

    Attributes:
        title: Name of the real data set.
        writer: "module:function" called as `function(root, parameters, num_workers=...)`, with
            `TwinParameters`; it returns the root.
        num_train: Training studies.
        num_test: Held-out studies.
        shape: Typical voxels along z, y, x.
        kinds: What of it is written; None writes all.
    """

    title: str
    writer: str
    num_train: int = 24
    num_test: int = 8
    shape: tuple[int, int, int] = (48, 56, 56)
    kinds: tuple[str, ...] | None = None

    def load(self) -> Callable[..., Path]:
        """Import the writer.

        Raises:
            ImportError: If its module, or a library it needs, is not there.
        """
        module, _, function = self.writer.partition(":")
        return getattr(importlib.import_module(module), function)


UNIMED_SOURCES = (
    "radimagenet",
    "chexpert",
    "openi",
    "chest_xray8",
    "mimic_cxr",
    "rocov2",
    "pmc_oa",
    "llava_med_alignment",
    "llava_med_instruct",
    "quilt_1m",
    "retina_part1",
    "retina_part2",
    "retina_part3",
)


def _unimed_sources(title: str, *kinds: str) -> Twin:
    writer = "medvlp.phantom.unimed_sources:write_unimed_sources_twin"
    return Twin(title, writer, 5, 0, kinds=kinds or None)


TWINS: dict[str, Twin] = {
    "ct_rate": Twin(
        "CT-RATE", "medvlp.phantom.ct_rate:write_ct_rate_twin", 1600, 300, shape=(64, 64, 64)
    ),
    "ct_rate_fixed": Twin("CT-RATE fixed", "medvlp.phantom.ct_rate_fixed:write_ct_rate_fixed_twin"),
    "rad_chestct": Twin("Rad-ChestCT", "medvlp.phantom.rad_chestct:write_rad_chestct_twin"),
    "bimcv_r": Twin("BIMCV-R", "medvlp.phantom.bimcv_r:write_bimcv_r_twin"),
    "radgenome": Twin("RadGenome-ChestCT", "medvlp.phantom.radgenome:write_radgenome_twin"),
    "folder": Twin("folder", "medvlp.phantom.folder:write_folder_twin"),
    "pub_brain_5": Twin("Pub-Brain-5", "medvlp.phantom.pub_brain_5:write_pub_brain_5_twin"),
    "rsna": Twin("RSNA", "medvlp.phantom.rsna:write_rsna_twin"),
    "cq500": Twin("CQ500", "medvlp.phantom.cq500:write_cq500_twin"),
    "mr_rate": Twin("MR-RATE", "medvlp.phantom.mr_rate:write_mr_rate_twin"),
    "autopet": Twin("AutoPET", "medvlp.phantom.autopet:write_autopet_twin"),
    "unimed": Twin(
        "UniMed", "medvlp.phantom.unimed:write_unimed_twin", 2400, 300, shape=(64, 64, 64)
    ),
    "unimed_evaluation": Twin(
        "UniMed-CLIP evaluation",
        "medvlp.phantom.unimed_evaluation:write_unimed_evaluation_twin",
        1,
        10,
        shape=(64, 64, 64),
    ),
    "unimed_sources": _unimed_sources("UniMed sources"),
    **{f"unimed_{name}": _unimed_sources(f"UniMed {name}", name) for name in UNIMED_SOURCES},
}
