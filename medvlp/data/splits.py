"""Which study is for what: patients never straddle splits."""

import hashlib

import numpy as np

from medvlp.data.manifest import Manifest
from medvlp.data.records import SPLITS


class Splits:
    """Divides a manifest by its `split` column and holds patients of "train" out for validation.

    Args:
        val_fraction: Share of the training patients that becomes "val", chosen by a hash of the
            patient id; only where the data set brings no "val" of its own.
        predict: What `predict` runs over: "train", "val", "test" or "all".
        test: What `test` runs over; other than "test" where figures of known patients are wanted,
            as HCL-AL's fine stage wants the coarse stage's answers for them.
    """

    def __init__(
        self, val_fraction: float = 0.05, *, predict: str = "test", test: str = "test"
    ) -> None:
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction is {val_fraction}, expected 0 or more and less than 1")
        for name, value in (("predict", predict), ("test", test)):
            if value not in (*SPLITS, "all"):
                raise ValueError(f"{name} is {value!r}, expected one of {(*SPLITS, 'all')}")
        self.val_fraction = val_fraction
        self.predict, self.test = predict, test

    def assign(self, manifest: Manifest) -> dict[str, np.ndarray]:
        """List the rows of each split, of "all", and of "predict"."""
        names = np.array(manifest.table.column("split"), dtype=object)
        patients = manifest.table.column("patient_id")
        if self.val_fraction > 0 and not (names == "val").any():
            held_out = self._held_out(
                {p for p, n in zip(patients, names, strict=True) if n == "train"}
            )
            chosen = np.array([patient in held_out for patient in patients])
            names[chosen & (names == "train")] = "val"
        rows = {split: np.flatnonzero(names == split) for split in SPLITS}
        rows["all"] = np.arange(len(manifest))
        rows["predict"], rows["test"] = rows[self.predict], rows[self.test]
        return rows

    def _held_out(self, patients: set[str]) -> set[str]:
        if len(patients) < 2:
            return set()
        ranked = sorted(patients, key=_position)
        below = [patient for patient in ranked if _position(patient) < self.val_fraction]
        return set(below or ranked[:1])


def _position(patient_id: str) -> float:
    digest = hashlib.blake2b(patient_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
