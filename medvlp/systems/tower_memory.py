"""What frozen image towers said of volumes, remembered for later epochs and further questions."""

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from medvlp.models.hsenet_vlm import TowerTokens

Look = Callable[[Tensor, Tensor, Tensor | None], TowerTokens]


class TowerMemory:
    """Have towers look at each volume once, however often it comes.

    A volume is known by its content, features of slices included: one that was augmented is
    another. Only for towers that do not change.

    Args:
        capacity: Volumes to remember, on the CPU; later ones are looked at every time.
        folder: Remember there instead, for later runs as well, below a folder named by the weights
            of the towers. At full size a volume takes 12.6 MB.
        half: Remember in half precision, which rounds: half the room.

    Raises:
        ValueError: If the capacity is not positive.
    """

    def __init__(self, capacity: int, *, folder: str | None = None, half: bool = False) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}; remember one volume at least, or set null")
        self.capacity = capacity
        self.folder = None if folder is None else Path(folder)
        self.half = half
        self._known: dict[str, tuple[Tensor, Tensor] | Path] = {}
        self._place: Path | None = None

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
        *,
        weights: Callable[[], str] | None = None,
    ) -> TowerTokens:
        """Return what the towers say of each volume, from memory where it is known.

        Args:
            towers: Looks at volumes, see `HSENetVLM.look`.
            image: One volume a study.
            num_scans: Ones.
            slice_features: Of the slices of each volume.
            weights: Tells the hash of the towers' weights; a folder needs it, once.

        Raises:
            ValueError: If a folder is asked for, and nothing tells the towers.
        """
        if len(num_scans) != len(image):  # nothing to divide by volume: the towers say why
            return towers(image, num_scans, slice_features)
        if self.folder is not None and self._place is None:
            self._open(self.folder, weights)
        keys = [_digest(image, slice_features, row) for row in range(len(image))]
        new = [row for row, key in enumerate(keys) if key not in self._known]
        seen: dict[str, tuple[Tensor, Tensor]] = {}
        if new:
            features = None if slice_features is None else slice_features[new]
            looked = towers(image[new], num_scans[new], features)
            seen = {keys[row]: (looked.plain[i], looked.guided[i]) for i, row in enumerate(new)}
        pairs = [seen[key] if key in seen else self._recall(key) for key in keys]
        for key, pair in seen.items():
            if len(self._known) < self.capacity:
                self._known[key] = self._keep(key, pair)
        plain, guided = (
            torch.stack([p.to(image.device) for p in part]) for part in zip(*pairs, strict=True)
        )
        return TowerTokens(plain, guided)

    def _open(self, folder: Path, weights: Callable[[], str] | None) -> None:
        """Find what earlier runs with the same towers have left."""
        if weights is None:
            raise ValueError(f"nothing tells the weights of the towers to remember in {folder}")
        self._place = folder / (weights() + ("-half" if self.half else ""))
        self._place.mkdir(parents=True, exist_ok=True)
        self._known = {file.stem: file for file in self._place.glob("*.safetensors")}

    def _keep(self, key: str, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | Path:
        plain, guided = (
            part.cpu().to(torch.float16 if self.half else part.dtype, copy=True) for part in pair
        )
        if self._place is None:
            return plain, guided
        file = self._place / f"{key}.safetensors"
        aside = file.with_suffix(f".{uuid.uuid4().hex}.tmp")  # other ranks write there, too
        save_file({"plain": plain, "guided": guided}, aside)
        os.replace(aside, file)
        return file

    def _recall(self, key: str) -> tuple[Tensor, Tensor]:
        known = self._known[key]
        if isinstance(known, Path):
            content = load_file(known)
            known = content["plain"], content["guided"]
        return (known[0].float(), known[1].float()) if self.half else known


def _digest(image: Tensor, slice_features: Tensor | None, row: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (image, slice_features):
        if part is not None:
            digest.update(part[row].detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
