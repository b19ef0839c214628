"""UniMed's sources with captions of their own: articles, videos and reports.

Layouts and texts are those of the preparation scripts of github.com/mbzuai-oryx/UniMed-CLIP
(UniMed-CLIP, arXiv 2412.10372, data preparation).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvlp.data.annotation_rows import csv_records, json_lines, read_json
from medvlp.data.captioned_images import (
    CaptionedImages,
    Compat,
    Record,
    RowError,
    field_of,
    require_files,
    text_of,
)
from medvlp.data.marked_captions import marked


class OpenICaptions(CaptionedImages):
    """OpenI: a caption and rewrites of it, in two JSON files paired by position.

    `{"annotations": [{"image_id", "caption"}, ...]}` and `{"refined_captions": [[...], ...]}`;
    the image is `<image_id>.png`. Files of different length are refused, because their pairs
    cannot be trusted; the published script drops what is over.

    Args:
        annotations: The first file, filter_cap.json.
        images: See `CaptionedImages`.
        refined: The second file, openai_refined_concepts.json.
        compat: See `CaptionedImages`.
    """

    marker = "_openi_"

    def __init__(
        self, annotations: str, images: str, *, refined: str, compat: Compat = None
    ) -> None:
        super().__init__(annotations, images, compat=compat)
        self.refined = Path(refined)

    def files(self) -> list[Path]:
        """List both files."""
        return require_files([self.annotations, self.refined])

    def records(self) -> Iterator[Record]:
        """Yield pairs of an annotation and its rewrites."""
        self.files()
        originals = _list_in(self.annotations, "annotations")
        rewrites = _list_in(self.refined, "refined_captions")
        if len(originals) != len(rewrites) and self.compat is None:
            raise ValueError(
                f"{self.annotations} has {len(originals):,} captions and {self.refined} rewrites "
                f"of {len(rewrites):,}: they are paired by position and must be as many"
            )
        for number, pair in enumerate(zip(originals, rewrites, strict=False), start=1):
            yield f"{self.annotations.name}, record {number}", pair

    def pair(self, record: Any) -> tuple[str, str]:
        """Join the caption and its rewrites, each marked."""
        original, rewrites = record
        if not isinstance(rewrites, list) or not all(isinstance(text, str) for text in rewrites):
            raise RowError("the rewrites are not a list of texts", repr(rewrites)[:80])
        image = text_of(field_of(original, "image_id"), "image_id")
        texts = [text_of(field_of(original, "caption"), "caption"), *rewrites]
        return f"{image}.png", marked(texts, self.marker, compat=self.compat)


class PMCOACaptions(CaptionedImages):
    """PMC-OA: JSON lines `{"image", "caption"}`."""

    def records(self) -> Iterator[Record]:
        """Yield the lines."""
        return json_lines(self.annotations)

    def pair(self, record: Any) -> tuple[str, str]:
        """Take the caption without white space around it."""
        image = text_of(field_of(record, "image"), "image")
        return image, text_of(field_of(record, "caption"), "caption").strip()


class ROCOv2Captions(CaptionedImages):
    """ROCOv2: CSV of image name without suffix and caption."""

    def records(self) -> Iterator[Record]:
        """Yield name and caption."""
        return csv_records(self.annotations, (0, 1))

    def pair(self, record: Any) -> tuple[str, str]:
        """Take the caption without white space around it."""
        name, caption = record
        if name is None or caption is None:
            raise RowError("no caption" if name else "no name of an image")
        return f"{name}.jpg", caption.strip()


class QuiltCaptions(CaptionedImages):
    """Quilt-1M: CSV with caption and image path as second and third column."""

    published_missing = "skips"

    def records(self) -> Iterator[Record]:
        """Yield caption and path."""
        return csv_records(self.annotations, (1, 2))

    def pair(self, record: Any) -> tuple[str, str]:
        """Take the caption without white space around it."""
        caption, image = record
        if caption is None:
            raise RowError("no caption", published_skips=True)
        if image is None:
            raise RowError("no name of an image")
        return image, caption.strip()


class LLaVAMedAlignmentCaptions(CaptionedImages):
    """LLaVA-Med alignment: JSON list of `{"image", "conversations"}`; the second turn is taken."""

    published_missing = "skips"

    def records(self) -> Iterator[Record]:
        """Yield the records."""
        content = read_json(self.annotations)
        if not isinstance(content, list):
            raise ValueError(f"{self.annotations}: expected a list of records")
        for number, record in enumerate(content, start=1):
            yield f"{self.annotations.name}, record {number}", record

    def pair(self, record: Any) -> tuple[str, str]:
        """Take the answer without white space around it."""
        image = text_of(field_of(record, "image"), "image")
        return image, text_of(field_of(record, "conversations", 1, "value"), "caption").strip()


class LLaVAMedInstructCaptions(CaptionedImages):
    """LLaVA-Med instruct: figure captions of all records, then first mentions in the text.

    JSON `{domain: [{"pair_id", "fig_caption", "in_text_mention"}, ...]}`; the image is
    `<pair_id>.jpg`, and comes twice if both are there.
    """

    published_missing = "skips"

    def records(self) -> Iterator[Record]:
        """Yield the records of all domains, once for either text."""
        content = read_json(self.annotations)
        if not isinstance(content, dict):
            raise ValueError(f"{self.annotations}: expected {{domain: list of records}}")
        for what in ("fig_caption", "in_text_mention"):
            for domain, entries in content.items():
                if not isinstance(entries, list):
                    raise ValueError(f"{self.annotations}: {domain!r} holds no list of records")
                for number, entry in enumerate(entries, start=1):
                    place = f"{self.annotations.name}, {domain} record {number}, {what}"
                    yield place, (what, entry)

    def pair(self, record: Any) -> tuple[str, str]:
        """Take either text without white space around it."""
        what, entry = record
        image = text_of(field_of(entry, "pair_id"), "pair_id")
        said = field_of(entry, what)
        if what == "in_text_mention":
            if said is None or (said == [] and self.compat is None):
                raise RowError("no mention in the text", published_skips=True)
            said = field_of(said, 0, "tokens")
        return f"{image}.jpg", text_of(said, "caption", published_skips=True).strip()


def _list_in(path: Path, key: str) -> list[Any]:
    content = read_json(path)
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise ValueError(f"{path}: expected {{{key!r}: list}}")
    return entries
