"""HLIP: from files to stored volumes (hlip.md, 6.1)."""

import json

import torch

from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.readers.registry import read
from medvlp.data.scan import Rescale

from .registry import Case, handles

README_TOLERANCE_HU = 1e-3


@handles("hlip", "preprocess_ct_rate")
def preprocess_ct_rate(case: Case) -> None:
    """Prepare each file with its table row; header geometry is overruled, as published.

    The published code cast slope and intercept to the pixel type of integer files (the README's
    quirk; no real row is fractional). Ours computes in float, so that case is given the truncated
    constants: it then shows that nothing else differs.
    """
    for entry in case.config["cases"]:
        row, name = entry["row"], entry["nifti"].split(".")[0]
        x, y = json.loads(row["XYSpacing"])
        rule = Rescale(float(row["RescaleSlope"]), float(row["RescaleIntercept"]))
        if entry["pixel_type"] == "int16":
            rule = Rescale(float(int(rule.slope)), float(int(rule.intercept)))
        scan = read(case.path / entry["nifti"]).restated(
            spacing_mm=(float(row["ZSpacing"]), float(y), float(x)),
            rescale=rule,
            orientation="SPL",
        )
        for dtype in ("float32", "float16"):
            recipe = CTRecipe(
                size=(8, 8, 8),
                spacing_mm=[float(mm) for mm in case.config["target_spacing_zyx"]],
                window_hu=(-1150.0, 350.0),
                mean=0.449,
                std=0.226,
                store_dtype=dtype,
            )
            stored = torch.from_numpy(recipe.prepare(scan).arrays["image"])
            assert list(stored.shape) == entry["out_shape"]
            key = name if dtype == "float32" else f"{name}.float16"
            expected = case.outputs[key].float()
            case.assert_close(key, stored.float(), expected, atol=README_TOLERANCE_HU)
    case.assert_all_compared()
