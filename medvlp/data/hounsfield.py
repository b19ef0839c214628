"""Are these numbers Hounsfield units? The check against a rescale applied twice or never."""

import numpy as np

from medvlp.data.scan import Rescale

_AIR = (-1100.0, -800.0)
_TISSUE = (-200.0, 300.0)
_USUAL_OFFSETS = (1024.0, 8192.0)  # of raw numbers; both occur in CT-RATE v1
_MORE_THAN_BONE = 0.1  # raw soft tissue lies where HU of dense bone do, but there is more of it
_NO_BODY = 500.0  # HU below which every crop of a body has something
_ENOUGH = 0.02  # share of the voxels that makes air or tissue plain to see
_SAMPLE = 200_000


def check_hounsfield(array: np.ndarray, rescale: Rescale) -> None:
    """Refuse a CT whose rescale rule does not fit its stored numbers.

    Air must come out near -1000 HU and soft tissue near 0. CT-RATE v1 stores raw numbers whose
    slope and intercept stand in a table; its "fixed" files are HU already, and the same table
    applied to them moves every voxel by -1024 or -8192. The shares of air and of tissue before
    and after tell which it is; a crop with neither passes.

    Args:
        array: As stored.
        rescale: The rule that is about to be applied.

    Raises:
        ValueError: If the rule would be applied twice, or if it is missing.
    """
    strides = max(1, round((array.size / _SAMPLE) ** (1 / 3)))
    stored = array[::strides, ::strides, ::strides].astype(np.float64)
    values = stored * rescale.slope + rescale.intercept
    if rescale.intercept <= -500 and _is_shifted(values, stored):
        raise ValueError(
            f"the stored numbers are HU already (air near {_level(stored, _AIR):.0f}), and slope "
            f"{rescale.slope:g} and intercept {rescale.intercept:g} would be applied a second "
            "time: these are 'fixed' files; read them with the header's rule, not the table's"
        )
    low = float(values.min())
    raw = any(
        _share(values - offset, _AIR) > _ENOUGH
        and _share(values - offset, _TISSUE) > _MORE_THAN_BONE
        for offset in _USUAL_OFFSETS
    )
    if low > _NO_BODY or (low >= 0 and raw):
        raise ValueError(
            f"the lowest value is {low:g} after slope {rescale.slope:g} and intercept "
            f"{rescale.intercept:g}, expected air near -1000 HU: the rescale intercept is missing "
            "(raw numbers of CT-RATE v1 need that of its table: data=ct_rate)"
        )


def _is_shifted(values: np.ndarray, alternative: np.ndarray) -> bool:
    tissue = _share(alternative, _TISSUE)
    return (
        _share(alternative, _AIR) > _ENOUGH
        and tissue > _ENOUGH
        and _share(values, _TISSUE) < 0.2 * tissue
    )


def _share(values: np.ndarray, interval: tuple[float, float]) -> float:
    return float(np.mean((values >= interval[0]) & (values <= interval[1])))


def _level(values: np.ndarray, interval: tuple[float, float]) -> float:
    return float(np.median(values[(values >= interval[0]) & (values <= interval[1])]))
