"""UniMed-CLIP: from annotation files and images to web shards."""

import hashlib
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

from medvlp.data.captioned_images import CaptionedImages
from medvlp.data.shard_preparation import ShardPreparation
from medvlp.data.unimed_label_sources import (
    LabelCaptions,
    MIMICCaptions,
    RetinaCaptions,
    RetinaDescriptions,
    RetinaKeywords,
)
from medvlp.data.unimed_sources import (
    LLaVAMedAlignmentCaptions,
    LLaVAMedInstructCaptions,
    OpenICaptions,
    PMCOACaptions,
    QuiltCaptions,
    ROCOv2Captions,
)

from .registry import Case, handles

Shards = dict[str, list[dict[str, Any]]]


def _labels(marker: str, *, dots: bool = False) -> Callable[..., CaptionedImages]:
    def build(annotations: str, images: str, **options: Any) -> CaptionedImages:
        return LabelCaptions(annotations, images, marker=marker, published_dots=dots, **options)

    return build


SOURCES: dict[str, Callable[..., CaptionedImages]] = {
    "chexpert": _labels("_chexpert_"),
    "chestxray8": _labels("_chestxray8_"),
    "radimagenet": _labels("_radimagenet_", dots=True),
    "mimic": lambda *paths, **options: MIMICCaptions(*paths, marker="_mimiccxr_", **options),
    "pmc_oa": PMCOACaptions,
    "rocov2": ROCOv2Captions,
    "quilt": QuiltCaptions,
    "llava_alignment": LLaVAMedAlignmentCaptions,
    "llava_instruct": LLaVAMedInstructCaptions,
    "retina_part3": RetinaDescriptions,
}


@handles("unimed_clip", "prepare_shards")
def prepare_shards(case: Case) -> None:
    """Prepare every source with compat="published" and compare all members of all shards.

    The published script of retina part 1 takes its tables in the order of the file system, which
    a copy does not keep: the golden must come out of one order of them.
    """
    assert case.config["sources"].keys() == case.config["expected"].keys()
    for name, paths in case.config["sources"].items():
        expected = case.config["expected"][name]
        found = (_shards(source, case) for source in _sources(name, paths, case))
        assert any(shards == expected for shards in found), f"{case.name}: {name} differs"


def _sources(name: str, paths: dict[str, Any], case: Case) -> Iterable[CaptionedImages]:
    first, *others = [str(case.path / path) for path in paths["annotations"]]
    images = str(case.path / paths["images"])
    if name == "openi":
        return [OpenICaptions(first, images, refined=others[0], compat="published")]
    if name == "retina_part1":
        tables = [path.name for path in RetinaCaptions(first, images).files()]
        orders = permutations(tables)
        return (RetinaCaptions(first, images, tables=t, compat="published") for t in orders)
    if name == "retina_part2":
        return [RetinaKeywords(first, images, seed=case.config["seed"], compat="published")]
    return [SOURCES[name](first, images, compat="published")]


def _shards(source: CaptionedImages, case: Case) -> Shards:
    with tempfile.TemporaryDirectory() as folder:
        size = case.config["tar_size"]
        ShardPreparation({"set": source}, folder, samples_per_shard=size).prepare("set")
        tars = sorted(Path(folder, "set_webdataset").glob("*.tar"))
        return {path.name: _members(path) for path in tars}


def _members(path: Path) -> list[dict[str, Any]]:
    found = []
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            content, is_text = file.read(), member.name.endswith(".txt")
            found.append(
                {
                    "name": member.name,
                    "size": member.size,
                    "text": content.decode() if is_text else None,
                    "sha256": None if is_text else hashlib.sha256(content).hexdigest(),
                }
            )
    return found
