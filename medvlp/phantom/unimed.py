"""Write a phantom twin of UniMed's web shards: 13 components of painted images and captions.

Folders, shard names, members and text fields are those of the real set (arXiv 2412.10372); shards
are smaller, and components as large as the roots of the real sizes, so that none vanishes. Two
things it lacks are added: `validation_pairs/` and `test_pairs/`, shards of held-out images with
captions, and `ground_truth/samples.csv`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.shard_writer import ShardWriter
from medvlp.phantom.image_file import ODD_FORMS, Form, encode
from medvlp.phantom.image_painter import FINDINGS, paint
from medvlp.phantom.tables import Row, write_table
from medvlp.phantom.twin import TwinWriter
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.phantom.unimed_components import COMPONENTS, HELD_OUT, Component

TITLE = "UniMed"
FORMAT_VERSION = 1
SAMPLES_PER_SHARD = 100

_HARD: dict[str, tuple[str, ...]] = {
    "chexpert_webdataset": ("empty caption", "only a marker"),
    "rocov2_webdataset": (*ODD_FORMS, "broken image"),
    "pmc_oa_webdataset": ("cut shard",),
    "retina_part2_webdataset": ("empty shard",),
}


@dataclass(frozen=True)
class PlannedSample:
    """One image with its text.

    Attributes:
        modality: Of the image.
        finding: What it shows.
        seed: Of everything in it.
        hard_case: Which hard case this is; empty for ordinary samples.
    """

    modality: str
    finding: str
    seed: tuple[int, ...]
    hard_case: str = ""


@dataclass(frozen=True)
class PlannedShard:
    """One tar file.

    Attributes:
        component: Place in the row of all components, held-out ones last.
        number: Shards before it.
        samples: In their order.
        hard_case: Which hard case the whole shard is.
    """

    component: int
    number: int
    samples: tuple[PlannedSample, ...]
    hard_case: str = ""


@dataclass(frozen=True)
class WrittenShard:
    """What a shard adds to the table, and its hard cases."""

    rows: list[Row]
    hard_cases: list[dict[str, str]]


def write_unimed_twin(
    root: str | Path, parameters: TwinParameters, *, num_workers: int = 0
) -> Path:
    """Write the twin; arguments and errors are those of `TwinWriter.build`.

    A study is an image of about `shape[1]` pixels along each side. Hard cases are captions that are
    empty or only a marker, images of odd modes and a broken one, a shard cut in the middle, and one
    without a sample.
    """
    writer = TwinWriter(TITLE, FORMAT_VERSION, _plan, _write, _write_tables)
    return writer.build(root, parameters, num_workers=num_workers)


def sizes(num_samples: int) -> list[int]:
    """Divide samples among the components, by the roots of their real sizes, each at least one.

    >>> sum(sizes(1000)), min(sizes(1000))
    (1000, 11)
    """
    shares = np.cumsum([sqrt(component.shards) for component in COMPONENTS])
    edges = np.round(shares / shares[-1] * num_samples).astype(int).tolist()
    return [max(edge - start, 1) for start, edge in zip([0, *edges], edges, strict=False)]


def _plan(parameters: TwinParameters) -> list[PlannedShard]:
    counts = [*sizes(parameters.num_train), *[parameters.num_test] * len(HELD_OUT)]
    shards: list[PlannedShard] = []
    for place, (component, count) in enumerate(zip(_ALL, counts, strict=True)):
        samples = tuple(_samples(component, count, (parameters.seed, place)))
        starts = range(0, count, SAMPLES_PER_SHARD)
        parts = [samples[start : start + SAMPLES_PER_SHARD] for start in starts]
        shards += [PlannedShard(place, number, part) for number, part in enumerate(parts)]
        if parameters.hard_cases and component.folder in _HARD:
            shards.append(_hard_shard(parameters, place, len(parts)))
    return shards


_ALL = (*COMPONENTS, *HELD_OUT)


def _samples(
    component: Component, count: int, seed: tuple[int, ...], hard: tuple[str, ...] = ()
) -> Iterator[PlannedSample]:
    """List samples whose modality and finding come in turn."""
    for number in range(count):
        modality = component.modalities[number % len(component.modalities)]
        findings = FINDINGS[modality]
        finding = findings[number // len(component.modalities) % len(findings)]
        case = hard[number] if number < len(hard) else ""
        yield PlannedSample(modality, finding, (*seed, number), case)


def _hard_shard(parameters: TwinParameters, place: int, number: int) -> PlannedShard:
    component = _ALL[place]
    cases = _HARD[component.folder]
    seed = (parameters.seed, 1000 + place)
    if cases[0].endswith("shard"):
        count = 0 if cases[0] == "empty shard" else 8
        return PlannedShard(place, number, tuple(_samples(component, count, seed)), cases[0])
    return PlannedShard(place, number, tuple(_samples(component, len(cases) + 2, seed, cases)))


def _write(root: Path, parameters: TwinParameters, shard: PlannedShard) -> WrittenShard:
    component = _ALL[shard.component]
    folder = root / component.folder
    folder.mkdir(parents=True, exist_ok=True)
    first = shard.number * SAMPLES_PER_SHARD
    writer = ShardWriter(
        folder, samples_per_shard=SAMPLES_PER_SHARD, num_shards=shard.number, num_samples=first
    )
    if not shard.samples:
        writer.open_next()
    for sample in shard.samples:
        writer.add(*_painted(component, sample, parameters.shape[1]))
    writer.close()
    name = f"dataset-{shard.number + 1:06d}.tar"
    if shard.hard_case == "cut shard":
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    cases = [
        {"kind": sample.hard_case, "study": f"{component.folder}/{name}/{first + place:06d}"}
        for place, sample in enumerate(shard.samples)
        if sample.hard_case
    ]
    if shard.hard_case:
        cases.append({"kind": shard.hard_case, "study": f"{component.folder}/{name}"})
    rows: list[Row] = [
        {
            "component": component.folder,
            "shard": name,
            "key": f"{first + place:06d}",
            "modality": sample.modality,
            "finding": sample.finding,
            "hard_case": sample.hard_case or shard.hard_case,
        }
        for place, sample in enumerate(shard.samples)
    ]
    return WrittenShard(rows, cases)


def _painted(component: Component, sample: PlannedSample, size: int) -> tuple[bytes, str]:
    generator = np.random.default_rng(sample.seed)
    size += int(generator.integers(size // 8 + 1))
    image = paint(sample.modality, sample.finding, generator, size=size)
    text = component.text(sample.modality, sample.finding, generator)
    content = encode(image, _odd_form(sample.hard_case) or "JPEG")
    if sample.hard_case == "broken image":
        content = content[: len(content) // 3]
    elif sample.hard_case == "empty caption":
        text = ""
    elif sample.hard_case == "only a marker":
        text = "._chexpert_"
    return content, text


def _odd_form(case: str) -> Form | None:
    return next((form for form in ODD_FORMS if form == case), None)


def _write_tables(root: Path, written: list[WrittenShard]) -> dict[str, Any]:
    rows = [row for shard in written for row in shard.rows]
    write_table(root / "ground_truth" / "samples.csv", rows[0], rows)
    cases = [case for shard in written for case in shard.hard_cases]
    return {"num_volumes": len(rows), "hard_cases": cases}
