"""Write prepared data in HSENet's own layout, for its published code.

    python -m medvlp.data.hsenet_export CACHE_FOLDER OUT [--task report|location]

CACHE_FOLDER is what `python -m medvlp.prepare data=ct_rate_hsenet` ends with. OUT gets one NumPy
file for each volume and one for its features, and `dataset.json`, which names them (see
`medvlp.data.hsenet_json`, which reads it). Run again, it writes what is missing.
"""

import argparse
import hashlib
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from medvlp.data.cache import require_writable, write_atomically
from medvlp.data.hsenet_json import FEATURES_SUFFIX, IMAGE_SUFFIX
from medvlp.data.manifest import Manifest, Row
from medvlp.data.plain_report import PlainReport
from medvlp.data.progress import RateBar
from medvlp.data.unit_range import unpack_unit
from medvlp.user_errors import one_line_errors

Task = Literal["report", "location"]

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_LIST = {"train": "train", "val": "validation", "test": "validation"}


def export(manifest: Manifest, out: Path, *, task: Task = "report") -> Counter[str]:
    """Write the arrays and the JSON file.

    Args:
        manifest: Of volumes from 0 to 1, see `HSENetRecipe`.
        out: Is made.
        task: Items of reports, or of questions about places.

    Returns:
        How many items each list has, and how many volumes were left out for what reason.

    Raises:
        PermissionError: If nothing can be written there.
        ValueError: If the data were prepared by a recipe of another model, or nothing is left.
    """
    if not str(manifest.recipe.get("kind")).startswith("hsenet"):
        raise ValueError(
            f"{manifest.folder} was prepared for {manifest.recipe.get('kind')!r}, expected a "
            "recipe of HSENet: prepare data=ct_rate_hsenet or bimcv_r_hsenet"
        )
    require_writable(out)
    lists: dict[str, list[Row]] = {"train": [], "validation": []}
    counts: Counter[str] = Counter()
    with RateBar("writing", "studies") as bar:
        for study in manifest:
            told = list(_told(study, task))
            if not told:
                counts[f"studies without a {task}, left out"] += 1
            split = _LIST[study["split"]]
            for scan in study["scans"] if told else ():
                paths = _write_arrays(manifest, scan["scan_id"], out / split)
                lists[split] += [{**paths, **words} for words in told]
            bar.advance(len(manifest))
    if not any(lists.values()):
        raise ValueError(f"{manifest.folder} has no study with a {task}; nothing was written")
    write_atomically(out / "dataset.json", (json.dumps(lists, indent=1) + "\n").encode())
    return Counter({name: len(items) for name, items in lists.items()}) + counts


def _told(study: Row, task: Task) -> Iterator[dict[str, str]]:
    report = PlainReport(removed="").text(study["texts"])
    if task == "report":
        if report:
            yield {"text": report}
        return
    for question in study["questions"]:
        if question["kind"] == "location" and question["subject"]:
            words = {"abnormality": question["subject"], "anatomy": question["answer"]}
            yield {"text": report, **words}


def _write_arrays(manifest: Manifest, scan_id: str, folder: Path) -> dict[str, str]:
    """Write what is missing of a scan; returns the paths by key of an item."""
    name = scan_id if _PLAIN.fullmatch(scan_id) else hashlib.sha256(scan_id.encode()).hexdigest()
    paths = {"image": folder / f"{name}{IMAGE_SUFFIX}"}
    if "slice_features" in manifest.fields:
        paths["biomedclip_features"] = folder / f"{name}{FEATURES_SUFFIX}"
    for key, path in paths.items():
        if path.is_file():
            continue
        if key == "image":
            array = unpack_unit(manifest.cache.read(scan_id))[None]
        else:
            array = manifest.cache.read(scan_id, field="slice_features")
        write_atomically(path, _npy(array))
    return {key: str(path.resolve()) for key, path in paths.items()}


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m medvlp.data.hsenet_export")
    parser.add_argument("folder", type=Path, help="prepared data, with studies.parquet")
    parser.add_argument("out", type=Path)
    parser.add_argument("--task", choices=get_args(Task), default="report")
    arguments: Any = parser.parse_args(argv)
    with one_line_errors():
        counts = export(Manifest(arguments.folder), arguments.out, task=arguments.task)
        lines = [f"{what}: {count:,}\n" for what, count in counts.items()]
        sys.stdout.writelines(lines)
        sys.stdout.write(f"everything lies in {arguments.out}, the lists in its dataset.json\n")


if __name__ == "__main__":
    main(sys.argv[1:])
