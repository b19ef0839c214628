"""Embedding all organs of a volume: organs whose windows agree share a pass, against one for each.

Before anything is timed, both must give the same embeddings within 1e-6 in float32.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from hydra.utils import instantiate
from jaxtyping import Float, Int
from omegaconf import OmegaConf
from torch import Tensor, nn

from medvlp.bench.record import publish
from medvlp.bench.scene import scene
from medvlp.bench.timing import interleaved
from medvlp.config import ConfigError, config_dir
from medvlp.evaluation.anatomy_zero_shot import embed_organs
from medvlp.models.fvlm import FVLM
from medvlp.types import Size3D

TOLERANCE = 1e-6
ALONE, SHARED = "one pass per organ", "shared windows"


@dataclass(frozen=True)
class Study:
    """A volume with its organs.

    Attributes:
        image: One scan.
        mask: Organ number + 1, 0 elsewhere.
    """

    image: Float[Tensor, "1 c d h w"]
    mask: Int[Tensor, "1 d h w"]


@dataclass(frozen=True)
class Passes:
    """Embeds organs, and counts how often the image tower runs.

    Attributes:
        model: In evaluation mode.
        window: See `embed_organs`.
        multiple: See `embed_organs`.
        seen: The volumes that the tower was shown.
    """

    model: FVLM
    window: Size3D | None
    multiple: Size3D
    seen: list[Size3D]

    def shared(self, study: Study) -> Float[Tensor, "o e"]:
        """Embed all organs, those of one window in one pass."""
        return embed_organs(
            self._embed,
            study.image,
            study.mask,
            num_organs=len(self.model.organs),
            window=self.window,
            multiple=self.multiple,
        )[0]

    def alone(self, study: Study) -> Float[Tensor, "o e"]:
        """Embed every organ in a pass of its own, as the published evaluation does."""
        width = self.model.pooling.projections[0].get_parameter("weight").shape[0]
        rows = study.image.new_full((len(self.model.organs), width), torch.nan)
        for organ in range(len(rows)):
            mask = torch.where(study.mask == organ + 1, study.mask, 0)
            if mask.any():
                rows[organ] = self.shared(Study(study.image, mask))[organ]
        return rows

    def _embed(self, image: Tensor, num_scans: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        depth, height, width = image.shape[2:]
        self.seen.append((depth, height, width))
        return self.model.embed_image(image, num_scans, mask)


def run(options: argparse.Namespace) -> None:
    """Take the test studies of an experiment, compare both ways, time them, publish the table."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    with scene(options.experiment, options.overrides) as tree:
        if options.recipe is not None:
            path = config_dir() / "data" / "recipe" / f"{options.recipe}.yaml"
            if not path.is_file():
                raise ConfigError(f"no recipe {options.recipe!r} in conf/data/recipe")
            tree["data"]["recipe"] = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        tree["data"]["tokenizer"] = None  # no texts
        model = build(tree["model"]).to(device)
        studies = list(islice(test_studies(tree["data"], device), options.studies))
        window, multiple = tree["system"]["window"], tree["system"]["multiple"]
        passes = Passes(model, window and tuple(window), tuple(multiple), [])
        rows = measure(passes, studies, options.repeats, device)
    sizes = sorted({tuple(study.image.shape[2:]) for study in studies})
    named = ", ".join("x".join(map(str, size)) for size in (sizes[0], sizes[-1]))
    notes = [
        f"{options.experiment}: {len(studies)} test studies of {named} voxels (smallest, largest), "
        f"organs {', '.join(model.organs)}; window {window}; untrained weights, fp32, "
        f"{options.device}; median of {options.repeats} after a warm-up, in turn",
        "largest difference: of any embedding from that of the organ alone",
    ]
    publish("anatomy", rows, notes, options.json)


def build(node: dict[str, Any]) -> FVLM:
    """Build the image side of the model; texts are not needed."""
    parts = {name: instantiate(node[name], _convert_="all") for name in ("vision", "pooling")}
    torch.manual_seed(0)
    model = FVLM(
        parts["vision"], nn.Identity(), pooling=parts["pooling"], text_projection=nn.Identity()
    )
    nn.init.normal_(model.pooling.query)  # starts at zero, where attention is uniform
    return model.eval()


def test_studies(node: dict[str, Any], device: torch.device) -> Iterator[Study]:
    """Prepare the data and give the volumes of its test split.

    Raises:
        ConfigError: If they come without organ masks.
    """
    module = instantiate(node, _convert_="all")
    module.prepare_data()
    module.setup("test")
    for batch in module.test_dataloader():
        if "anatomy_mask" not in batch:
            raise ConfigError("the data have no organ masks; choose a recipe with them, --recipe")
        for image, mask in zip(batch["image"], batch["anatomy_mask"], strict=True):
            yield Study(image[None].to(device), mask[None].to(device).int())


@torch.no_grad()
def measure(
    passes: Passes, studies: list[Study], repeats: int, device: torch.device
) -> list[dict[str, Any]]:
    """Compare the embeddings, then time both ways in turn; return a row for each.

    Raises:
        RuntimeError: If they differ by more than `TOLERANCE`.
    """
    ways: dict[str, Callable[[Study], Tensor]] = {ALONE: passes.alone, SHARED: passes.shared}
    found: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for name, way in ways.items():
        passes.seen.clear()
        found[name] = torch.stack([way(study) for study in studies])
        counts[name] = len(passes.seen)
    difference = float((found[ALONE] - found[SHARED]).nan_to_num().abs().max())
    same = torch.equal(found[ALONE].isnan(), found[SHARED].isnan())
    if not same or difference > TOLERANCE:
        raise RuntimeError(
            f"embeddings differ by {difference:.1e}, at most {TOLERANCE} was expected: the ways do "
            "not compute the same, so their speed says nothing"
        )
    works = {name: partial(_all, way, studies) for name, way in ways.items()}
    times = interleaved(works, repeats, device)
    clock = "wall" if device.type == "cuda" else "cpu"
    seconds = {name: getattr(time, clock) for name, time in times.items()}
    return [
        {
            "way": name,
            "tower passes": counts[name],
            "volumes/s": len(studies) / seconds[name],
            "speed": f"{seconds[ALONE] / seconds[name]:.2f}x",
            "wall s": times[name].wall,
            "CPU s": times[name].cpu,
            "largest difference": f"{difference if name == SHARED else 0.0:.1e}",
        }
        for name in ways
    ]


def _all(way: Callable[[Study], Tensor], studies: list[Study]) -> None:
    with torch.no_grad():
        for study in studies:
            way(study)
