import pickle
from pathlib import Path

import pytest
import torch

from medvlp.checkpoints.adapter import CheckpointMismatchError
from medvlp.checkpoints.frozen_slice_encoder import FrozenSliceEncoder
from medvlp.vision.slice_encoder import SliceEncoder

SIZES = {"width": 12, "depth": 2, "num_heads": 3, "mlp_dim": 20}


def frozen(**changes: object) -> FrozenSliceEncoder:
    return FrozenSliceEncoder(16, 8, **{**SIZES, **changes})


def trained(path: Path, prefix: str = "") -> SliceEncoder:
    torch.manual_seed(5)
    network = SliceEncoder(16, 8, **SIZES)
    tensors = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    if prefix:
        tensors["visual.head.proj.weight"] = torch.zeros(4, 12)
        tensors["logit_scale"] = torch.tensor(2.0)
    torch.save(tensors, path)
    return network.eval()


def test_a_seed_gives_the_same_features_and_leaves_chance_alone() -> None:
    slices, state = torch.randn(3, 3, 16, 16), torch.random.get_rng_state()
    one = frozen(seed=1)
    features = one(slices)
    assert features.shape == (3, 12) and not features.requires_grad
    assert torch.random.get_rng_state().equal(state)
    again = pickle.loads(pickle.dumps(one))
    assert again(slices).equal(features) and len(pickle.dumps(one)) < 1000
    assert not frozen(seed=2)(slices).allclose(features)
    assert frozen(seed=2).describe() != one.describe() == again.describe()


@pytest.mark.parametrize("prefix", ["", "visual.trunk."])
def test_weights_are_read_from_either_layout(tmp_path: Path, prefix: str) -> None:
    path, slices = tmp_path / "weights.pt", torch.randn(2, 3, 16, 16)
    network = trained(path, prefix)
    encoder = frozen(weights=str(path))
    with torch.no_grad():  # attention takes another path where gradients are kept
        torch.testing.assert_close(encoder(slices), network(slices))
    known = encoder.describe()["weights"]
    elsewhere = frozen(weights=str(tmp_path / "absent.pt"), known_hash=known)
    assert elsewhere.describe() == encoder.describe()
    with pytest.raises(FileNotFoundError, match=r"absent\.pt; download open_clip_.*weights=FILE"):
        elsewhere(slices)
    with pytest.raises(ValueError, match=f"their hash is {known}, and slice_encoder.known_hash"):
        frozen(weights=str(path), known_hash="0" * 16)(slices)
    with pytest.raises(CheckpointMismatchError):
        frozen(weights=str(path), width=24).describe()


def test_weights_or_a_seed() -> None:
    with pytest.raises(ValueError, match="weights is None and seed is None; give the file"):
        frozen()
