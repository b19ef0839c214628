import math

import pytest
import torch

from medvlp.layers.pos_embed import (
    ScanPositions,
    inflate_patch_weight,
    inflate_pos_embed,
    resample_grid,
    resample_plane,
    resample_rows,
    sincos_table_1d,
    sincos_table_3d,
)


def test_1d_rows_are_sines_then_cosines() -> None:
    row = sincos_table_1d(3, 4)[2]
    expected = [math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)]
    torch.testing.assert_close(row, torch.tensor(expected), rtol=0, atol=1e-6)


def test_3d_channels_are_width_then_height_then_depth() -> None:
    table = sincos_table_3d((2, 3, 4), 12)[0]
    parts = [sincos_table_1d(4, 4)[3], sincos_table_1d(3, 4)[2], sincos_table_1d(2, 4)[1]]
    assert torch.equal(table[1, 2, 3], torch.cat(parts))


def test_a_width_not_divisible_by_six_ends_in_zeros() -> None:
    table = sincos_table_3d((2, 2, 2), 16)
    assert torch.equal(table[..., :12], sincos_table_3d((2, 2, 2), 12))
    assert not table[..., 12:].any()


def test_an_odd_1d_width_is_refused() -> None:
    with pytest.raises(ValueError, match="even width, 5 came"):
        sincos_table_1d(2, 5)


def test_the_same_grid_is_left_untouched() -> None:
    table = torch.randn(1, 2, 3, 4, 6)
    assert resample_grid(table, (2, 3, 4)) is table


def test_rows_are_cut_or_stretched_between_centres() -> None:
    table = torch.tensor([[[0.0], [1.0]]])
    assert resample_rows(table, 1).flatten().tolist() == [0.0]
    assert resample_rows(table, 4).flatten().tolist() == [0.0, 0.25, 0.75, 1.0]


def test_drawn_rows_are_distinct_and_only_for_training() -> None:
    positions = ScanPositions(5)
    rows = positions.draw(True, 2, 4)
    assert rows is not None and len(set(rows.tolist())) == 4
    assert positions.draw(False, 2, 4) is None


def test_the_published_rule_asks_the_batch_size_not_the_mode() -> None:
    positions = ScanPositions(5, rule="published")
    assert positions.draw(True, 1, 4) is None
    assert positions.draw(False, 2, 4) is not None


def test_more_scans_than_rows_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="6 scans, the table has 5 rows"):
        ScanPositions(5).draw(True, 2, 6)


def test_inflated_patches_answer_a_flat_grey_volume_as_the_2d_ones_did() -> None:
    weight = torch.randn(4, 3, 2, 2)
    plane = torch.randn(2, 2)
    flat = torch.einsum("echw,hw->e", weight, plane)
    deep = torch.einsum("eidhw,hw->e", inflate_patch_weight(weight, (5, 2, 2)), plane)
    torch.testing.assert_close(deep, flat, rtol=0, atol=1e-5)


def test_inflated_positions_are_depth_plus_plane() -> None:
    plane = torch.randn(4, 6)
    table = inflate_pos_embed(plane, (3, 2, 2))
    expected = sincos_table_1d(3, 6)[2] + plane[1 * 2 + 0]
    torch.testing.assert_close(table[0, 2, 1, 0], expected, rtol=0, atol=1e-6)


def test_a_plane_behind_a_class_row_is_resized_corner_to_corner() -> None:
    grid = torch.tensor([[0.0, 3.0], [6.0, 9.0]]).reshape(4, 1)
    table = torch.cat((torch.tensor([[7.0]]), grid))
    resized = resample_plane(table, 17)
    assert resized[0].tolist() == [7.0]
    square = resized[1:].reshape(4, 4)
    assert torch.equal(square[[0, 0, 3, 3], [0, 3, 0, 3]], grid.flatten())  # aligned corners
    torch.testing.assert_close(square, square.flip(0, 1).neg() + 9)  # and nothing leans
    with pytest.raises(ValueError, match="5 rows came and 16 are wanted: one for the class token"):
        resample_plane(table, 16)
