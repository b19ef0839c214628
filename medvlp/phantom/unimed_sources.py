"""Write phantom twins of UniMed's thirteen sources: annotation files and images, before shards.

The folder is laid out as the data guide of github.com/mbzuai-oryx/UniMed-CLIP says, so that
`data=unimed/<source> paths.raw=FOLDER` prepares it. `ground_truth/<source>.json` says which samples
must come out.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.captioned_images import CaptionedImages
from medvlp.data.shard_preparation import ShardPreparation
from medvlp.phantom.image_captions import label_captions, name_of, native_caption, report
from medvlp.phantom.image_file import encode
from medvlp.phantom.image_painter import FINDINGS, paint
from medvlp.phantom.image_twins import ImageTwin
from medvlp.phantom.nifti_file import write_bytes
from medvlp.phantom.tables import write_json
from medvlp.phantom.twin import TwinWriter
from medvlp.phantom.twin_parameters import TwinParameters
from medvlp.phantom.unimed_source_layouts import KEPT, MISSING, OUTSIDE, PAGE, SourceRow
from medvlp.phantom.unimed_source_table import SOURCES

TITLE = "UniMed sources"
FORMAT_VERSION = 1

_COMMON = (MISSING, OUTSIDE, PAGE)
_BYTE_ORDER_MARK = "\ufeff"
_WEB_PAGE = b"<!DOCTYPE html><html><body>403 Forbidden</body></html>\n"


@dataclass(frozen=True)
class PlannedImage:
    """One image of a source.

    Attributes:
        source: Name.
        number: Among those of the source.
        hard_case: What is odd about it or its row; empty for ordinary ones.
    """

    source: str
    number: int
    hard_case: str


def write_unimed_sources_twin(
    root: str | Path, parameters: TwinParameters, *, num_workers: int = 0
) -> Path:
    """Write the twin, or finish one that was interrupted; a finished one is left as it is.

    Args:
        root: Gets the sources' folders, `ground_truth/` and `twin.json`.
        parameters: All that decides the content; `kinds` are sources, None takes all.
        num_workers: Processes; 0 writes in this one.

    Returns:
        `root`.

    Raises:
        ValueError: If a parameter is out of range, or `root` holds something else.
    """
    return TwinWriter(
        TITLE, FORMAT_VERSION, _plan, _write_image, _write_tables, takes_kinds=True
    ).build(root, parameters, num_workers=num_workers)


class PhantomShards(ShardPreparation):
    """Shards of a twin that writes itself first.

    Args:
        sources: See `ShardPreparation`.
        out_dir: See `ShardPreparation`.
        twin: Holds the raw files.
        only: See `ShardPreparation`.
        samples_per_shard: Few, so that several shards come out.
        num_readers: See `ShardPreparation`.
        shown: See `ShardPreparation`.
        verify: See `ShardPreparation`.
    """

    def __init__(
        self,
        sources: Mapping[str, CaptionedImages],
        out_dir: str,
        *,
        twin: ImageTwin,
        only: Sequence[str] | None = None,
        samples_per_shard: int = 4,
        num_readers: int = 2,
        shown: int = 3,
        verify: bool = False,
    ) -> None:
        super().__init__(
            sources,
            out_dir,
            only=only,
            samples_per_shard=samples_per_shard,
            num_readers=num_readers,
            shown=shown,
            verify=verify,
        )
        self.twin = twin

    def materialise(self) -> None:
        """Write the twin if it is not there."""
        self.twin.materialise()


def _plan(parameters: TwinParameters) -> list[PlannedImage]:
    names = tuple(SOURCES) if parameters.kinds is None else parameters.kinds
    unknown = sorted(set(names) - SOURCES.keys())
    if unknown:
        raise ValueError(f"there is no source {unknown[0]!r}; known: {', '.join(SOURCES)}")
    planned: list[PlannedImage] = []
    for name in names:
        odd = (*_COMMON, *SOURCES[name].hard_cases) if parameters.hard_cases else ()
        ordinary = [""] * (parameters.num_train + parameters.num_test)
        cases = [*ordinary[:1], *odd, *ordinary[1:]]  # odd rows stand among the others
        planned += [PlannedImage(name, number, case) for number, case in enumerate(cases)]
    return planned


def _write_image(
    root: Path, parameters: TwinParameters, planned: PlannedImage
) -> tuple[PlannedImage, SourceRow]:
    source = SOURCES[planned.source]
    generator = np.random.default_rng(
        (parameters.seed, planned.number, zlib.crc32(planned.source.encode()))
    )
    modality = source.modalities[planned.number % len(source.modalities)]
    finding = str(generator.choice(FINDINGS[modality]))
    row = _row(planned, modality, finding, generator)
    if planned.hard_case not in (MISSING, OUTSIDE):
        picture = paint(modality, finding, generator, size=parameters.shape[1])
        form = "PNG" if row.image.endswith("png") else "JPEG"
        content = _WEB_PAGE if planned.hard_case == PAGE else encode(picture, form)
        _write(root / source.images / row.image, content)
    return planned, row


def _row(
    planned: PlannedImage, modality: str, finding: str, generator: np.random.Generator
) -> SourceRow:
    source = SOURCES[planned.source]
    image = source.names.format(i=planned.number + 1)
    if planned.hard_case == OUTSIDE:
        image = f"../../{image.rpartition('/')[2]}"
    if source.label_set:
        captions = label_captions(modality, name_of(modality, finding))
    else:
        captions = tuple(native_caption(modality, finding, generator) for _ in range(4))
    own = report(modality, finding, generator)
    return SourceRow(image, name_of(modality, finding), captions, own, planned.hard_case)


def _write_tables(root: Path, written: list[tuple[PlannedImage, SourceRow]]) -> Mapping[str, Any]:
    for name in dict.fromkeys(planned.source for planned, _ in written):
        source = SOURCES[name]
        rows = [row for planned, row in reversed(written) if planned.source == name]
        mark = _BYTE_ORDER_MARK if any(row.hard_case for row in rows) else ""
        for file, content in source.layout(rows).items():
            _write(root / source.annotations / file, f"{mark}{content}".encode())
        write_json(root / "ground_truth" / f"{name}.json", _truth(rows))
    cases = [
        {"kind": planned.hard_case, "study": f"{planned.source}/{planned.number}"}
        for planned, _ in written
        if planned.hard_case
    ]
    return {"num_volumes": len(written) - len(cases), "hard_cases": cases}


def _truth(rows: Sequence[SourceRow]) -> dict[str, Any]:
    kept = [row for row in rows if row.hard_case in ("", *KEPT)]
    return {
        "samples": [
            {"image": row.image, "captions": row.captions, "own": row.own, "odd": row.hard_case}
            for row in kept
        ],
        "left_out": [{"image": row.image, "why": row.hard_case} for row in rows if row not in kept],
    }


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)
