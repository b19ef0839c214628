"""Prove that a weight file and a model belong together."""

from collections.abc import Mapping
from typing import Any

from medvlp.checkpoints.adapter import LoadReport
from medvlp.checkpoints.files import WeightFile
from medvlp.checkpoints.fingerprint import fingerprint, not_finite, weights_hash
from medvlp.checkpoints.inspection import CARRIED
from medvlp.checkpoints.model_configs import build_model
from medvlp.checkpoints.systems import check_weights, differences, load_weights, naming, part_of


def verify_file(file: WeightFile, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Compare every tensor, load strictly, and run a fixed input.

    Args:
        file: The weights.
        tree: Config of the model.

    Returns:
        fits: Whether all is well; verdict: one line; keys: the report by name; recipe: of the
        preprocessing, if the file carries it; fingerprint: None unless the file fits.
    """
    shapes = build_model(tree, only_shapes=True)
    _, report = check_weights(shapes, file.tensors)
    spoilt = not_finite(file.tensors)
    fits = report.complete and not spoilt
    is_part = part_of(shapes, file.tensors) is not shapes
    verdict = fit(report, is_part=is_part)
    if spoilt:
        verdict = f"{len(spoilt)} tensors hold NaN or infinity: {', '.join(spoilt[:3])}"
    if not report.complete:
        verdict = misfit(report, differences(shapes, file.tensors))
    result: dict[str, Any] = {
        "file": str(file.path),
        "layout": str(file.layout),
        "names": naming(file.tensors),
        "weights hash": weights_hash(file.tensors),
        "fits": fits,
        "verdict": verdict,
        "keys": keys_of(report),
        "not finite": spoilt,
        "recipe": file.beside[CARRIED]["recipe"] if CARRIED in file.beside else None,
        "fingerprint": None,
    }
    if fits and not is_part:
        model = build_model(tree)
        load_weights(model, file.tensors)
        result["fingerprint"] = fingerprint(model).to_dict()
    return result


def keys_of(report: LoadReport) -> dict[str, Any]:
    """Turn a report into plain values: counts of what is well, names of what is not."""
    return {
        "loaded": len(report.loaded),
        "renamed": len(report.renamed),
        "ignored": report.ignored,
        "missing": report.missing,
        "unexpected": report.unexpected,
        "mismatched": report.mismatched,
    }


def fit(report: LoadReport, *, is_part: bool) -> str:
    """Say in one line that all is well."""
    left = f"{len(report.ignored)} ignored by name" if report.ignored else "none left over"
    over = "; an adapter, over towers and a language model from their own files" if is_part else ""
    return f"fits: {len(report.loaded)} tensors loaded, none missing, {left}{over}"


def misfit(report: LoadReport, different: list[str]) -> str:
    """Say in one line what does not fit, the terms of the configuration first."""
    cause = f"does not fit ({'; '.join(different)}): " if different else "does not fit: "
    return cause + "; ".join(str(report).splitlines()[1:])
