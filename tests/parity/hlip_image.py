"""Image towers of HLIP: intermediate tokens, pooling, patch dropout, scan positions."""

import torch
from torch import Tensor

from medvlp.checkpoints.hlip import load_hlip_trunk
from medvlp.vision.hierarchical_vit import HierarchicalViT

from .hlip_models import Rule, build_trunk, packed, record, record_input
from .registry import Case, handles


def loaded_trunk(case: Case, rule: Rule = "mode") -> HierarchicalViT:
    trunk = build_trunk(case.config, rule=rule)
    assert load_hlip_trunk(trunk, case.state_dict).complete
    return trunk


def suffixes(case: Case) -> list[str]:
    """Name the input sets: "" for x, "_batch" for x_batch, ..."""
    return sorted(name.removeprefix("x") for name in case.inputs if name.startswith("x"))


def trace(trunk: HierarchicalViT, studies: Tensor) -> dict[str, Tensor]:
    """Run a trunk and collect the intermediate results that goldens hold."""
    seen = {
        "patch_embed": record(trunk.patch_embed),
        "block0_in": record_input(trunk.blocks[0]),
        "tokens_after_final_norm": record(trunk.norm),
        **{f"block{i}_out": record(block) for i, block in enumerate(trunk.blocks)},
    }
    with torch.no_grad():
        result = {"trunk_output": trunk(*packed(studies))}
    result |= {name: outputs[-1] for name, outputs in seen.items()}
    result["patch_embed"] = result["patch_embed"].unflatten(0, studies.shape[:2])
    return result


@handles("hlip", "image_tower")
@handles("hlip", "image_tower_dual")
def image_tower(case: Case) -> None:
    for suffix in suffixes(case):
        result = trace(loaded_trunk(case), case.inputs[f"x{suffix}"])
        for name, actual in result.items():
            if f"{name}{suffix}" in case.outputs:
                case.assert_close(f"{name}{suffix}", actual, case.outputs[f"{name}{suffix}"])
    case.assert_all_compared()


@handles("hlip", "image_patch_dropout")
def image_patch_dropout(case: Case) -> None:
    x = packed(case.inputs["x"])
    # The published code takes a training batch of one study for evaluation of scan positions.
    trunk = loaded_trunk(case, "published")
    with torch.no_grad():
        case.assert_close("trunk_output_nodrop", trunk(*x), case.outputs["trunk_output_nodrop"])
        entering = record_input(trunk.blocks[0])
        trunk.train()
        torch.manual_seed(case.config["rng_seed"])
        injected = trunk(*x, keep_indices=case.inputs["keep_indices"])
        torch.manual_seed(case.config["rng_seed"])
        drawn = trunk(*x)
    case.assert_close("tokens_after_drop", entering[0], case.outputs["tokens_after_drop"])
    case.assert_close("trunk_output", injected, case.outputs["trunk_output"])
    case.assert_close("trunk_output", drawn, case.outputs["trunk_output"])
    case.assert_all_compared()


@handles("hlip", "image_random_scan_positions")
def image_random_scan_positions(case: Case) -> None:
    x, rows = packed(case.inputs["x"]), case.inputs["perm"]
    expected = case.outputs["trunk_output"]
    trunk = loaded_trunk(case)
    used = trunk.scan_pos_embed.detach()[:, rows]
    case.assert_close("sequential_rows_used", used, case.outputs["sequential_rows_used"])
    with torch.no_grad():
        case.assert_close("trunk_output", trunk(*x, scan_rows=rows), expected)
        torch.manual_seed(case.config["rng_seed"])
        case.assert_close("trunk_output", trunk.train()(*x), expected)
        published = loaded_trunk(case, "published")
        torch.manual_seed(case.config["rng_seed"])
        case.assert_close("trunk_output", published(*x), expected)
    case.assert_all_compared()
