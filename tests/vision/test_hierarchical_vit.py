from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.layers.pooling import DualTokenPooling, MeanMaxPooling
from medvlp.layers.pos_embed import ScanPositions
from medvlp.vision.hierarchical_vit import HierarchicalViT

ORDERS = [
    ["slice", "scan", "study", "slice"],
    ["study", "slice", "scan"],
    ["scan", "study", "scan"],
    ["slice", "study"],
    ["study"],
    ["slice"],
]


def make_tower(
    levels: Sequence[str] = ("slice", "scan", "study"), **options: Any
) -> HierarchicalViT:
    torch.manual_seed(0)
    options = {"num_heads": 2, "scan_positions": ScanPositions(4)} | options
    embed = PatchEmbed3D(1, (2, 4, 4), options.pop("width", 12))
    tower = HierarchicalViT(embed, (2, 2, 2), levels=levels, **options)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return tower.eval()


def scans(count: int, size: tuple[int, int, int] = (4, 8, 8)) -> Tensor:
    return torch.randn(count, 1, *size)


@pytest.mark.parametrize("levels", ORDERS)
@pytest.mark.parametrize("num_scans", [[1, 3, 2, 3], [2, 2], [6, 1]])
def test_a_study_does_not_depend_on_its_batch(levels: list[str], num_scans: list[int]) -> None:
    tower = make_tower(levels, num_register_tokens=1, pooling=DualTokenPooling())
    image = scans(sum(num_scans))
    together = tower(image, torch.tensor(num_scans))
    alone = [tower(study, torch.tensor([len(study)])) for study in image.split(num_scans)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize("levels", ORDERS)
def test_one_to_eight_scans_in_one_batch_are_each_as_alone(levels: list[str]) -> None:
    tower = make_tower(
        levels,
        num_register_tokens=2,
        scan_positions=ScanPositions(8),
        pooling=DualTokenPooling(),
    )
    num_scans = [3, 8, 1, 5, 2, 7, 4, 6, 1]
    image = scans(sum(num_scans))
    together = tower(image, torch.tensor(num_scans))
    alone = [tower(study, torch.tensor([len(study)])) for study in image.split(num_scans)]
    assert together.shape == (9, 3, 24)
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


def test_gradients_of_ragged_studies_are_those_of_single_ones() -> None:
    image, num_scans = scans(6), [3, 1, 2]
    gradients = []
    for batches in ([image], list(image.split(num_scans))):
        tower = make_tower()
        for batch in batches:
            counts = num_scans if len(batch) == 6 else [len(batch)]
            tower(batch, torch.tensor(counts)).square().sum().backward()
        gradients.append([p.grad for p in tower.parameters() if p.requires_grad])
    for together, alone in zip(*gradients, strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_permuting_the_studies_permutes_the_features() -> None:
    tower, image = make_tower(), scans(6)
    features = tower(image, torch.tensor([1, 2, 3]))
    permuted = tower(torch.cat((image[3:], image[:1], image[1:3])), torch.tensor([3, 1, 2]))
    torch.testing.assert_close(permuted, features[[2, 0, 1]], rtol=0, atol=1e-5)


def test_without_a_scan_table_the_order_of_scans_does_not_matter() -> None:
    tower, image = make_tower(scan_positions=None), scans(3)
    flipped = tower(image.flip(0), torch.tensor([3]))
    torch.testing.assert_close(flipped, tower(image, torch.tensor([3])), rtol=0, atol=1e-5)
    assert "scan_pos_embed" not in tower.state_dict()


def test_scan_rows_are_taken_as_given() -> None:
    tower, image = make_tower(), scans(3)
    first = tower(image, torch.tensor([3]))
    given = tower(image, torch.tensor([3]), scan_rows=torch.arange(3))
    assert torch.equal(given, first)
    with pytest.raises(ValueError, match="2 scan_rows came for a study of 3 scans"):
        tower(image, torch.tensor([3]), scan_rows=torch.arange(2))


def test_training_refuses_more_scans_than_rows() -> None:
    tower = make_tower().train()
    with pytest.raises(ValueError, match="5 scans, the table has 4 rows"):
        tower(scans(5), torch.tensor([5]))


def test_evaluation_stretches_the_rows_for_more_scans_and_says_so_once(caplog) -> None:
    tower, image = make_tower(), scans(5)
    features = tower(image, torch.tensor([5]))
    tower(image, torch.tensor([5]))
    rows = torch.nn.functional.interpolate(tower.scan_pos_embed.mT, size=5, mode="linear").mT
    with torch.no_grad():
        tower.scan_pos_embed = torch.nn.Parameter(rows, requires_grad=False)
    wider = tower(image, torch.tensor([5]), scan_rows=torch.arange(5))
    torch.testing.assert_close(features, wider, rtol=0, atol=1e-6)
    (said,) = caplog.messages
    assert "5 scans" in said and "4 scan positions" in said


@pytest.mark.parametrize(
    ("levels", "said"), [(["scan", "study"], 1), (["slice", "study"], 0), (["slice", "scan"], 0)]
)
def test_a_single_scan_on_a_multi_scan_tower_is_said_once(levels, said, caplog) -> None:
    tower = make_tower(levels)
    for counts in ([2], [1, 2], [1]):
        tower(scans(sum(counts)), torch.tensor(counts))
    assert sum("one scan" in message for message in caplog.messages) == said
    tower.train()
    make_tower(levels).train()(scans(1), torch.tensor([1]))
    assert len(caplog.messages) == said


@pytest.mark.parametrize("levels", [["slice", "scan", "study"], ["scan", "study"], ["study"]])
def test_keep_indices_follow_the_scans_of_the_caller(levels: list[str]) -> None:
    tower, image = make_tower(levels), scans(4)
    num_scans = [2, 2] if levels[0] == "study" else [3, 1]
    length = {"slice": 4, "scan": 8, "study": 16}[levels[0]]
    rows = {"slice": 8, "scan": 4, "study": 2}[levels[0]]
    keep = torch.stack([torch.randperm(length)[: length // 2] for _ in range(rows)])
    together = tower(image, torch.tensor(num_scans), keep_indices=keep)
    per_study = [rows * count // 4 for count in num_scans]
    pairs = zip(image.split(num_scans), keep.split(per_study), strict=True)
    alone = [tower(x, torch.tensor([len(x)]), keep_indices=rows) for x, rows in pairs]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)


def test_patch_dropout_and_drop_path_train_ragged_studies() -> None:
    tower = make_tower(patch_drop_prob=0.5, drop_path_prob=0.5).train()
    features = tower(scans(4), torch.tensor([3, 1]))
    features.sum().backward()
    assert features.isfinite().all()


def test_a_dropout_that_cannot_be_cut_is_refused() -> None:
    tower = make_tower(["scan", "slice"], patch_drop_prob=0.6).train()
    with pytest.raises(ValueError, match="3 patch tokens cannot be cut into 2"):
        tower(scans(1), torch.tensor([1]))


def test_activation_checkpointing_changes_no_gradient() -> None:
    image, gradients = scans(3), []
    for activation_checkpointing in (False, True):
        tower = make_tower(activation_checkpointing=activation_checkpointing).train()
        torch.manual_seed(1)
        tower(image, torch.tensor([2, 1])).square().sum().backward()
        gradients.append([p.grad for p in tower.parameters() if p.requires_grad])
    for recomputed, kept in zip(*gradients, strict=True):
        assert torch.equal(recomputed, kept)


def test_other_grids_and_poolings_have_the_right_shape() -> None:
    tower = make_tower(pooling=MeanMaxPooling())
    assert tower(scans(2, (6, 13, 8)), torch.tensor([1, 1])).shape == (2, 24)


def test_position_tables_are_stored_but_never_trained() -> None:
    tower = make_tower()
    assert not tower.pos_embed.requires_grad and not tower.scan_pos_embed.requires_grad
    assert {"pos_embed", "scan_pos_embed"} <= set(tower.state_dict())


@pytest.mark.parametrize("num_scans", [[2, 2], [3, 0], []])
def test_scans_that_do_not_add_up_are_refused(num_scans: list[int]) -> None:
    with pytest.raises(ValueError, match="does not divide 3 scans"):
        make_tower()(scans(3), torch.tensor(num_scans, dtype=torch.long))


def test_unknown_levels_are_named() -> None:
    with pytest.raises(ValueError, match="slice, scan, study"):
        make_tower(["slice", "voxel"])


def test_moving_to_another_type_moves_everything() -> None:
    tower = make_tower().double()
    assert tower(scans(2).double(), torch.tensor([2])).dtype == torch.float64


@pytest.mark.gpu
@pytest.mark.parametrize("num_scans", [[2, 2], [3, 1]])
def test_varlen_equals_sdpa_on_the_gpu(num_scans: list[int]) -> None:
    image = scans(4).cuda()
    features = []
    for attention in ("sdpa", "varlen"):
        tower = make_tower(attention=attention, width=32).cuda()
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            features.append(tower(image, torch.tensor(num_scans)))
    torch.testing.assert_close(features[0], features[1], rtol=0, atol=5e-2)
