"""CT-RATE v2, the "fixed" files: HU as stored, right headers.

The second upload of CT-RATE (`dataset/train_fixed`, `dataset/valid_fixed`) has the geometry and the
rescale rule in each header; tables, names and licence (CC BY-NC-SA 4.0) are those of v1. The
metadata table still states the DICOM slope and intercept: applied to these files they would count
twice (issue 50 of the CT-CLIP repository), so they are not read here. The same upload has
TotalSegmentator's masks under `dataset/ts_seg/ts_total/{split}_fixed`, and lists of volumes that
show no chest, `dataset/metadata/no_chest_{split}.txt`, one path a line.
"""

from collections.abc import Sequence
from pathlib import Path

from medvlp.data.ct_rate import EXCLUDED, LABEL_NAMES, CTRate, Row
from medvlp.data.records import ScanRecord, Skip


class CTRateFixed(CTRate):
    """CT-RATE v2: every header is trusted, for geometry and for HU.

    A file with v1's raw numbers among them is refused when it is prepared, by its values.

    Args:
        root: The repository's folder, which holds `dataset/`, or `dataset/` itself.
        splits: Which published splits to read: "train", "valid".
        orientation: None trusts each header; letters of the stored arrays do not.
        label_names: Columns of the label tables, in the order of a batch.
        excluded: Volumes (without suffix) to leave out, beside those of the no_chest lists.
        anatomy_masks: Where organ masks lie under the dataset folder, in the same tree and of the
            same names as the volumes: "ts_seg/ts_total/{split}_fixed", or "{split}_mask" and
            "merged_{split}_masks" of fVLM's layout. They become the companion "anatomy_mask".
        annotations: JSON file with report strings and scans of the training studies, in place of
            those of the tables, see `AnnotationFile`.
    """

    name = "ct_rate_fixed"
    version = "ct_rate_fixed"
    metadata_columns = ("VolumeName",)

    def __init__(
        self,
        root: str,
        *,
        splits: Sequence[str] = ("train", "valid"),
        orientation: str | None = None,
        label_names: Sequence[str] = LABEL_NAMES,
        excluded: Sequence[str] = EXCLUDED,
        anatomy_masks: str | None = None,
        annotations: str | None = None,
    ) -> None:
        super().__init__(
            root,
            splits=splits,
            orientation=orientation,
            label_names=label_names,
            excluded=excluded,
            anatomy_masks=anatomy_masks,
            annotations=annotations,
        )

    def _left_out(self, dataset: Path, split: str) -> frozenset[str]:
        path = dataset / "metadata" / f"no_chest_{split}.txt"
        if not path.is_file():
            return self.excluded
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        names = {line.strip().rpartition("/")[2].split(".")[0] for line in lines} - {""}
        self.skips += [Skip(name, f"not of the chest, says {path.name}") for name in sorted(names)]
        return self.excluded | names

    def _scan(self, name: str, row: Row, files: dict[str, Path]) -> ScanRecord | None:
        if name not in files:
            self.skips.append(Skip(name, "listed in the tables, but the file is not there"))
            return None
        return ScanRecord(
            scan_id=name.split(".")[0], path=files[name], orientation=self.orientation
        )
