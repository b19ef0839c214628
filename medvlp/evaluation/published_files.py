"""Published result files, written from results: same folders, names, keys, spelling."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medvlp.evaluation import catalogue_report
from medvlp.evaluation.published import hlip_layout, pub_brain_5_layout, retrieval_layout
from medvlp.evaluation.published_unimed import slip_layout
from medvlp.evaluation.results import Results, without_nan


def write_published(results: Mapping[str, Results], folder: str | Path, model: str) -> list[Path]:
    """Write `results/<data set>/<model>/` below the folder and return the files.

    UniMed-CLIP's labelled sets give `slip.txt`, a line of JSON for each. All others are HLIP's.
    Findings scored one by one give `logits_<template>.csv` (a probability per class, although the
    name says logits) and `results_<template>.json`. Tasks give
    `<task>_<detection or classification>_<template>_<prompts>.csv`, and all of them together
    `results_<template>.json`, which the published scripts only print; retrieval gives
    `retrieval.json`. The mean over diseases has no published file.

    Args:
        results: By name of the evaluation, with their predictions.
        folder: Of the run.
        model: Name of the model, as the published configurations have it.
    """
    root = Path(folder) / "results"
    files: list[Path] = []
    tasks: dict[Path, dict[str, Any]] = {}
    for name, result in results.items():
        kind, data, template, *classes = (*result.protocol.split("/"), "", "")
        target = root / (data or name) / model
        if kind == catalogue_report.KIND:
            files.append(_write_slip(root / name / model / "slip.txt", result))
        elif "image_to_text" in {macro.name for macro in result.macros}:
            target = root / name / model
            files.append(_write_json(target / "retrieval.json", retrieval_layout(result)))
        elif kind == "zero_shot" and result.score_rule == "choice":
            tasks.setdefault(target / f"results_{template}.json", {}).update(
                pub_brain_5_layout(result)
            )
            act = "detection" if classes[0].count(" | ") == 1 else "classification"
            path = target / f"{name}_{act}_{template}_{data}.csv"
            files.append(_write_scores(path, "study", result, classes[0].split(" | ")))
        elif kind == "zero_shot" and not classes[0]:
            scored = [*(finding.name for finding in result.findings), *result.skipped]
            path = target / f"logits_{template}.csv"
            files.append(_write_scores(path, "recon", result, scored))
            files.append(_write_json(target / f"results_{template}.json", hlip_layout(result)))
    return files + [_write_json(path, layout) for path, layout in tasks.items()]


def _write_json(path: Path, layout: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(without_nan(layout), indent=4) + "\n", encoding="utf-8")
    return path


def _write_slip(path: Path, result: Results) -> Path:
    """Write the lines of the published evaluation after training's first epoch, or of none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(without_nan(line)) for line in slip_layout(result)]
    path.write_text(
        "".join(f"Saving results for Epoch 0\n{line}\n" for line in lines), encoding="utf-8"
    )
    return path


def _write_scores(path: Path, key: str, result: Results, classes: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [name for name in (result.predictions or [{}])[0] if name in classes]
        writer.writerow([key, *(names or classes)])
        for row in result.predictions:
            writer.writerow([row["sample_id"], *(row[name] for name in names)])
    return path
