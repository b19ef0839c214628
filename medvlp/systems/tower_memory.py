"""What frozen image towers said of volumes, remembered for later epochs and further questions."""

import hashlib
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medvlp.models.hsenet_vlm import TowerTokens

Look = Callable[[Tensor, Tensor, Tensor | None], TowerTokens]


class TowerMemory:
    """Have towers look at each volume once, however often it comes.

    A volume is known by its content, features of slices included: one that was augmented is
    another. Only for towers that do not change.

    Args:
        capacity: Volumes to remember, on the CPU; later ones are looked at every time.

    Raises:
        ValueError: If the capacity is not positive.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; remember one volume at least, or set null")
        self.capacity = capacity
        self._known: dict[bytes, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._known)

    @torch.inference_mode(mode=False)  # what evaluations remember must serve training, too
    @torch.no_grad()
    def look(
        self,
        towers: Look,
        image: Float[Tensor, "n c d h w"],
        num_scans: Int[Tensor, " b"],
        slice_features: Float[Tensor, "n m f"] | None,
    ) -> TowerTokens:
        """Return what the towers say of each volume, from memory where it is known.

        Args:
            towers: Looks at volumes, see `HSENetVLM.look`.
            image: One volume a study.
            num_scans: Ones.
            slice_features: Of the slices of each volume.
        """
        if len(num_scans) != len(image):  # nothing to divide by volume: the towers say why
            return towers(image, num_scans, slice_features)
        keys = [_digest(image, slice_features, row) for row in range(len(image))]
        new = [row for row, key in enumerate(keys) if key not in self._known]
        seen: dict[bytes, tuple[Tensor, Tensor]] = {}
        if new:
            features = None if slice_features is None else slice_features[new]
            looked = towers(image[new], num_scans[new], features)
            seen = {keys[row]: (looked.plain[i], looked.guided[i]) for i, row in enumerate(new)}
        pairs = [seen[key] if key in seen else self._known[key] for key in keys]
        for key, pair in seen.items():
            if len(self._known) < self.capacity:
                self._known[key] = (pair[0].cpu().clone(), pair[1].cpu().clone())
        plain, guided = (
            torch.stack([p.to(image.device) for p in part]) for part in zip(*pairs, strict=True)
        )
        return TowerTokens(plain, guided)


def _digest(image: Tensor, slice_features: Tensor | None, row: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in (image, slice_features):
        if part is not None:
            digest.update(part[row].detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.digest()
