"""The count against what a tower really asks of its attention kernel."""

import pytest
import torch
import torch.nn.functional as F

from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.vision.attention_cost import attention_multiply_adds, attention_share
from medvlp.vision.hierarchical_vit import HierarchicalViT

ORDERS = [["slice", "scan", "study", "slice"], ["scan", "study"], ["study"], ["slice", "slice"]]


@pytest.mark.parametrize("levels", ORDERS)
@pytest.mark.parametrize("num_scans", [[1], [3, 1, 2]])
def test_it_counts_what_the_kernel_is_given(levels, num_scans, monkeypatch):
    kernel, counted = F.scaled_dot_product_attention, []

    def count(q, k, v, dropout_p, is_causal=False):
        counted.append(2 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * q.shape[3])
        return kernel(q, k, v)

    embed = PatchEmbed3D(1, (2, 2, 2), 12)
    tower = HierarchicalViT(embed, (3, 2, 2), levels=levels, num_heads=2, num_register_tokens=1)
    monkeypatch.setattr(F, "scaled_dot_product_attention", count)
    tower.eval()(torch.zeros(sum(num_scans), 1, 6, 4, 4), torch.tensor(num_scans))
    found = attention_multiply_adds(
        tower.levels,
        num_scans=num_scans,
        grid=(3, 2, 2),
        width=tower.embed_dim,
        num_prefix=tower.num_prefix,
    )
    assert set(found) == set(levels)
    assert sum(found.values()) == sum(counted)


def test_full_attention_is_the_whole_and_a_level_of_single_scans_is_full_attention():
    options = {"grid": (6, 14, 14), "num_prefix": 1}
    assert attention_share(["study"] * 4, num_scans=[1, 5], **options) == 1.0
    assert attention_share(["scan", "study"], num_scans=[1, 1], **options) == 1.0
    assert attention_share(["scan", "scan", "study"], num_scans=[4], **options) < 0.51
