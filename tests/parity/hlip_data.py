"""HLIP: from files to stored volumes (hlip.md, 6.1)."""

import json

from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.readers.registry import read
from medvlp.data.scan import Rescale

from .registry import Case, handles

README_TOLERANCE_HU = 1e-3


@handles("hlip", "preprocess_ct_rate")
def preprocess_ct_rate(case: Case) -> None:
    """Prepare each file with its table row; header geometry is overruled, as published.

    A fractional slope on an integer file was computed in the file's integer type by the published
    code; the README calls that case informational, so we check that ours differs for that reason.
    """
    for entry in case.config["cases"]:
        row, name = entry["row"], entry["nifti"].split(".")[0]
        x, y = json.loads(row["XYSpacing"])
        slope, intercept = row["RescaleSlope"], row["RescaleIntercept"]
        quirk = (
            not (slope.is_integer() and intercept.is_integer()) and entry["pixel_type"] == "int16"
        )
        scan = read(case.path / entry["nifti"]).restated(
            spacing_mm=(row["ZSpacing"], y, x),
            rescale=Rescale(int(slope), int(intercept)) if quirk else Rescale(slope, intercept),
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
            stored = recipe.prepare(scan)
            assert list(stored.shape) == entry["out_shape"]
            key = name if dtype == "float32" else f"{name}.float16"
            expected = case.outputs[key].float()
            case.assert_close(key, stored.float(), expected, atol=README_TOLERANCE_HU)
    case.assert_all_compared()
