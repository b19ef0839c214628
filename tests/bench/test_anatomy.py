import pytest
import torch
from torch import nn

from medvlp.bench import anatomy
from medvlp.bench.anatomy import ALONE, SHARED, Passes, Study, measure
from medvlp.heads.anatomy_pool import AnatomyPool
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.models.fvlm import FVLM
from medvlp.vision.anatomy_vit import AnatomyViT

CPU = torch.device("cpu")


def passes(window) -> Passes:
    torch.manual_seed(0)
    vision = AnatomyViT(
        PatchEmbed3D(1, (2, 2, 2), 12), grid=(4, 4, 4), depth=2, num_heads=2, taps=[1]
    )
    pooling = AnatomyPool(["lung", "heart", "aorta"], 12, embed_dim=6, num_heads=2)
    nn.init.normal_(pooling.query)
    model = FVLM(vision, nn.Identity(), pooling=pooling, text_projection=nn.Identity()).eval()
    return Passes(model, window, (2, 2, 2), [])


def studies() -> list[Study]:
    """All three organs; the aorta missing."""
    mask = torch.zeros(1, 8, 8, 8, dtype=torch.int32)
    mask[0, :2, :2, :2], mask[0, 6:, 6:, 6:], mask[0, 4, 4, 4] = 1, 2, 3
    images = torch.rand(2, 1, 1, 8, 8, 8)
    return [Study(images[0], mask), Study(images[1], torch.where(mask == 3, 0, mask))]


@pytest.mark.parametrize(("window", "counts"), [((8, 8, 8), (5, 2)), ((4, 4, 4), (5, 5))])
def test_passes_are_counted_and_both_ways_agree(window, counts):
    alone, shared = measure(passes(window), studies(), 1, CPU)
    assert (alone["way"], shared["way"]) == (ALONE, SHARED)
    assert (alone["tower passes"], shared["tower passes"]) == counts
    assert float(shared["largest difference"]) <= anatomy.TOLERANCE


def test_ways_that_differ_stop_the_benchmark(monkeypatch):
    monkeypatch.setattr(Passes, "alone", lambda self, study: torch.zeros(3, 6))
    with pytest.raises(RuntimeError, match="do not compute the same"):
        measure(passes((8, 8, 8)), studies(), 1, CPU)
