"""Lesions one at a time, their texts encoded anew: how HCL-AL's published code goes about it.

What it does besides is left out, to its advantage: it reads its vocabulary and makes its tokenizer
anew for each lesion. Patches are ours in both ways.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.bench.record import cpu_seconds, peak_memory_mib
from medvlp.data.lesion_channel import lesions_in_mask
from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.read_scan import read_scan
from medvlp.data.recipe import Region
from medvlp.data.records import Lesion, ScanRecord
from medvlp.data.scan import Scan
from medvlp.evaluation.place_cascade import LesionFacts, PlaceAnswer, PlaceCascade
from medvlp.prediction.lesion_localiser import LesionStage
from medvlp.prediction.lesion_stage import load_stage
from medvlp.text.clip_tokenizer import ClipTokenizer
from medvlp.text.clip_transformer import ClipTextTransformer

Answers = Sequence[Mapping[str, float]]
"""Of each lesion names of places with their probabilities."""

_FIELDS = ("pet", "lesion_mask")


class Cost(NamedTuple):
    """What lesions took.

    Attributes:
        wall: Seconds by the clock.
        cpu: Seconds of all threads.
        peak_mib: Largest resident set of the process.
        answers: For the lesions.
    """

    wall: float
    cpu: float
    peak_mib: float
    answers: Answers


@dataclass(frozen=True)
class Files:
    """What lesions are localised from.

    Attributes:
        study: CT, PET and mask.
        coarse: Checkpoint.
        fine: Checkpoint.
        vocabulary: Name or file.
        descriptions: File, where the vocabulary has none.
        device: Where the models run.
    """

    study: Sequence[Path]
    coarse: Path
    fine: Path
    vocabulary: str
    descriptions: str | None
    device: str

    def command(self) -> list[str]:
        """State them as `medvlp localise` takes them."""
        stages = ["--coarse", str(self.coarse), "--fine", str(self.fine)]
        texts = ["--vocabulary", self.vocabulary, "--device", self.device]
        texts += ["--descriptions", self.descriptions] if self.descriptions else []
        return [*map(str, self.study), *stages, *texts]


@torch.inference_mode()
def localise_as_published(files: Files, num_lesions: int) -> Cost:
    """Name the places of the first lesions of a study."""
    cascade = PlaceCascade(PlaceVocabulary.load(files.vocabulary, files.descriptions))
    stages = {
        "coarse": load_stage(files.coarse, "coarse"),
        "fine": load_stage(files.fine, "fine"),
    }
    for stage in stages.values():
        stage.model.eval().to(files.device)
    image, *others = files.study
    beside: dict[str, Path] = dict(zip(_FIELDS, others, strict=True))
    scan = read_scan(ScanRecord("study", image, "CT", companions=beside), _FIELDS)
    mask = scan.companions["lesion_mask"]
    way = _Way(scan, stages, cascade, files.device)
    lesions, _ = lesions_in_mask(mask.array, mask.affine)
    wall, cpu = time.perf_counter(), cpu_seconds()
    answers = [way.answer(lesion) for lesion in lesions[:num_lesions]]
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    named = [dict(zip(one.names, one.probabilities, strict=True)) for one in answers]
    return Cost(wall, cpu, peak_memory_mib(), named)


class _Way:
    def __init__(
        self,
        scan: Scan,
        stages: Mapping[str, LesionStage],
        cascade: PlaceCascade,
        device: str,
    ) -> None:
        self.stages, self.cascade, self.device = stages, cascade, device
        self._studies = {name: stage.recipe.prepare(scan) for name, stage in stages.items()}

    def answer(self, lesion: Lesion) -> PlaceAnswer:
        """Encode the patch and all coarse texts, then those that lie within the best three."""
        vocabulary = self.cascade.vocabulary
        words = vocabulary.coarse_words
        coarse = self.cascade.coarse(self._cosines("coarse", lesion, words))
        inside = tuple(dict.fromkeys(w for name in coarse[0] for w in vocabulary.fine_words(name)))
        column = {word: number for number, word in enumerate(vocabulary.all_fine_words)}
        fine = torch.full((1, len(column)), -1.0)  # the others are not looked at
        fine[0, [column[word] for word in inside]] = self._cosines("fine", lesion, inside)[0]
        _, _, _, width, height, depth = lesion.box_mm
        (answer,) = self.cascade.answers(coarse, fine, [LesionFacts((width, height, depth))])
        return answer

    def _cosines(self, name: str, lesion: Lesion, words: Sequence[str]) -> Float[Tensor, "1 k"]:
        stage, study = self.stages[name], self._studies[name]

        def read(field: str, region: Region | None) -> Any:
            return study.arrays[field] if region is None else study.arrays[field][region]

        inputs = stage.recipe.inputs(read, study.facts, target=vars(lesion))
        patch = inputs[f"lesion_{name}"].to(self.device)
        texts = [self.cascade.vocabulary.text_of(word) for word in words]
        embedding = stage.model.embed_lesion(patch[None])
        return (embedding @ embed_at_full_context(stage, texts).T).cpu()


def embed_at_full_context(stage: LesionStage, texts: list[str]) -> Float[Tensor, "t e"]:
    """Embed texts padded to the context, whereas the tower cuts them to the longest."""
    tower = stage.model.text
    assert isinstance(tower, ClipTextTransformer)
    tokenizer = ClipTokenizer(context_length=tower.context_length, padding="max_length")
    ids = tokenizer(texts).input_ids.to(tower.pos_embed.device)
    x = tower.token_embed(ids) + tower.pos_embed
    for block in tower.blocks:
        x = block(x)
    rows = torch.arange(len(x), device=x.device)
    features = tower.projection(tower.norm(x[rows, ids.argmax(dim=1)]))
    return torch.nn.functional.normalize(stage.model.text_projection(features), dim=-1)
