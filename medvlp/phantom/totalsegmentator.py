"""Organ masks as TotalSegmentator writes them: the ids of its 117-class map (version 2)."""

import numpy as np
from jaxtyping import UInt8

from medvlp.phantom.canvas import organ_id

IDS = {
    "left upper lobe": 10,
    "left lower lobe": 11,
    "right upper lobe": 12,
    "right middle lobe": 13,
    "right lower lobe": 14,
    "esophagus": 15,
    "trachea and bronchi": 16,
    "heart": 51,
    "aorta": 52,
    "spleen": 1,
    "liver": 5,
    "stomach": 6,
    "spine": 38,  # one vertebra for all of them
    "ribs and sternum": 116,  # the sternum for all of them
}
"""Organ of the phantom to id; the pulmonary artery is not in the map."""
_RIGHT_KIDNEY_ID, _LEFT_KIDNEY_ID = 2, 3
_APPENDAGE_ID, _APPENDAGE_SHARE = 61, 0.03


def segment(organs: UInt8[np.ndarray, "d h w"]) -> UInt8[np.ndarray, "d h w"]:
    """Translate a mask of the phantom's organs.

    The left atrial appendage, which the phantom does not paint, is the upper left 3 % of the heart.

    Args:
        organs: Ids of `canvas.ORGANS`; slices upwards, columns to the patient's left.
    """
    table = np.zeros(256, dtype=np.uint8)
    for name, number in IDS.items():
        table[organ_id(name)] = number
    mask = table[organs]
    middle = organs.shape[2] // 2
    kidneys = organs == organ_id("kidneys")
    mask[:, :, :middle][kidneys[:, :, :middle]] = _RIGHT_KIDNEY_ID
    mask[:, :, middle:][kidneys[:, :, middle:]] = _LEFT_KIDNEY_ID
    heart = np.argwhere(organs == organ_id("heart"))
    if len(heart):
        height = heart[:, 0] / organs.shape[0] + heart[:, 2] / organs.shape[2]
        count = max(1, round(len(heart) * _APPENDAGE_SHARE))
        z, y, x = heart[np.argsort(height, kind="stable")[-count:]].T
        mask[z, y, x] = _APPENDAGE_ID
    return mask
