"""From a scan's own numbers to [0, 1]: percentiles for MR, a window for CT, bytes for images."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from jaxtyping import Float

from medvlp.data.hounsfield import check_hounsfield
from medvlp.data.scan import Scan


class Intensity(ABC):
    """A rule that brings the numbers of any scan of its kind to [0, 1]."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""

    @abstractmethod
    def check(self, scan: Scan) -> None:
        """Refuse a scan that the rule is not for.

        Raises:
            ValueError: With the reason.
        """

    @abstractmethod
    def __call__(self, values: Float[np.ndarray, "d h w"]) -> Float[np.ndarray, "d h w"]:
        """Map rescaled numbers to [0, 1].

        Raises:
            ValueError: If the numbers cannot be mapped.
        """


class Percentiles(Intensity):
    """Clip between two percentiles of the scan and scale linearly: MR, which has no units.

    The result is (v - min) / (max - min + 1e-8) of the clipped numbers, as HLIP publishes it.

    Args:
        low: Percentile that maps to 0, interpolated linearly between voxels.
        high: Percentile that maps to 1.
    """

    def __init__(self, low: float = 0.5, high: float = 99.5) -> None:
        if not 0 <= low < high <= 100:
            raise ValueError(
                f"percentiles are {low:g} and {high:g}, expected 0 <= low < high <= 100"
            )
        self.low, self.high = float(low), float(high)

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        return {"kind": "percentiles", "low": self.low, "high": self.high}

    def check(self, scan: Scan) -> None:
        """Refuse CT: its Hounsfield units would be lost.

        Raises:
            ValueError: With the modality and what to use.
        """
        if scan.modality == "CT":
            raise ValueError("a CT scan, and percentiles are for MR; use a recipe with a HU window")

    def __call__(self, values: Float[np.ndarray, "d h w"]) -> Float[np.ndarray, "d h w"]:
        """Clip and scale.

        Raises:
            ValueError: If the two percentiles are the same number.
        """
        low, high = (float(v) for v in np.percentile(values, (self.low, self.high)))
        if low == high:
            raise ValueError(
                f"the {self.low:g} and {self.high:g} percentiles are both {low:g}: the scan is "
                "empty, or all of it but a few voxels is"
            )
        clipped = np.clip(values, low, high)
        clipped -= low
        clipped /= high - low + 1e-8
        return clipped


class HounsfieldWindow(Intensity):
    """Clip to a Hounsfield window and scale linearly.

    Args:
        low: HU that maps to 0.
        high: HU that maps to 1.
    """

    def __init__(self, low: float, high: float) -> None:
        if low >= high:
            raise ValueError(f"the window is {low:g} to {high:g} HU, expected the lower end first")
        self.low, self.high = float(low), float(high)

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        return {"kind": "hounsfield_window", "low": self.low, "high": self.high}

    def check(self, scan: Scan) -> None:
        """Refuse other modalities, and numbers that are no Hounsfield units.

        Raises:
            ValueError: With what is wrong.
        """
        if scan.modality != "CT":
            raise ValueError(f"a {scan.modality} scan, and a HU window is for CT")
        check_hounsfield(scan.array, scan.rescale)

    def __call__(self, values: Float[np.ndarray, "d h w"]) -> Float[np.ndarray, "d h w"]:
        """Clip and scale."""
        return (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low)


class Bytes(Intensity):
    """Divide by 255: volumes that were scaled and stored as bytes before."""

    def describe(self) -> dict[str, Any]:
        """State everything that changes a number, in JSON types."""
        return {"kind": "bytes"}

    def check(self, scan: Scan) -> None:
        """Accept any modality; the numbers are checked when they are divided."""

    def __call__(self, values: Float[np.ndarray, "d h w"]) -> Float[np.ndarray, "d h w"]:
        """Divide.

        Raises:
            ValueError: If a number is not within 0..255, or all are within 0..1.
        """
        low, high = float(values.min()), float(values.max())
        if low < 0 or not 1 < high <= 255:
            raise ValueError(
                f"the numbers run from {low:g} to {high:g}, expected bytes from 0 to 255; "
                "use a recipe for raw scans"
            )
        return values / 255
