import pytest
import torch
import torch.nn.functional as F

from medvlp.vision.slice_encoder import SliceEncoder


def make_encoder() -> SliceEncoder:
    torch.manual_seed(0)
    encoder = SliceEncoder(16, 8, width=12, depth=2, num_heads=3, mlp_dim=20)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder.eval()


def test_features_are_those_of_a_plain_vit() -> None:
    encoder, slices = make_encoder(), torch.randn(3, 3, 16, 16)
    weights = dict(encoder.named_parameters())

    def linear(x, name):
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x, name):
        return F.layer_norm(x, (12,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    def conv(x, name):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=8)

    patches = conv(slices, "patch_embed.proj").flatten(2).mT
    x = torch.cat((encoder.cls_token.expand(3, -1, -1), patches), dim=1) + encoder.pos_embed
    for k in range(2):
        name = f"blocks.{k}"
        qkv = linear(norm(x, f"{name}.norm1"), f"{name}.attn.qkv").reshape(3, 5, 3, 3, 4)
        q, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = ((q @ key.mT) / 2).softmax(-1) @ value
        x = x + linear(mixed.transpose(1, 2).reshape(3, 5, 12), f"{name}.attn.proj")
        hidden = F.gelu(linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
        x = x + linear(hidden, f"{name}.mlp.fc2")
    torch.testing.assert_close(encoder(slices), norm(x, "norm")[:, 0], rtol=0, atol=1e-5)


def test_the_default_is_a_base_vit_without_head() -> None:
    with torch.device("meta"):
        encoder = SliceEncoder()
    assert len(encoder.state_dict()) == 150
    assert encoder.get_parameter("pos_embed").shape == (1, 197, 768)
    assert encoder(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 768)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"slices of \(3, 16, 24\) came .* takes \(3, 16, 16\)"):
        make_encoder()(torch.zeros(1, 3, 16, 24))
    with pytest.raises(ValueError, match="20 pixels a side do not divide into patches of 16"):
        SliceEncoder(20)
