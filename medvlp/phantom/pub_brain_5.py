"""Write a phantom twin of Pub-Brain-5: its five sources in their trees, and the published tables.

As in the real set, each class comes from sources of its own (Normal from OpenBHB alone, Stroke from
the stroke set alone), so that a network may tell classes by scanner, thickness or missing skull.
Glioma, meningioma and a third of the metastases are alike in all of that: BraTS. Three things the
real set lacks are added: `splits.csv`, `reports.csv` (to train on) and `ground_truth/` (masks of
organs and findings on the lattice of each scan, `studies.json` with places and sizes).
"""

from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.pub_brain_5 import LABEL_NAMES, PubBrain5
from medvlp.phantom.head_twin import head_facts, write_additions
from medvlp.phantom.pub_brain_5_plan import PlannedStudy, plan_studies
from medvlp.phantom.pub_brain_5_study import WrittenStudy, write_study
from medvlp.phantom.source import TwinSource
from medvlp.phantom.tables import Row, write_table
from medvlp.phantom.twin import TwinWriter
from medvlp.phantom.twin_parameters import TwinParameters

TITLE = "Pub-Brain-5"
FORMAT_VERSION = 1
_PREFIX = "/data/pub_brain_5"  # as the published tables have it


def write_pub_brain_5_twin(
    root: str | Path, parameters: TwinParameters, *, num_workers: int = 0
) -> Path:
    """Write the twin; arguments and errors are those of `TwinWriter.build`.

    `root` gets the tables, a folder per source, `ground_truth/` and `twin.json`. The five classes
    come in turn. Hard cases are a corrupt file, a study of corrupt files only, a perfusion series
    of five channels, studies of one and of eight scans, odd spacing, a row without a folder, a
    folder without a row, a row of two classes, and an empty series.
    """
    writer = TwinWriter(TITLE, FORMAT_VERSION, plan_studies, write_study, _write_tables)
    return writer.build(root, parameters, num_workers=num_workers)


def _write_tables(root: Path, written: list[WrittenStudy]) -> dict[str, Any]:
    order = np.random.default_rng(written[0].planned.seed).permutation(len(written))
    shuffled = [written[int(index)] for index in order]
    listed = [one for one in shuffled if one.planned.hard_case != "not in the table"]
    columns = ("study", *LABEL_NAMES)
    rows = [_class_row(one.planned) for one in listed]
    write_table(root / "pub_brain_5.csv", columns, rows)
    known = [one for one in written if one.target_slices]
    targets: list[Row] = [
        {"study": f"{_PREFIX}/{one.planned.study_id}", "target_slices": _printed(one)}
        for one in known
    ]
    write_table(root / "ground_truth.csv", ("study", "target_slices"), targets)
    write_additions(root, written)
    return head_facts(root, written, sum(len(one.planned.series) for one in written))


def _class_row(planned: PlannedStudy) -> Row:
    classes = {name: int(name == planned.label) for name in LABEL_NAMES}
    if planned.hard_case == "two classes":
        classes["Metastasis"] = 1
    return {"study": f"{_PREFIX}/{planned.study_id}", **classes}


def _printed(one: WrittenStudy) -> str:
    """Print as NumPy does, over several lines if they are many."""
    return np.array2string(np.asarray(one.target_slices), max_line_width=75, threshold=10_000)


class PhantomPubBrain5(TwinSource, PubBrain5):
    """Pub-Brain-5's twin, read by the very code that reads Pub-Brain-5; see `TwinSource`."""

    name = "phantom_pub_brain_5"
    has_additions = True
    write_twin = staticmethod(write_pub_brain_5_twin)
