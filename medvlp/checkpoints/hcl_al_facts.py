"""What the names and shapes of an HCL-AL file say about its model, and the rest about its data."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from medvlp.data.lesion_recipe import LesionRecipe, PatchChannel, PatchGrid

Shapes = Mapping[str, Sequence[int]]

_IMAGE = "image_encoder."
_TEXT = "text_encoder."
_FIELDS: tuple[Literal["image", "pet"], ...] = (
    "image",
    "pet",
)  # of the channels that are not the lesion's, in their order
_CELL = 16**3


def hcl_al_facts(shapes: Shapes) -> dict[str, Any] | None:
    """Read the configuration of a model from published names and shapes.

    The heads leave no trace in them, and the sides of a patch none but their product.

    Returns:
        Facts by name; None if these are not the weights of HCL-AL.
    """
    image = {n.removeprefix(_IMAGE): s for n, s in shapes.items() if n.startswith(_IMAGE)}
    found = _image_facts(image)
    if found is None:
        return None
    projection = image.get("fc.weight", (None, None))
    text = {n.removeprefix(_TEXT): s for n, s in shapes.items() if n.startswith(_TEXT)}
    return found | {"embedding": projection[0]} | _text_facts(text, "text_fc.weight" in shapes)


def _image_facts(image: Shapes) -> dict[str, Any] | None:
    if "position_embedding" in image and "patch_embedding.projection.weight" in image:
        patch, table = image["patch_embedding.projection.weight"], image["position_embedding"]
        kind, first = "ViT", patch
        voxels = (table[1] - 1) * patch[2] * patch[3] * patch[4]
    elif "input_block.convolution.weight" in image:
        kind, first, voxels = "DenseNet", image["input_block.convolution.weight"], None
    elif "in_block.conv.weight" in image:
        kind = "ResidualNet" if "down_32.down_conv.weight" in image else "BasicNet"
        first = image["in_block.conv.weight"]
        cells = image.get("fc.weight", (0, 0))[1] // (16 * first[0])
        voxels = cells * _CELL
    else:
        return None
    return {
        "image encoder": kind,
        "channels": first[1],
        "width": first[0],
        "voxels of a patch": voxels,
    }


def _text_facts(text: Shapes, text_fc: bool) -> dict[str, Any]:
    is_bert = "embeddings.word_embeddings.weight" in text
    name = "embeddings.word_embeddings.weight" if is_bert else "token_embedding.weight"
    layer = "encoder.layer." if is_bert else "transformer.resblocks."
    words = text.get(name, (None, None))
    layers = {n.removeprefix(layer).split(".")[0] for n in text if n.startswith(layer)}
    return {
        "text encoder": None if not text else "BERT" if is_bert else "CLIP",
        "text vocabulary": words[0],
        "text width": words[1],
        "text layers": len(layers) or None,
        "text fc": text_fc,
    }


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
    _require_known(beside)
    rules, (lesion,) = beside["crop_normalizers"], beside["lesion_idx"]
    fields: list[Literal["image", "pet", "lesion_mask"]] = [*_FIELDS[: len(rules) - 1]]
    fields.insert(lesion, "lesion_mask")
    channels = [
        PatchChannel(field, float(rule["mean"]), float(rule["stddev"]), clip=bool(rule["clip"]))
        for field, rule in zip(fields, rules, strict=True)
    ]
    grid = PatchGrid(
        [int(side) for side in beside["crop_size"]], [float(mm) for mm in beside["spacing"]]
    )
    return LesionRecipe(
        channels,
        coarse=grid if stage == "coarse" else None,
        fine=grid if stage == "fine" else None,
        image_dtype="float32",
        pet_dtype="float32",
        compat=compat,
    )


def _require_known(beside: Mapping[str, Any]) -> None:
    needed = ("spacing", "crop_size", "crop_normalizers", "interpolation", "lesion_idx")
    missing = [name for name in needed if name not in beside]
    if missing:
        raise ValueError(
            f"the file states no {', '.join(missing)} beside its weights; give params.pth as "
            "published, or choose a data recipe yourself"
        )
    rules = beside["crop_normalizers"]
    (lesion,) = beside["lesion_idx"]
    expected = ["nn" if index == lesion else "linear" for index in range(len(rules))]
    method = beside.get("sample_method", "fixed_length")
    kinds = {rule["type"] for rule in rules}
    if list(beside["interpolation"]) != expected or method != "fixed_length" or kinds != {0}:
        raise ValueError(
            f"the file asks for interpolation {beside['interpolation']} ({expected} is known), "
            f"sample_method {method!r} ('fixed_length') and normalizers of type {sorted(kinds)} "
            "(0); choose a data recipe yourself"
        )
