"""fVLM: preprocessing and where windows are cut."""

from dataclasses import replace

import numpy as np
import torch

from medvlp.data.anatomy_mask import AnatomyMask, resize_labels
from medvlp.data.anatomy_recipe import AnatomyRecipe, published_hounsfield
from medvlp.data.scan import Rescale, Scan, orientation_of
from medvlp.data.windows import window_placement

from .registry import Case, handles

# the published merge of TotalSegmentator's 117 classes
ANATOMIES = {"lung": [10, 11, 12, 13, 14], "heart": [51, 61], "esophagus": [15], "aorta": [52]}


@handles("fvlm", "window_placement")
def windows(case: Case) -> None:
    """Place each window; start inclusive, end exclusive."""
    names = ("volume_dhw", "window_dhw", "organ_min_max_dhw")
    rows = zip(*(case.inputs[name].tolist() for name in names), strict=True)
    ours = []
    for volume, window, (first, last) in rows:
        cuts = window_placement(volume, window, organ_min=first, organ_max=last, compat="published")
        ours.append([[cut.start for cut in cuts], [cut.stop for cut in cuts]])
    assert len(ours) == case.config["n"]
    case.assert_close("start_end_dhw", torch.tensor(ours), case.outputs["start_end_dhw"])
    case.assert_all_compared()


@handles("fvlm", "preprocess")
def preprocess(case: Case) -> None:
    """Follow the chain of the published scripts; the corrected file's affine is the case's."""
    config, row = case.config, case.config["metadata"]
    raw, labels = (case.inputs[name].numpy() for name in ("raw_zyx_int16", "ts_mask_xyz_u8"))
    rule = Rescale(float(row["RescaleSlope"]), float(row["RescaleIntercept"]))
    fixed = torch.from_numpy(published_hounsfield(raw, rule).T.copy())
    case.assert_close("fixed_xyz_int16", fixed, case.outputs["fixed_xyz_int16"])

    affine = np.array(config["fixed_affine"])
    mask, scan = (_scan(array, affine) for array in (labels.T, raw))
    recipe = AnatomyRecipe(
        size=(112, 256, 352),
        spacing_mm=(3.0, 1.0, 1.0),
        window_hu=(-1150.0, 350.0),
        mask=AnatomyMask(ANATOMIES),
        compat="published",
    )
    prepared = recipe.prepare(replace(scan, rescale=rule, companions={"anatomy_mask": mask}))
    assert prepared.facts["resampled_shape"][::-1] == config["resized_shape_xyz"]
    _check_resized_mask(case, recipe, labels)
    stored, anatomy = (prepared.arrays[name] for name in recipe.fields)
    inputs = recipe.inputs(lambda name, _: prepared.arrays[name], {"shape": list(stored.shape)})
    assert list(inputs["anatomy_mask"].shape) == config["final_shape_zyx"]
    block = tuple(
        slice(start, start + length)
        for start, length in zip(config["pad_before_zyx"], stored.shape, strict=True)
    )
    image, organs = inputs["image"][0], inputs["anatomy_mask"]
    key = "processed_block_zyx"
    case.assert_close(key, image[block], case.outputs[key])
    key = "processed_mask_block_zyx_u8"
    case.assert_close(key, organs[block], case.outputs[key])
    for whole, part in ((image, image[block]), (organs, organs[block])):
        assert int(whole.count_nonzero()) == int(part.count_nonzero())
    assert anatomy.dtype == np.uint8
    case.assert_all_compared()


def _check_resized_mask(case: Case, recipe: AnatomyRecipe, labels: np.ndarray) -> None:
    key = "resized_mask_xyz_u8"
    shape = case.config["resized_shape_xyz"]
    resized = resize_labels(recipe.mask.merge(labels), shape, mode="nearest")
    case.assert_close(key, torch.from_numpy(resized), case.outputs[key])


def _scan(array: np.ndarray, affine: np.ndarray) -> Scan:
    x, y, z = (float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return Scan(np.ascontiguousarray(array), affine, (z, y, x), orientation_of(affine))
