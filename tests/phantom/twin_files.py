"""What twins hold, whatever the way their .gz files were packed."""

import zlib
from pathlib import Path


def content(path: Path) -> bytes:
    """Read a file, inflated if it is a .gz, as far as it goes: a hard case ends early.

    ISA-L packs the same bytes in more than one way, a few bytes longer or shorter, and a file that
    is cut at a share of its length then ends elsewhere: of such a file the first half counts.
    """
    packed = path.read_bytes()
    if path.suffix != ".gz":
        return packed
    stream = zlib.decompressobj(wbits=31)
    inflated = stream.decompress(packed)
    return inflated if stream.eof else inflated[: len(inflated) // 2]
