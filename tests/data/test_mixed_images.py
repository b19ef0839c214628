from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medvlp.data import image_datamodule
from medvlp.data.caption_choice import MultiCaption
from medvlp.data.mixing import Mixture
from medvlp.data.resumable_loader import ResumableLoader
from tests.data.image_files import module_of, write_set, write_shards


def test_sets_are_mixed_by_weight(tmp_path: Path) -> None:
    sets = [write_set(tmp_path, "a", 20), write_set(tmp_path, "b", 4)]
    mixture = Mixture([1.0, 1.0], epoch_size=400)
    module = module_of(tmp_path, sets, mixture=mixture, batch_size=8)
    loader = module.train_dataloader()
    ids = [name for batch in loader for name in batch["sample_id"]]
    assert len(loader) == 50 and len(ids) == 400
    assert 0.4 < np.mean([name.startswith("b") for name in ids]) < 0.6


def test_the_middle_of_an_epoch_is_found_again(tmp_path: Path) -> None:
    images = write_set(tmp_path, "a", 24)
    straight = list(module_of(tmp_path, [images]).train_dataloader())
    first = module_of(tmp_path, [images]).train_dataloader()
    iterator = iter(first)
    for _ in range(3):
        next(iterator)
    second = module_of(tmp_path, [images]).train_dataloader()
    second.load_state_dict(first.state_dict())
    rest = list(second)
    assert [batch["sample_id"] for batch in rest] == [b["sample_id"] for b in straight[3:]]
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(rest, straight[3:], strict=True))


def mixed(tmp_path: Path, **changes: Any) -> ResumableLoader:
    """Mix two sets of shards of which some images are damaged and some have no caption."""
    captions = [f"one {n}_openi_two {n}_openi_" for n in range(12)]
    sets = [
        write_shards(tmp_path, "a", captions=captions, cut=[4]),
        write_shards(tmp_path, "b", captions=[*captions[:4], "_openi_"], cut=[0]),
    ]
    options = {"mixture": Mixture([1.0, 2.0], epoch_size=16), "texts": MultiCaption(), "test": []}
    return module_of(tmp_path, sets, batch_size=4, **(options | changes)).train_dataloader()


def facts(batch: dict[str, Any]) -> tuple[Any, ...]:
    return batch["sample_id"], batch["image"].tolist(), batch["tokens"].input_ids.tolist()


@pytest.mark.parametrize("inspect", [True, False])
def test_mixed_shards_do_not_depend_on_workers_and_resume_in_the_middle(
    tmp_path: Path, inspect: bool
) -> None:
    first = mixed(tmp_path, inspect=inspect)
    straight = [facts(batch) for batch in first]
    assert len({name for names, *_ in straight for name in names}) > 8
    iterator = iter(mixed_again := mixed(tmp_path, inspect=inspect, num_workers=2))
    part = [facts(next(iterator)) for _ in range(2)]
    resumed = mixed(tmp_path, inspect=inspect, num_workers=1)
    resumed.load_state_dict(mixed_again.state_dict())
    assert part + [facts(batch) for batch in resumed] == straight


def test_mixed_shards_do_not_depend_on_the_number_of_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [batch["image"] for batch in mixed(tmp_path)]
    monkeypatch.setattr(image_datamodule, "world_size", lambda: 2)
    parts: list[list[torch.Tensor]] = []
    for rank in range(2):
        monkeypatch.setattr(image_datamodule, "rank", lambda rank=rank: rank)
        parts.append([batch["image"] for batch in mixed(tmp_path)])
    joined = [torch.cat(pair) for pair in zip(*parts, strict=True)]
    assert all(torch.equal(*pair) for pair in zip(joined, whole, strict=True))


def test_the_middle_of_an_epoch_of_other_images_is_refused(tmp_path: Path) -> None:
    first = mixed(tmp_path / "one", inspect=True)
    next(iter(first))
    other = mixed(tmp_path / "two", inspect=False)  # nothing left out beforehand
    other.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="the epoch cannot go on with others"):
        next(iter(other))
