"""UniMed's sources whose captions were written for labels: radiographs, RadImageNet, fundus.

Layouts and texts are those of the preparation scripts of github.com/mbzuai-oryx/UniMed-CLIP
(UniMed-CLIP, arXiv 2412.10372, data preparation).
"""

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medvlp.data.annotation_rows import csv_records, read_list
from medvlp.data.captioned_images import CaptionedImages, Compat, Record, RowError, require_files
from medvlp.data.marked_captions import marked
from medvlp.data.tables import is_empty

_RETINA_MARKER = "_all_retina_merged_"
_KEYWORD_TEXT = "The fundus image of {}"

# Not part of retina_part1, as published.
_OTHER_RETINA_FILES = (
    "01_EYEPACS_revised.csv",
    "06_DEN.csv",
    "07_LAG_revised.csv",
    "28_OIA-DDR_revised.csv",
    "39_MM_Retinal_dataset.csv",
)


class LabelCaptions(CaptionedImages):
    """CheXpert, ChestX-ray8, RadImageNet: CSV of path, labels and captions, all lists as text.

    Args:
        annotations: See `CaptionedImages`.
        images: See `CaptionedImages`.
        marker: Put behind every caption.
        published_dots: The published texts keep the captions' own full stop before the added one,
            as those of RadImageNet do. By default there is one.
        compat: See `CaptionedImages`.
    """

    columns: Sequence[int] = (0, 2)

    def __init__(
        self,
        annotations: str,
        images: str,
        *,
        marker: str,
        published_dots: bool = False,
        compat: Compat = None,
    ) -> None:
        super().__init__(annotations, images, compat=compat)
        self.marker, self.published_dots = marker, published_dots

    def records(self) -> Iterator[Record]:
        """Yield path and captions."""
        return csv_records(self.annotations, self.columns)

    def pair(self, record: Any) -> tuple[str, str]:
        """Join the captions, each marked."""
        image, captions = record[:2]
        nothing = captions is None and self.compat is None
        texts = [] if nothing else read_list(captions, "captions")
        dots = self.published_dots
        return _first(image), marked(texts, self.marker, compat=self.compat, dots=dots)

    def options(self) -> dict[str, Any]:
        """State the marker and the dots."""
        return {"marker": self.marker, "published_dots": self.published_dots}


class MIMICCaptions(LabelCaptions):
    """MIMIC-CXR: as `LabelCaptions`, with the report as the fourth column, put last.

    A study without a report ends in "noreportpresent".
    """

    published_missing = "skips"
    columns = (0, 2, 3)
    no_report = "noreportpresent"

    def pair(self, record: Any) -> tuple[str, str]:
        """Join the captions and the report, which has two markers before it."""
        image, texts = super().pair(record)
        report = record[2]
        if self.compat is None and is_empty(report):
            report = None
            if not texts:
                raise RowError("neither captions nor a report")
        return image, texts + self.marker + (self.no_report if report is None else report)


class RetinaCaptions(CaptionedImages):
    """Fundus label sets: every CSV of a folder, with filename, captions and a sentence.

    Args:
        annotations: The folder.
        images: See `CaptionedImages`.
        tables: Which files, in this order. None takes all but the five that are not part of it:
            sorted, where the published script takes them as the file system lists them.
        compat: See `CaptionedImages`.
    """

    published_missing = "skips"
    published_opens_early = True

    def __init__(
        self,
        annotations: str,
        images: str,
        *,
        tables: Sequence[str] | None = None,
        compat: Compat = None,
    ) -> None:
        super().__init__(annotations, images, compat=compat)
        self.tables = None if tables is None else tuple(tables)

    def files(self) -> list[Path]:
        """List the tables."""
        if self.tables is not None:
            return require_files([self.annotations / name for name in self.tables])
        if not self.annotations.is_dir():
            raise FileNotFoundError(
                f"the folder of CSV tables {self.annotations} is not there; set paths.raw to the "
                "folder of all data sets, or data.sources.<name>.annotations to it"
            )
        found = os.listdir(self.annotations)
        names = found if self.compat == "published" else sorted(found)
        chosen = [n for n in names if n.endswith(".csv") and n not in _OTHER_RETINA_FILES]
        if not chosen:
            raise FileNotFoundError(f"{self.annotations} holds no CSV table of retina part 1")
        return [self.annotations / name for name in chosen]

    def records(self) -> Iterator[Record]:
        """Yield name, captions and sentence of the rows of all tables."""
        for path in self.files():
            yield from csv_records(path, ("filename", "captions", "sentence_level_captions"))

    def pair(self, record: Any) -> tuple[str, str]:
        """Join captions and sentence, each marked."""
        image, captions, sentence = record
        texts = read_list(captions, "captions")
        if sentence is None and self.compat == "published":
            raise RowError("no sentence_level_captions")
        return _named(image), marked([*texts, sentence or ""], _RETINA_MARKER, compat=self.compat)

    def options(self) -> dict[str, Any]:
        """State the order of the tables."""
        return {"tables": [path.name for path in self.files()]}


class RetinaKeywords(CaptionedImages):
    """DEN (06_DEN.csv): keywords of fundus images, of which one becomes the text.

    It is the last that names neither an age ("year") nor a list ("//"). If all do, one of them is
    drawn and stands alone, as published.

    Args:
        annotations: See `CaptionedImages`.
        images: See `CaptionedImages`.
        seed: Of that draw; the published script draws without one.
        compat: See `CaptionedImages`.
    """

    published_missing = "skips"
    published_opens_early = True

    def __init__(
        self, annotations: str, images: str, *, seed: int = 0, compat: Compat = None
    ) -> None:
        super().__init__(annotations, images, compat=compat)
        self.seed = seed
        self._generator = random.Random(seed)

    def records(self) -> Iterator[Record]:
        """Yield name and keywords; the draws begin anew."""
        self._generator = random.Random(self.seed)
        yield from csv_records(self.annotations, ("image", "categories"))

    def pair(self, record: Any) -> tuple[str, str]:
        """Make the text of the keyword."""
        image, cell = record
        keywords = read_list(cell, "categories")
        if self.compat is None:
            keywords = [word for word in keywords if word.strip(" /")]
        if not keywords:
            raise RowError("no keyword")
        clean = [w for w in keywords if "year" not in w.strip("/") and "//" not in w.strip("/")]
        if clean:
            return _named(image), _KEYWORD_TEXT.format(clean[-1])
        return _named(image), self._generator.sample(keywords, 1)[0]

    def options(self) -> dict[str, Any]:
        """State the seed."""
        return {"seed": self.seed}


class RetinaDescriptions(CaptionedImages):
    """MM-Retinal (39_MM_Retinal_dataset.csv): image and caption, which stays as it is."""

    published_missing = "skips"
    published_opens_early = True

    def records(self) -> Iterator[Record]:
        """Yield name and caption."""
        return csv_records(self.annotations, ("image", "caption"))

    def pair(self, record: Any) -> tuple[str, str]:
        """Take the caption as it is."""
        image, caption = record
        if caption is None:
            raise RowError("no caption", published_skips=True)
        return _named(image), caption


def _named(image: str | None) -> str:
    if image is None:
        raise RowError("no name of an image")
    return image


def _first(cell: str | None) -> str:
    """Take the path out of the text of a list; a path that stands alone is one too."""
    if cell is None:
        raise RowError("no name of an image")
    if not cell.lstrip().startswith("["):
        return cell
    paths = read_list(cell, "paths")
    if not paths:
        raise RowError("no name of an image")
    return paths[0]
