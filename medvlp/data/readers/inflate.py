"""Gzip straight into memory that is there already: no growing buffer, no second copy."""

from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8

GZIP_MAGIC = b"\x1f\x8b"
MAX_RATIO = 1032
"""Deflate cannot shrink by more: a header that claims more is lying."""

_CHUNK = 256 * 2**10  # what it inflates to still lies in the processor's cache when it is copied


class DamagedStreamError(ValueError):
    """A gzip stream whose code or checksum is wrong, or that has no checksum."""


def inflate_into(file: BinaryIO, out: UInt8[np.ndarray, " n"]) -> int:
    """Inflate a file of one or several gzip streams until `out` is full.

    Never makes more than one byte too much, however much a bomb holds.

    Args:
        file: Opened for reading, at the start of a stream. What follows the last stream and is
            none itself is padding.
        out: Filled from the front.

    Returns:
        The number of bytes that came: less than `len(out)` if the file holds less, more if it
        holds more (then `out` is full and the rest of the file was not looked at).

    Raises:
        DamagedStreamError: If the stream is damaged, or ends without its checksum when `out` is
            full.
    """
    from isal import isal_zlib

    target, filled = out.data, 0
    stream = isal_zlib.decompressobj(wbits=31)
    while data := file.read(_CHUNK):
        while data:
            if stream.eof:
                data = data if len(data) > 1 else data + file.read(1)
                if data[:2] != GZIP_MAGIC:
                    return filled
                stream = isal_zlib.decompressobj(wbits=31)
            part = _decompressed(stream, data, len(target) - filled + 1)
            kept = min(len(part), len(target) - filled)
            target[filled : filled + kept] = part[:kept]
            filled += len(part)
            if filled > len(target):
                return filled
            data = stream.unused_data
    if filled == len(target) and not stream.eof:
        raise DamagedStreamError("the file ends before the checksum")
    return filled


def _decompressed(stream: Any, data: bytes, most: int) -> bytes:
    from isal import isal_zlib

    damaged: Any = isal_zlib.error
    try:
        return stream.decompress(data, most)
    except damaged as error:
        raise DamagedStreamError(str(error)) from error
