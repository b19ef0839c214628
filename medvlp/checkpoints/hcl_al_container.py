"""What HCL-AL's published files hold beside the weights: how the patches of a stage are cut.

epoch, batch; net (name of the network) and max_stride; spacing (mm) and crop_size (voxels) along
x, y, z; crop_normalizers and interpolation of each channel, input_channel (their number) and
lesion_idx (which of them is the mask); sample_method and box_percent_padding, which is not used.
Ours add heads (of attention), where they do not have 64 channels each: no weight tells.

Reference: the released checkpoints of github.com/HerrBaum-YR/HCL-AL.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from torch import Tensor

from medvlp.checkpoints.exported import CARRIED
from medvlp.checkpoints.hcl_al_facts import HEAD_CHANNELS, hcl_al_facts
from medvlp.data.lesion_recipe import LesionRecipe, PatchChannel, PatchGrid

_FIELDS: tuple[Literal["image"], Literal["pet"]] = ("image", "pet")
"""Of the channels that are not the lesion's, in their order."""
_NEEDED = ("spacing", "crop_size", "crop_normalizers", "interpolation", "lesion_idx")
_SAME = {"max_stride": 16, "sample_method": "fixed_length", "box_percent_padding": 0.75}


class _Stated(NamedTuple):
    """What decides how patches are made, in plain types.

    Attributes:
        rules: Type, mean, deviation and clipping of each channel.
        lesion: Number of the lesion's channel.
        size: Voxels along x, y, z.
        spacing: Their distance in mm.
    """

    rules: list[tuple[int, float, float, bool]]
    lesion: int
    size: list[int]
    spacing: list[float]


def stored_recipe(
    beside: Mapping[str, Any],
    stage: Literal["coarse", "fine"],
    *,
    compat: Literal["published"] | None = "published",
) -> LesionRecipe:
    """Make the recipe that a published file states beside its weights; it rounds nothing.

    Args:
        beside: What the file holds beside them, see `WeightFile`.
        stage: Which patch of the recipe it is.
        compat: "published" for the geometry that the weights were trained with.

    Raises:
        ValueError: If something is missing, or asks for what patches are not made of.
    """
    stated = _read(beside)
    fields: list[Literal["image", "pet", "lesion_mask"]] = [*_FIELDS[: len(stated.rules) - 1]]
    fields.insert(stated.lesion, "lesion_mask")
    channels = [
        PatchChannel(field, mean, std, clip=clip)
        for field, (_, mean, std, clip) in zip(fields, stated.rules, strict=True)
    ]
    grid = PatchGrid(stated.size, stated.spacing)
    return LesionRecipe(
        channels,
        coarse=grid if stage == "coarse" else None,
        fine=grid if stage == "fine" else None,
        image_dtype="float32",
        pet_dtype="float32",
        compat=compat,
    )


def published_beside(tensors: Mapping[str, Tensor], beside: Mapping[str, Any]) -> dict[str, Any]:
    """Collect all that a published file holds beside its weights.

    Args:
        tensors: Under published names.
        beside: Of a published file, or of a checkpoint of medvlp.train, which carries its recipe.

    Raises:
        ValueError: If it says nothing of the patches, or something that such files cannot say.
    """
    carried = beside.get(CARRIED)
    if carried is not None:
        stated = _of_recipe(carried["recipe"]["fields"])
        tree: Mapping[str, Any] = carried["config"]
    else:
        _read(beside)
        stated, tree = {name: beside[name] for name in _NEEDED}, {}
    heads = _unusual_heads(tree) or beside.get("heads")
    return {
        "epoch": int(beside.get("epoch", 0)),
        "batch": int(beside.get("batch", beside.get("global_step", 0))),
        "net": beside.get("net") or _network(tensors, tree),
        "input_channel": len(stated["crop_normalizers"]),
        **{name: beside.get(name, usual) for name, usual in _SAME.items()},
        **stated,
        **({"heads": heads} if heads else {}),
    }


def _unusual_heads(tree: Mapping[str, Any]) -> dict[str, int]:
    """Tell the heads of attention of towers that have them, unless they are as published.

    Raises:
        ValueError: If a BERT's texts are pooled in another way than the published ones.
    """
    heads: dict[str, int] = {}
    for name, tower in ((name, tree.get("model", {}).get(name, {})) for name in ("vision", "text")):
        bert = tower.get("config") or {}
        if bert and (tower.get("pooling") != "max" or tower.get("mask_padding", True)):
            raise ValueError(
                "the texts of a published BERT are pooled by their maximum, padding included "
                "(pooling: max, mask_padding: false), and these are not; choose --layout module, "
                "which holds weights alone"
            )
        width = bert.get("hidden_size", 768) if bert else tower.get("width", 0)
        number = bert.get("num_attention_heads", 12) if bert else tower.get("num_heads", 0)
        if number and number * HEAD_CHANNELS != width:
            heads[name] = number
    return heads


