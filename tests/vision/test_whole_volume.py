import torch

from medvlp.heads.anatomy_pool import AnatomyPool
from medvlp.layers.patch_embed import ConvStemPatchEmbed
from medvlp.vision.anatomy_vit import AnatomyViT
from medvlp.vision.whole_volume import WholeVolumeViT


def test_it_pools_as_an_organ_that_fills_the_volume() -> None:
    torch.manual_seed(0)
    embed = ConvStemPatchEmbed(1, [2, 2, 2], embed_dim=16, num_stages=1)
    tower = AnatomyViT(embed, [2, 2, 3], depth=2, num_heads=2, taps=[1])
    assert embed.patch_size == (4, 4, 4)
    whole, organ = WholeVolumeViT(tower), AnatomyPool(["all"], 16, embed_dim=8)
    organ.attention.load_state_dict(whole.attention.state_dict())
    with torch.no_grad():
        whole.query.normal_()
        organ.query.copy_(whole.query[0])
    image, ones = torch.randn(2, 1, 8, 8, 12), torch.ones(2, dtype=torch.int64)
    every = torch.ones(2, 1, 12, dtype=torch.bool)
    expected = organ.pool(tower(image, ones), every)[:, 0]
    torch.testing.assert_close(whole(image, ones), expected)
