"""HSENet's published augmentation of training volumes."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class HSENetAugmentation:
    """Turn, flip, scale and shift a volume; no result is clipped.

    Warning:
        Turns and flips exchange left and right, which reports name, and slices of the same scan
        are not turned with the volume. They are published, and off by default here; scaling and
        shifting of the numbers do no such harm.

    Args:
        rotate_prob: Of a turn by 90, 180 or 270 degrees in the plane of a slice; published 0.5.
        flip_probs: Of a flip along d, h and w; published 0.1 each.
        intensity_prob: Of scaling by 1 + f, and then, drawn anew, of adding o; f and o are uniform
            between -0.1 and 0.1; published 0.5 each.
    """

    def __init__(
        self,
        *,
        rotate_prob: float = 0.0,
        flip_probs: Sequence[float] = (0.0, 0.0, 0.0),
        intensity_prob: float = 0.0,
    ) -> None:
        probs = (rotate_prob, *flip_probs, intensity_prob)
        if len(probs) != 5 or not all(0 <= prob <= 1 for prob in probs):
            raise ValueError(f"probabilities are {probs}, expected five between 0 and 1")
        self.rotate_prob, self.intensity_prob = rotate_prob, intensity_prob
        self.flip_probs = tuple(flip_probs)

    def __call__(
        self, image: Float[Tensor, "1 d h w"], generator: np.random.Generator
    ) -> Float[Tensor, "1 d h w"]:
        """Augment one volume.

        Raises:
            ValueError: If a volume that is to be turned is not square in h and w.
        """
        if self.rotate_prob and image.shape[2] != image.shape[3]:
            raise ValueError(
                f"slices are {image.shape[2]} x {image.shape[3]}, and a quarter turn needs squares"
            )
        if generator.random() < self.rotate_prob:
            image = torch.rot90(image, int(generator.integers(1, 4)), dims=(2, 3))
        flips = [axis for axis, prob in enumerate(self.flip_probs, 1) if generator.random() < prob]
        image = image.flip(flips)
        if generator.random() < self.intensity_prob:
            image = image * (1 + generator.uniform(-0.1, 0.1))
        if generator.random() < self.intensity_prob:
            image = image + generator.uniform(-0.1, 0.1)
        return image
