"""Every option of the group data/texts builds, by Hydra and by jsonargparse, and makes texts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from medvlp import config
from medvlp.data.texts import TextSampler
from tests.both_builders import built_by_both

FILES = sorted((config.config_dir() / "data" / "texts").glob("*.yaml"))
TOKENIZER = "medvlp.text.tokenizers.WordPieceTokenizer"
SECTIONS = {"impression": "Old stroke.", "findings": "Dark area in the left lobe. No bleeding"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_option_makes_texts(file: Path) -> None:
    beside = {"tokenizer": {"_target_": TOKENIZER, "vocab": "phantom", "context_length": 16}}
    tree: Any = OmegaConf.to_container(OmegaConf.merge(beside, OmegaConf.load(file)), resolve=True)
    del tree["tokenizer"]
    config.check_keys(tree)
    sampler, twin = built_by_both(tree, TextSampler)
    ours, theirs = (one(SECTIONS, np.random.default_rng(0)) for one in (sampler, twin))
    assert ours == theirs
    number = {
        "organ_captions": 4,
        "organ_conclusions": 4,
        "sentence_and_findings": 2,
        "sentence_and_report": 2,
    }
    assert len(ours) == number.get(file.stem, 1)
    assert all(unit.text and "{" not in unit.text for unit in ours)
