"""The encrypted container: it opens with its key, and says what is wrong without."""

import base64
from pathlib import Path

import pytest
import torch

from medvlp.checkpoints.__main__ import main
from medvlp.checkpoints.files import open_weights

KEY = b"sixteen letters."


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """Write a container as the published layout has it."""
    from Crypto.Cipher import AES

    torch.save({"state_dict": {"module.a": torch.arange(3.0)}, "epoch": 4}, tmp_path / "plain.pth")
    content = (tmp_path / "plain.pth").read_bytes() + b"\1"
    content += bytes(16 - len(content) % 16)
    coded = AES.new(KEY, AES.MODE_CFB, iv=KEY, segment_size=8).encrypt(content)
    path = tmp_path / "params.pth"
    path.write_bytes(b"uAI_model".ljust(128, b"\0") + base64.b64encode(coded))
    (tmp_path / "key").write_bytes(KEY + b"\n")
    return path


def decrypt(container: Path, target: str, *options: str) -> int:
    folder = container.parent
    arguments = [str(container), str(folder / target), "--key-file", str(folder / "key"), *options]
    with pytest.raises(SystemExit) as left:
        main(["decrypt", *arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


def test_it_opens_with_its_key(container: Path) -> None:
    assert decrypt(container, "open.pth") == 0
    file = open_weights(container.parent / "open.pth")
    assert torch.equal(file.tensors["a"], torch.arange(3.0)) and file.beside["epoch"] == 4


def test_reading_it_says_how_to_decrypt(container: Path) -> None:
    with pytest.raises(ValueError, match=r"is encrypted; .*medvlp\.checkpoints decrypt"):
        open_weights(container)


@pytest.mark.parametrize(
    ("key", "message"),
    [(b"another one 1234", "this key does not open"), (b"short", "has 5 bytes, it must have 16")],
)
def test_a_wrong_key_writes_nothing(
    container: Path, key: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (container.parent / "key").write_bytes(key)
    assert decrypt(container, "open.pth") == 2
    assert message in capsys.readouterr().err
    assert not (container.parent / "open.pth").exists()


def test_what_else_can_be_wrong(container: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert decrypt(container, "plain.pth") == 2 and "--force" in capsys.readouterr().err
    assert decrypt(container, "plain.pth", "--force") == 0
    assert decrypt(container.parent / "plain.pth", "open.pth") == 2
    assert "is not encrypted" in capsys.readouterr().err
    container.write_bytes(container.read_bytes()[:-3])
    assert decrypt(container, "open.pth") == 2 and "damaged or cut off" in capsys.readouterr().err
    assert decrypt(container.parent / "absent.pth", "open.pth") == 2
    assert "there is no file" in capsys.readouterr().err
