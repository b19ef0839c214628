"""What a recipe asks of a frozen 2D network that sees slices; networks are not this layer's."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor


class SliceFeatures(ABC):
    """Turns slices into features, the same for the same slices.

    It travels to every process that prepares scans: it should be small when pickled, and build
    its network once per process.
    """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, the weights too, in JSON types."""

    @abstractmethod
    def __call__(
        self, slices: Float[Tensor, "m 3 h w"], *, device: str = "cpu"
    ) -> Float[Tensor, "m f"]:
        """Encode the slices of one scan; the result lies on the CPU.

        Raises:
            ValueError: If they are not of the network's size.
        """
