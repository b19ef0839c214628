import pytest
import torch

from medvlp.layers.patch_embed import ConvStemPatchEmbed, PatchEmbed3D


def test_equals_the_strided_convolution_and_leaves_the_remainder() -> None:
    embed = PatchEmbed3D(2, (2, 3, 4), 5)
    volume = torch.randn(2, 2, 5, 7, 9)
    expected = embed.proj(volume).permute(0, 2, 3, 4, 1)
    assert expected.shape == (2, 2, 2, 2, 5)
    torch.testing.assert_close(embed(volume), expected, rtol=0, atol=1e-6)


def test_what_fills_no_patch_is_said_once_with_numbers(caplog) -> None:
    embed = PatchEmbed3D(1, (2, 3, 4), 5)
    embed(torch.zeros(1, 1, 4, 6, 8))
    assert not caplog.messages
    for _ in range(2):
        embed(torch.zeros(1, 1, 5, 6, 11))
    (said,) = caplog.messages
    assert "(5, 6, 11) voxels" in said and "(2, 3, 4)" in said and "(1, 0, 3)" in said


def test_what_fills_no_patch_may_be_refused_or_ignored(caplog) -> None:
    volume = torch.zeros(1, 1, 5, 6, 8)
    with pytest.raises(ValueError, match=r"the last \(1, 0, 0\).*multiple of the patch"):
        PatchEmbed3D(1, (2, 3, 4), 5, remainder="raise")(volume)
    PatchEmbed3D(1, (2, 3, 4), 5, remainder="ignore")(volume)
    assert not caplog.messages
    with pytest.raises(ValueError, match="warn, raise, ignore"):
        PatchEmbed3D(1, (2, 3, 4), 5, remainder="pad")


def test_wrong_channels_say_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"has 3 channels.*takes 1.*set in_channels"):
        PatchEmbed3D(1, (2, 2, 2), 4)(torch.zeros(1, 3, 4, 4, 4))


def test_a_volume_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="smaller than one patch"):
        PatchEmbed3D(1, (4, 2, 2), 4)(torch.zeros(1, 1, 3, 4, 4))


def test_the_stem_halves_the_grid_at_each_stage() -> None:
    stem = ConvStemPatchEmbed(1, (4, 4, 4), embed_dim=16, num_stages=2, num_groups=4)
    assert stem(torch.randn(2, 1, 48, 32, 16)).shape == (2, 3, 2, 1, 16)


def test_a_width_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        ConvStemPatchEmbed(1, (4, 4, 4), embed_dim=18)
