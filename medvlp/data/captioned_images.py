"""Images with captions as annotation files list them: the raw side of web shards."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar, Literal

from medvlp.data.tables import is_empty

Compat = Literal["published"] | None


class RowError(ValueError):
    """A row of an annotation file that gives no sample.

    Args:
        reason: In the same words for all rows alike, so that they can be counted.
        detail: What this row has.
        published_skips: Whether the published script passes over such a row; else it stops there.
    """

    def __init__(self, reason: str, detail: str = "", *, published_skips: bool = False) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.published_skips = reason, published_skips


@dataclass(frozen=True)
class CaptionedImage:
    """What one row says.

    Attributes:
        place: File and row, for messages.
        image: Path below the image folder, as the file has it.
        text: The whole caption field.
        refusal: Why the row gives no sample; None if it does.
    """

    place: str
    image: str = ""
    text: str = ""
    refusal: RowError | None = None


Record = tuple[str, Any]
"""Place and content of a row; the content is a RowError where the row cannot be read."""


class CaptionedImages(ABC):
    """The rows of a data set's annotation files, in their order; one class per layout.

    By default a row that gives no caption is refused, and so is one that cannot be read; the rest
    goes on. compat="published" writes what the published script writes, and stops where it stops.

    Args:
        annotations: The annotation file.
        images: Folder that the paths of the images are below.
        compat: "published", or None for what is right.
    """

    published_missing: ClassVar[Literal["skips", "stops"]] = "stops"
    """What the published script does about an image that is not there."""
    published_opens_early: ClassVar[bool] = False
    """Whether the published script opens a shard before it looks for the image."""

    def __init__(self, annotations: str, images: str, *, compat: Compat = None) -> None:
        self.annotations, self.images = Path(annotations), Path(images)
        self.compat: Compat = compat

    @property
    def opens_early(self) -> bool:
        """Tell whether a shard is opened before its first image is looked for."""
        return self.compat == "published" and self.published_opens_early

    def files(self) -> list[Path]:
        """List the annotation files.

        Raises:
            FileNotFoundError: If one is not there.
        """
        return require_files([self.annotations])

    @abstractmethod
    def records(self) -> Iterator[Record]:
        """Yield place and content of every row, in order, without looking into it.

        Raises:
            FileNotFoundError: If an annotation file is not there.
            ValueError: If it is not of the layout.
        """

    @abstractmethod
    def pair(self, record: Any) -> tuple[str, str]:
        """Make the path of the image and the caption field of a row's content.

        Raises:
            RowError: If the row gives none.
        """

    def options(self) -> dict[str, Any]:
        """State in JSON types what decides the texts, beyond the files."""
        return {}

    def count(self) -> int:
        """Count the rows."""
        return sum(1 for _ in self.records())

    def rows(self) -> Iterator[CaptionedImage]:
        """Yield what every row says, in order, those that give no sample too."""
        for place, record in self.records():
            try:
                image, text = self._checked(record)
            except RowError as refusal:
                yield CaptionedImage(place, refusal=refusal)
            else:
                yield CaptionedImage(place, image, text)

    def describe(self) -> dict[str, Any]:
        """State which samples these are: the content of the annotation files and all options."""
        return {
            "layout": type(self).__name__,
            "annotations": {path.name: _digest(path) for path in self.files()},
            "images": str(self.images.resolve()),
            "compat": self.compat,
            **self.options(),
        }

    def _checked(self, record: Any) -> tuple[str, str]:
        if isinstance(record, RowError):
            raise record
        image, text = self.pair(record)
        if self.compat is None:
            if is_empty(text):
                raise RowError("no caption")
            if "\0" in text:
                raise RowError("the caption holds a NUL character", repr(text[:80]))
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise RowError("the caption is not valid UTF-8", ascii(text[:80]))
        return image, text


def below(root: Path, name: str) -> Path:
    """Join a folder and a path that a file gives, which may not leave it.

    Links below the folder are followed: they are the user's own, not the file's.

    Raises:
        RowError: If it leads out.

    >>> below(Path("images"), "p10/1.jpg").as_posix()
    'images/p10/1.jpg'
    """
    if is_empty(name):
        raise RowError("no name of an image")
    path = PureWindowsPath(name)  # knows both separators, and drives
    if path.anchor or ".." in path.parts or "\0" in name:
        raise RowError("the path of the image leads out of the image folder", repr(name[:200]))
    return root / name


def field_of(record: Any, *keys: str | int) -> Any:
    """Follow keys into nested JSON.

    Raises:
        RowError: If one is not there.

    >>> field_of({"conversations": [{"value": "a"}]}, "conversations", 0, "value")
    'a'
    """
    for key in keys:
        try:
            record = record[key]
        except (KeyError, IndexError, TypeError):
            raise RowError("a part of the record is not there", repr(key)) from None
    return record


def text_of(value: Any, what: str, *, published_skips: bool = False) -> str:
    """Take a text out of JSON.

    Raises:
        RowError: If it is null, NaN or no text.
    """
    if value is None or value != value:
        raise RowError(f"no {what}", published_skips=published_skips)
    if not isinstance(value, str):
        raise RowError(f"the {what} is not a text", repr(value)[:80])
    return value


def require_files(paths: Sequence[Path]) -> list[Path]:
    """Return the paths if there is a file at each.

    Raises:
        FileNotFoundError: Naming the first that is missing.
    """
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f"the annotation file {path} is not there; set paths.raw to the folder of all data "
                "sets, or data.sources.<name>.annotations to the file"
            )
    return list(paths)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
