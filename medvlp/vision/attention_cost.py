"""What hierarchical attention costs, and how much of full attention that is."""

from collections.abc import Sequence

from medvlp.types import Size3D
from medvlp.vision.regroup import Level


def attention_multiply_adds(
    levels: Sequence[Level],
    *,
    num_scans: Sequence[int],
    grid: Size3D,
    width: int,
    num_prefix: int = 1,
) -> dict[Level, int]:
    """Count the multiply-adds of q k^T and of the product with v, over all blocks, per level.

    A sequence of t tokens costs 2 t^2 width in each block, whatever the number of heads.
    Projections and MLPs do not depend on the levels but for the prefix tokens, and are left out.

    Args:
        levels: Of the blocks, as `HierarchicalViT.levels`.
        num_scans: Scans of each study.
        grid: Tokens of a scan.
        width: Of the tokens, as `HierarchicalViT.embed_dim`.
        num_prefix: Class and register tokens of every sequence, as `HierarchicalViT.num_prefix`.

    Returns:
        For each level that occurs, the sum over its blocks and over all studies.

    >>> attention_multiply_adds(["slice", "study"], num_scans=[2], grid=(3, 2, 2), width=1)
    {'slice': 300, 'study': 1250}
    """
    depth, plane = grid[0], grid[1] * grid[2]
    sequences: dict[Level, list[int]] = {
        "slice": [plane] * (sum(num_scans) * depth),
        "scan": [depth * plane] * sum(num_scans),
        "study": [depth * plane * count for count in num_scans],
    }
    return {
        level: levels.count(level)
        * sum(2 * (length + num_prefix) ** 2 * width for length in sequences[level])
        for level in dict.fromkeys(levels)
    }


def attention_share(
    levels: Sequence[Level], *, num_scans: Sequence[int], grid: Size3D, num_prefix: int = 1
) -> float:
    """Divide the multiply-adds by those of as many blocks that all attend over the whole study.

    >>> attention_share(["slice", "study"], num_scans=[2], grid=(3, 2, 2))  # 1550 / 2500
    0.62
    """
    full: list[Level] = ["study"] * len(levels)
    ours, reference = (
        sum(
            attention_multiply_adds(
                names, num_scans=num_scans, grid=grid, width=1, num_prefix=num_prefix
            ).values()
        )
        for names in (levels, full)
    )
    return ours / reference
