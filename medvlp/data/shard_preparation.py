"""From annotation files and images to checked web shards, resumable after every shard."""

import csv
import io
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from medvlp.data.captioned_images import CaptionedImage, CaptionedImages, RowError, below
from medvlp.data.choices import check_choice
from medvlp.data.engine import PreparationError
from medvlp.data.exclusive import exclusive
from medvlp.data.quarantine import quarantine_file
from medvlp.data.shard_manifest import ShardManifest, begin_manifest
from medvlp.data.shard_writer import ShardWriter

_AHEAD_PER_READER = 4
_HOPELESS_ROWS = 1000
_MISSING = "the image is not there"

OnRow = Callable[[int], None]
"""Called for every row that was read, with the number of rows to read."""


class ShardPreparation:
    """The sources that are prepared, and where their shards lie.

    Args:
        sources: Name to source; the shards of NAME lie in `NAME_webdataset`, as published.
        out_dir: Folder of these folders.
        only: Names of the sources to prepare; None takes all.
        samples_per_shard: 1000 as published.
        num_readers: Images that are read at the same time.
        shown: Samples in the caption table.
        verify: Compare the hashes of shards that are there, where a run is repeated.
    """

    def __init__(
        self,
        sources: Mapping[str, CaptionedImages],
        out_dir: str,
        *,
        only: Sequence[str] | None = None,
        samples_per_shard: int = 1000,
        num_readers: int = 8,
        shown: int = 3,
        verify: bool = False,
    ) -> None:
        if not sources:
            raise ValueError("there is no source to prepare")
        if num_readers < 1:
            raise ValueError(f"num_readers is {num_readers}, expected 1 or more")
        if only is not None:
            check_choice("only", only, sources)
        names = [name for name in sources if only is None or name in only]
        self.sources, self.out_dir = {name: sources[name] for name in names}, Path(out_dir)
        self.samples_per_shard, self.num_readers = samples_per_shard, num_readers
        self.shown, self.verify = shown, verify

    def materialise(self) -> None:
        """Write the raw files if the sources make themselves; does nothing by default."""

    def prepare(self, name: str, *, on_row: OnRow | None = None) -> ShardManifest:
        """Write the shards of one source, or finish them; what is whole is kept.

        Returns:
            What the folder holds.

        Raises:
            FileNotFoundError: If an annotation file is not there.
            ValueError: If it is of another layout, or the folder holds something else; and with
                compat="published" at the first row at which the published script stops.
            PreparationError: If the first 1000 rows give no sample.
        """
        source, folder = self.sources[name], self.out_dir / f"{name}_webdataset"
        description = source.describe()
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder):
            wanted = ShardManifest(folder, description, self.samples_per_shard)
            manifest = begin_manifest(folder, wanted, verify=self.verify)
            if not manifest.complete:
                manifest.num_rows = source.count()
                _Run(source, manifest, self.shown).finish(self.num_readers, on_row)
        return manifest


class _Run:
    """One run over the rows that are left."""

    def __init__(self, source: CaptionedImages, manifest: ShardManifest, shown: int) -> None:
        self.source, self.manifest, self.shown = source, manifest, shown
        self.writer = ShardWriter(
            manifest.folder,
            samples_per_shard=manifest.samples_per_shard,
            num_shards=len(manifest.shards),
            num_samples=manifest.num_samples,
        )

    def finish(self, num_readers: int, on_row: OnRow | None) -> None:
        manifest = self.manifest
        rows = islice(self.source.rows(), manifest.rows, None)
        left = manifest.num_rows - manifest.rows
        try:
            with warnings.catch_warnings():  # not in the readers: all threads share the filters
                # the reader of the shards speaks of what is odd, and tells which
                warnings.filterwarnings("ignore", module="PIL")
                for row, content in _read_ahead(rows, self._read, num_readers):
                    self._take(row, content)
                    if on_row:
                        on_row(left)
            self._close()
        finally:
            self.writer.discard()
        manifest.complete = True
        manifest.save()

    def _close(self) -> None:
        if shard := self.writer.close():
            self.manifest.keep(shard, rows=self.manifest.rows)

    def _take(self, row: CaptionedImage, content: bytes | RowError) -> None:
        manifest, writer = self.manifest, self.writer
        if self.source.opens_early and writer.at_boundary:
            self._close()
            writer.open_next()
        manifest.rows += 1
        if isinstance(content, RowError):
            self._refuse(row, content)
            return
        if writer.num_samples < self.shown:
            number = f"{writer.num_samples:06d}"
            example = {"sample": number, "image": row.image, "text": row.text}
            manifest.examples.append(example)
        if shard := writer.add(content, row.text):
            manifest.keep(shard, rows=manifest.rows)

    def _read(self, row: CaptionedImage) -> bytes | RowError:
        if row.refusal:
            return row.refusal
        try:
            content = below(self.source.images, row.image).read_bytes()
        except RowError as refusal:
            return refusal
        except FileNotFoundError:
            path = str(self.source.images / row.image)
            skips = self.source.published_missing == "skips"
            return RowError(_MISSING, path, published_skips=skips)
        except OSError as error:
            return RowError("the image cannot be read", f"{row.image}: {error.strerror}")
        if self.source.compat is None and (problem := _no_image(content)):
            return RowError(problem, row.image)
        return content

    def _refuse(self, row: CaptionedImage, refusal: RowError) -> None:
        if self.source.compat == "published" and not refusal.published_skips:
            raise ValueError(
                f"{row.place}: {refusal}; compat=published stops here, without it the row is left "
                "out and counted"
            )
        manifest, line = self.manifest, io.StringIO(newline="")
        csv.writer(line).writerow([row.place, str(refusal)])
        with quarantine_file(manifest.folder).open("ab") as file:
            file.write(line.getvalue().encode(errors="backslashreplace"))
        manifest.skips[refusal.reason] = manifest.skips.get(refusal.reason, 0) + 1
        if manifest.num_skipped == manifest.rows == _HOPELESS_ROWS:
            raise PreparationError(
                f"none of the first {_HOPELESS_ROWS:,} rows gave a sample; the last: {row.place}: "
                f"{refusal}. Is data.sources.<name>.images the folder that its paths are below?"
            )


def _read_ahead(
    rows: Iterator[CaptionedImage],
    read: Callable[[CaptionedImage], bytes | RowError],
    num_readers: int,
) -> Iterator[tuple[CaptionedImage, bytes | RowError]]:
    """Yield rows and what was read for them, in order; several are read at the same time."""
    waiting: deque[tuple[CaptionedImage, Future[bytes | RowError]]] = deque()
    with ThreadPoolExecutor(num_readers) as pool:
        for row in rows:
            waiting.append((row, pool.submit(read, row)))
            if len(waiting) == _AHEAD_PER_READER * num_readers:
                row, future = waiting.popleft()
                yield row, future.result()
        for row, future in waiting:
            yield row, future.result()


def _no_image(content: bytes) -> str:
    """Say why the bytes are no image; empty if their header is one."""
    if not content:
        return "the image file is empty"
    if content[128:132] == b"DICM":
        return ""
    from PIL import Image

    try:
        Image.open(io.BytesIO(content))
    except Image.DecompressionBombError:
        return "the image is larger than Pillow's limit against decompression bombs"
    except (OSError, ValueError, SyntaxError):
        return "the file is not an image"
    return ""
