"""A 2D network with given weights, as the preparation of slice features takes it."""

import logging
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.checkpoints.fingerprint import weights_hash
from medvlp.checkpoints.systems import load_weights
from medvlp.data.slice_features import SliceFeatures
from medvlp.vision.slice_encoder import SliceEncoder

_BIOMEDCLIP = (
    "open_clip_pytorch_model.bin of microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
)
_LOG = logging.getLogger(__name__)


class FrozenSliceEncoder(SliceFeatures):
    """Features of slices by a `SliceEncoder` that is read, or drawn, once per process.

    Args:
        image_size: See `SliceEncoder`, as all sizes.
        patch_size: Pixels of a side of a patch.
        width: Of the features.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_dim: Hidden width of the MLPs.
        weights: File of the weights: BiomedCLIP as downloaded, or its image trunk alone.
        known_hash: Of the weights, as `describe` gives it. With it prepared data are used on
            machines that lack the file, and a file of other weights is refused.
        seed: Draws the weights where there is no file, for twins.

    Raises:
        ValueError: If there is not exactly one of `weights` and `seed`.
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        *,
        width: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_dim: int = 3072,
        weights: str | None = None,
        known_hash: str | None = None,
        seed: int | None = None,
    ) -> None:
        if (weights is None) == (seed is None):
            raise ValueError(
                f"weights is {weights} and seed is {seed}; give the file of a trained slice "
                "encoder, or a seed for one that is drawn"
            )
        self.sizes = {
            "image_size": image_size,
            "patch_size": patch_size,
            "width": width,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_dim": mlp_dim,
        }
        self.weights, self.known_hash, self.seed = weights, known_hash, seed

    def describe(self) -> dict[str, Any]:
        """State sizes and a hash of the weights; the file is read unless the hash is known.

        Raises:
            FileNotFoundError: If the file is needed and not there.
        """
        drawn = {"seed": self.seed} if self.weights is None else {"weights": self._hash()}
        return {"kind": "SliceEncoder", **self.sizes, **drawn}

    @torch.no_grad()
    def __call__(
        self, slices: Float[Tensor, "m 3 h w"], *, device: str = "cpu"
    ) -> Float[Tensor, "m f"]:
        """Encode the slices of one scan."""
        network = self._network().to(device)
        return network(slices.to(device)).float().cpu()

    def _network(self) -> SliceEncoder:
        network, found = _built(tuple(self.sizes.items()), self.weights, self.seed)
        if self.known_hash not in (None, found):
            raise ValueError(
                f"{self.weights} holds other weights: their hash is {found}, and "
                f"slice_encoder.known_hash is {self.known_hash}; give the right file, or leave "
                "known_hash out and prepare the data again"
            )
        return network

    def _hash(self) -> str:
        if self.known_hash is not None:
            return self.known_hash
        return _built(tuple(self.sizes.items()), self.weights, self.seed)[1]


@cache
def _built(
    sizes: tuple[tuple[str, int], ...], weights: str | None, seed: int | None
) -> tuple[SliceEncoder, str]:
    """Return the network, and the hash of its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        network = SliceEncoder(**dict(sizes))
    if weights is not None:
        try:
            load_weights(network, weights)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"no weights of the slice encoder at {weights}; download {_BIOMEDCLIP} and give "
                "data.recipe.slice_encoder.weights=FILE, or, where the data are prepared already, "
                "data.recipe.slice_encoder.known_hash=HASH from their dataset.json"
            ) from error
        _LOG.info("slice encoder from %s", weights)
    return network.eval().requires_grad_(False), weights_hash(network.state_dict())
