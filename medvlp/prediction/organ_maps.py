"""Which maps `medvlp.predict --map` draws with a model of organs: where a score comes from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medvlp.evaluation.organ_heat import organ_heat
from medvlp.evaluation.prompt_evaluation import class_embeddings
from medvlp.models.fvlm import FVLM
from medvlp.prediction.loaded_model import LoadedModel
from medvlp.prediction.organ_heat import OrganStudy, write_organ_heat

METHOD = "attention of the organ's query times the gradient of the score"
_MAPS = 3  # findings that are drawn where nothing is asked for


class Asked(NamedTuple):
    """One map to be drawn.

    Attributes:
        name: Of the map.
        organ: In which it lies.
        positive: Sentences that it speaks for.
        negative: Sentences that it speaks against.
        score: Of the model.
    """

    name: str
    organ: str
    positive: list[str]
    negative: list[str]
    score: float


def maps_to_draw(
    answers: Mapping[str, Any], organs: Sequence[str], *, named: bool
) -> tuple[list[Asked], list[str]]:
    """Choose the maps: of what was asked, or of the highest scores.

    A prompt is drawn in the organ that it is most similar to.

    Args:
        answers: "findings" and "prompts", as `medvlp.predict` writes them.
        organs: Of the model.
        named: Whether the findings were asked for by name.

    Returns:
        The maps, and sentences about findings that have none.
    """
    scored = [one for one in answers["findings"] if one["score"] is not None]
    single = [one for one in scored if one["organ"] in organs]
    notes = [
        f"no map of {one['name']}, which is looked for in {one['organ']} together"
        for one in scored
        if named and one not in single
    ]
    if not named:
        most = 0 if answers["prompts"] else _MAPS
        single = sorted(single, key=lambda one: -one["score"])[:most]
    fields = ("name", "organ", "positive", "negative", "score")
    asked = [Asked(*(one[field] for field in fields)) for one in single]
    for number, one in enumerate(answers["prompts"], 1):
        shown = {organ: value for organ, value in one["similarity"].items() if value is not None}
        if shown:
            organ = max(shown, key=lambda name: shown[name])
            name = f"prompt {number} {organ}: {one['prompt']}"
            asked.append(Asked(name, organ, [one["prompt"]], [], shown[organ]))
    return asked, notes


def write_organ_maps(
    folder: Path, study: OrganStudy, loaded: LoadedModel, asked: Sequence[Asked], **windows: Any
) -> list[dict[str, Any]]:
    """Write the maps, see `write_organ_heat`.

    Args:
        folder: Where to.
        study: That was scored.
        loaded: Model and tokenizer.
        asked: Which maps.
        windows: Those of `organ_heat`: of the scores.
    """
    if not asked:
        return []
    model = loaded.model
    assert isinstance(model, FVLM)
    organs = [model.organs.index(one.organ) for one in asked]
    with torch.no_grad():
        texts = _texts(loaded, model, asked, study.image.device)
    heat = organ_heat(model, study.image, study.anatomy_mask, organs=organs, texts=texts, **windows)
    heat = heat._replace(scores=torch.tensor([one.score for one in asked]))
    names = [one.name for one in asked]
    told = write_organ_heat(folder, study, heat, organs=organs, names=names)
    return [
        {"finding": one.pop("name"), "organ": of.organ, "method": METHOD, **one}
        for one, of in zip(told, asked, strict=True)
    ]


def _texts(
    loaded: LoadedModel, model: FVLM, asked: Sequence[Asked], device: torch.device
) -> Tensor:
    """Embed what a map speaks for, less what it speaks against."""
    groups = [one.positive for one in asked]
    groups += [one.negative for one in asked if one.negative]
    embedded = class_embeddings(groups, loaded.tokenizer, model.embed_text, device)
    texts, against = embedded[: len(asked)].clone(), embedded[len(asked) :]
    texts[[k for k, one in enumerate(asked) if one.negative]] -= against
    return texts
