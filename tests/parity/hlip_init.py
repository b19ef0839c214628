"""Position tables and the start from a 2D MAE."""

import re

import torch

from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.hlip import TRUNK
from medvlp.checkpoints.mae import inflate_mae, init_from_mae
from medvlp.layers.patch_embed import PatchEmbed3D
from medvlp.layers.pos_embed import (
    resample_grid,
    resample_rows,
    sincos_table_1d,
    sincos_table_3d,
)

from .hlip_models import build_trunk, packed
from .registry import Case, handles

LARGE_TABLE_ATOL = 5e-5  # the case's README: float32 arguments of sine and cosine


@handles("hlip", "position_tables")
def position_tables(case: Case) -> None:
    config, inputs = case.config, case.inputs
    d, h, w = config["spatial_grid"]
    for name, expected in case.outputs.items():
        numbers = [int(number) for number in re.findall(r"(?<=[_xnmq])\d+", name)]
        atol = LARGE_TABLE_ATOL if name.startswith("full") else None
        if name.startswith("sincos1d"):
            actual = sincos_table_1d(*numbers)
        elif name.startswith("resample1d"):
            actual = resample_rows(inputs["table1d"], numbers[0])
        elif name.startswith("resample3d"):
            actual = resample_grid(inputs["table3d"], (numbers[0], numbers[1], numbers[2]))
        elif name.startswith("full_seq"):
            actual = sincos_table_1d(numbers[0], expected.shape[1])[config["full_seq_rows"]]
        elif name.startswith("full"):
            table = sincos_table_3d((numbers[0], numbers[1], numbers[2]), numbers[3])[0]
            if name.endswith("_sum_abs_mean"):
                table = table.double()
                actual = torch.stack((table.sum(), table.abs().mean())) / expected
                atol, expected = 1e-6, torch.ones_like(expected)
            else:
                rows = torch.tensor(config["full_rows_index_dhw"])
                actual = table[tuple(rows.T)]
        elif name == "sequential":
            actual = sincos_table_1d(config["max_scans"], config["dim"])[None]
        else:
            assert name == "spatial_3d", f"{case.name}: unknown output {name}"
            actual = sincos_table_3d((d, h, w), config["dim"])
        case.assert_close(name, actual, expected, atol)
    case.assert_all_compared()


@handles("hlip", "mae_init")
def mae_init(case: Case) -> None:
    mae = {
        name.removeprefix("mae."): tensor
        for name, tensor in case.inputs.items()
        if name.startswith("mae.")
    }
    trunk = build_trunk(case.config)
    assert isinstance(trunk.patch_embed, PatchEmbed3D)
    _, d, h, w, _ = trunk.pos_embed.shape
    converted = to_published(inflate_mae(mae, trunk.patch_embed.patch_size, (d, h, w)), TRUNK)
    for name, tensor in converted.items():
        expected = case.outputs[f"converted.{name}"]
        case.assert_close(f"converted.{name}", tensor, expected)
    report = init_from_mae(trunk, mae)
    missing = to_published({name: trunk.state_dict()[name] for name in report.missing}, TRUNK)
    assert sorted(missing) == sorted(case.config["missing_keys_after_load"])
    assert report.unexpected == case.config["unexpected_keys_after_load"]
    with torch.no_grad():
        output = trunk(*packed(case.inputs["x"]))
    case.assert_close("trunk_output_after_load", output, case.outputs["trunk_output_after_load"])
    case.assert_all_compared()
