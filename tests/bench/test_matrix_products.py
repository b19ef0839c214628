import pytest
import torch
from torch import nn

from medvlp.bench.matrix_products import BareProducts, Product, record_products
from medvlp.bench.options import TRUNKS
from medvlp.bench.trunk import build_tower, count_flops, forward_of, native_size
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.vision.hierarchical_vit import HierarchicalViT

CPU = torch.device("cpu")


@pytest.fixture
def tower():
    patches = PatchEmbed3D(1, (2, 4, 4), 24)
    levels = ["slice", "scan", "study"]
    return HierarchicalViT(patches, (2, 3, 3), levels=levels, num_heads=4).eval()


def test_products_of_a_linear_layer_by_hand():
    layer, rows = nn.Linear(5, 7), torch.rand(2, 3, 5)
    assert record_products(lambda: layer(rows)) == [Product("linear", 1, 6, 5, 7)]
    assert Product("linear", 1, 6, 5, 7).flops == 2 * 6 * 5 * 7


def test_products_of_attention_by_hand():
    q = torch.rand(2, 3, 5, 4)
    products = record_products(lambda: nn.functional.scaled_dot_product_attention(q, q, q))
    assert products == [Product("attention", 6, 5, 4, 5), Product("attention", 6, 5, 5, 4)]


def test_the_products_of_a_tower_are_all_its_flops(tower):
    forward = forward_of(tower, 2, CPU)
    products = record_products(forward)
    assert sum(product.flops for product in products) == count_flops(forward)
    assert {product.kind for product in products} == {"linear", "attention"}


def test_bare_products_do_all_the_work_in_pieces(tower):
    products = record_products(forward_of(tower, 1, CPU))
    products += [Product("attention", heads, 70, 5, 70) for heads in (1, 3)]
    for piece_bytes in (64, 20_000, None):
        bare = BareProducts(products, CPU, piece_bytes=piece_bytes)
        assert sum(p.flops for p in record_products(bare)) == sum(p.flops for p in products)


def test_native_size_is_that_of_the_position_table(tower):
    assert native_size(tower) == (4, 12, 12)


def test_every_published_trunk_can_be_built():
    with torch.device("meta"):
        sizes = {name: native_size(build_tower(name)) for name in TRUNKS}
    assert sizes["hlip_vit_base_singlescan_h2_token2744"] == (112, 336, 336)
    assert {size for name, size in sizes.items() if "multiscan" in name} == {(48, 224, 224)}


def test_an_unknown_model_is_an_error():
    with pytest.raises(FileNotFoundError, match=r"there are .*hlip_vit_base"):
        build_tower("hlip_vit_huge")
