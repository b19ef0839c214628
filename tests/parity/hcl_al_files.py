"""HCL-AL: published files, plain and encrypted."""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from medvlp.checkpoints.encrypted import MAGIC, decrypt_file, is_encrypted
from medvlp.checkpoints.files import read_weights
from medvlp.checkpoints.hcl_al_rules import VISION_PREFIX

from .registry import Case, handles


@handles("hcl_al", "checkpoint_container")
def checkpoint_container(case: Case) -> None:
    key = case.config["test_key_ascii"].encode()
    assert case.config["magic"].encode() == MAGIC
    expected = load_file(case.path / "state_dict.safetensors")
    files = sorted(case.path.glob("*.pth"))
    assert len(files) >= 1
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            plain = path
            if is_encrypted(path):
                plain = Path(folder) / path.name
                decrypt_file(path, plain, key)
            found = read_weights(plain)
            assert found.keys() == {VISION_PREFIX + name for name in expected}
            for name, tensor in expected.items():
                ours = found[VISION_PREFIX + name]
                assert ours.dtype == tensor.dtype and torch.equal(ours, tensor), name
            del found
