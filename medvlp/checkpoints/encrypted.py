"""The encrypted container that weights of HCL-AL may come in; the key is the user's.

Nine letters, zeros up to byte 128, then base64 of AES-128 in CFB mode with segments of 8 bits and
the key as start; the content is followed by one byte 1 and zeros.

Reference: github.com/HerrBaum-YR/HCL-AL.
"""

import base64
import binascii
import os
import uuid
from pathlib import Path
from typing import Any

MAGIC = b"uAI_model"
_HEADER_BYTES = 128
_KEY_BYTES = 16


def is_encrypted(path: Path) -> bool:
    """Tell by its first letters whether a file is such a container."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def decrypt_file(path: Path, target: Path, key: bytes, *, force: bool = False) -> dict[str, Any]:
    """Write the weight file that a container holds; never half of it.

    Args:
        path: The container.
        target: The weight file, read as any other from then on.
        key: Of 16 bytes; white space around it is left out.
        force: Replace a file that is there.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: If there is no container.
        FileExistsError: If the target is there, and not to be replaced.
        ValueError: If the file is no container, or the key is not its own.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if target.exists() and not force:
        raise FileExistsError(f"{target} is already there; add --force to replace it")
    if not is_encrypted(path):
        raise ValueError(f"{path} is not encrypted: it does not begin with {MAGIC.decode()}")
    content = _decrypt(path, key.strip())
    aside = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        aside.write_bytes(content)
        os.replace(aside, target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return {"file": str(target), "bytes": len(content)}


def _decrypt(path: Path, key: bytes) -> bytes:
    try:
        from Crypto.Cipher import AES
    except ImportError as error:
        raise ImportError(
            "encrypted weights need the pycryptodome package: pip install 'medvlp[encrypted]'"
        ) from error
    if len(key) != _KEY_BYTES:
        raise ValueError(f"the key has {len(key)} bytes, it must have {_KEY_BYTES}")
    try:
        coded = base64.b64decode(path.read_bytes()[_HEADER_BYTES:], validate=True)
    except binascii.Error as error:
        raise ValueError(f"{path} is damaged or cut off ({error}); download it again") from error
    content = AES.new(key, AES.MODE_CFB, iv=key, segment_size=8).decrypt(coded).rstrip(b"\0")
    if not content.endswith(b"\1") or not content.startswith((b"PK", b"\x80")):
        raise ValueError(
            f"this key does not open {path}: no weight file comes out; ask those who gave you the "
            "weights for their key"
        )
    return content[:-1]