def _of_recipe(fields: Mapping[str, Any]) -> dict[str, Any]:
    """State a recipe of ours, as it describes itself, in published terms."""
    channels, patches = fields.get("channels", ()), fields.get("patches") or {}
    names = [channel["field"] for channel in channels]
    usual = [name for name in names if name != "lesion_mask"] == [*_FIELDS[: len(names) - 1]]
    measured = any(channel["mean"] is None for channel in channels)
    if len(patches) != 1 or "lesion_mask" not in names or not usual or measured:
        raise ValueError(
            f"a published file has one patch of CT, PET if it is seen, and lesion mask, normalised "
            f"by fixed numbers; this recipe has {len(patches)} ({', '.join(patches)}) of "
            f"{', '.join(names)}{' by their own numbers' if measured else ''}: choose --layout "
            "module, which holds weights alone"
        )
    (patch,) = patches.values()
    return {
        "spacing": list(patch["spacing_mm"]),
        "crop_size": list(patch["size"]),
        "crop_normalizers": [
            {"type": 0, "mean": one["mean"], "stddev": one["std"], "clip": one["clip"]}
            for one in channels
        ],
        "interpolation": ["nn" if name == "lesion_mask" else "linear" for name in names],
        "lesion_idx": [names.index("lesion_mask")],
    }


def _network(tensors: Mapping[str, Tensor], tree: Mapping[str, Any]) -> str:
    """Name the network as published, by its weights and what it was trained with."""
    facts = hcl_al_facts({name: list(tensor.shape) for name, tensor in tensors.items()}) or {}
    tokenizer = str(tree.get("tokenizer", {}).get("name_or_path"))
    bert = "BioMedBERT" if "BiomedCLIP" in tokenizer else "PubMedBERT"
    text = bert if facts.get("text encoder") == "BERT" else "ClipText"
    loss = tree.get("loss", {})
    hard = ""
    if str(loss.get("_target_")).endswith(".HardNegativeLoss"):
        hard = "_SemiHardNegSample" if loss.get("semi_hard", True) else "_HardNegSample"
    return f"{text}_{'Fc_' if facts.get('text fc') else ''}{facts.get('image encoder')}{hard}"


def _read(beside: Mapping[str, Any]) -> _Stated:
    missing = [name for name in _NEEDED if name not in beside]
    if missing:
        raise ValueError(
            f"the file states no {', '.join(missing)} beside its weights; give params.pth as "
            "published, or choose a data recipe yourself"
        )
    try:
        stated = _Stated(
            [
                (int(rule["type"]), float(rule["mean"]), float(rule["stddev"]), bool(rule["clip"]))
                for rule in beside["crop_normalizers"]
            ],
            int(beside["lesion_idx"][0]),
            [int(side) for side in beside["crop_size"]],
            [float(mm) for mm in beside["spacing"]],
        )
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise ValueError(_unusual(beside)) from error
    count = len(stated.rules)
    of_one_mask = len(beside["lesion_idx"]) == 1 and stated.lesion in range(count)
    if not of_one_mask or beside.get("input_channel", count) != count or count not in (2, 3):
        raise ValueError(_unusual(beside))
    expected = ["nn" if index == stated.lesion else "linear" for index in range(count)]
    method = beside.get("sample_method", "fixed_length")
    kinds = {rule[0] for rule in stated.rules}
    if list(beside["interpolation"]) != expected or method != "fixed_length" or kinds != {0}:
        raise ValueError(
            f"the file asks for interpolation {beside['interpolation']} ({expected} is known), "
            f"sample_method {method!r} ('fixed_length') and normalizers of type {sorted(kinds)} "
            "(0); choose a data recipe yourself"
        )
    return stated


def _unusual(beside: Mapping[str, Any]) -> str:
    told = {name: beside[name] for name in (*_NEEDED, "input_channel") if name in beside}
    return (
        f"the file states {told}: expected a spacing and a crop_size along x, y, z, two or three "
        "crop_normalizers with type, mean, stddev and clip, input_channel their number, and one "
        "lesion_idx among them; download it again, or choose a data recipe yourself"
    )
