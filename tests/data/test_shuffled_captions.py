"""The negative control: every image keeps its pixels and gets the caption of some other."""

from typing import Any

import pytest

from medvlp.data.image_sets import ImageItem, ImageSet
from medvlp.data.records import Skip
from medvlp.data.shuffled_captions import ShuffledCaptions


class Listed(ImageSet):
    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count
        self.skips = []

    def open(self) -> None:
        self.skips = [Skip(f"{self.name}/broken", "cut off")]

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> ImageItem:
        own = f"{self.name}{index}"
        return ImageItem(str(index), own, own.encode(), {"caption": own})

    def text_length(self, index: int) -> int:
        return len(f"{self.name}{index}")


@pytest.fixture
def shuffled() -> ShuffledCaptions:
    images = ShuffledCaptions([Listed("xray", 30), Listed("ct", 20)], seed=3)
    images.open()
    return images


def test_captions_are_permuted_over_all_sets(shuffled):
    items = [shuffled[index] for index in range(len(shuffled))]
    own = [item.content.decode() for item in items]
    told = [item.texts["caption"] for item in items]
    assert len(shuffled) == 50 and own == [f"xray{i}" for i in range(30)] + [
        f"ct{i}" for i in range(20)
    ]
    assert sorted(told) == sorted(own)
    assert sum(a == b for a, b in zip(own, told, strict=True)) < 5
    crossed = [a[:2] != b[:2] for a, b in zip(own, told, strict=True)]
    assert sum(crossed) > 10


def test_ids_stay_unique_and_lengths_are_those_of_the_new_captions(shuffled):
    items = [shuffled[index] for index in range(len(shuffled))]
    assert len({item.image_id for item in items}) == 50
    assert [shuffled.text_length(i) for i in range(50)] == [
        len(item.texts["caption"]) for item in items
    ]
    assert len(shuffled.skips) == 2


def test_another_seed_is_another_set(shuffled):
    other = ShuffledCaptions([Listed("xray", 30), Listed("ct", 20)], seed=4)
    other.open()
    assert other.describe() != shuffled.describe()
    assert [other[i].texts for i in range(50)] != [shuffled[i].texts for i in range(50)]
