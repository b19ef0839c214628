"""The hierarchical ViT of HLIP: attention within slices, scans or whole studies, block by block."""

from collections.abc import Sequence
from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medvlp.layers.attention import AttentionBackend
from medvlp.layers.block import Block
from medvlp.layers.drop_path import drop_path_ramp
from medvlp.layers.notices import Notices
from medvlp.layers.patch_dropout import PatchDropout
from medvlp.layers.pooling import ClsPooling
from medvlp.layers.pos_embed import (
    ScanPositions,
    resample_grid,
    resample_rows,
    sincos_table_1d,
    sincos_table_3d,
)
from medvlp.layers.size import as_size
from medvlp.vision.regroup import Level, Regrouper, Sequences, pack
from medvlp.vision.study_layout import StudyLayout


class HierarchicalViT(nn.Module):
    """Encode studies of any number of scans; no study depends on the batch it comes in.

    Args:
        patch_embed: Module with an `embed_dim`; turns (n c d h w) into a grid of tokens, channels
            last.
        grid: Token grid of the position table; other grids resample it.
        levels: One of "slice", "scan", "study" per block: where its attention ends. The depth of
            the tower is the length of this list.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLPs in units of the embedding width.
        num_register_tokens: Learnt tokens behind the class token.
        scan_positions: Position rows of scans within a study; default none.
        patch_drop_prob: Share of patch tokens left out of each first-level sequence in training.
        drop_path_prob: Stochastic depth of the last block; rises linearly from 0.
        attention: Backend, see `medvlp.layers.attention`.
        activation_checkpointing: Recompute the blocks in the backward pass to save memory.
        pooling: Module from the tokens of studies to features; default the class token.

    Raises:
        ValueError: If there is no level, or one is unknown.

    Reference: HLIP (TMLR 2026), hierarchical attention.
    """

    def __init__(
        self,
        patch_embed: nn.Module,
        grid: Sequence[int],
        *,
        levels: Sequence[str],
        num_heads: int,
        mlp_ratio: float = 4.0,
        num_register_tokens: int = 0,
        scan_positions: ScanPositions | None = None,
        patch_drop_prob: float = 0.0,
        drop_path_prob: float = 0.0,
        attention: AttentionBackend = "sdpa",
        activation_checkpointing: bool = False,
        pooling: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.levels: list[Level] = _check_levels(levels)
        width = self.embed_dim = _width_of(patch_embed)
        self.num_prefix = 1 + num_register_tokens
        self.activation_checkpointing = activation_checkpointing
        self.scan_positions = scan_positions or ScanPositions()
        self.patch_embed = patch_embed
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = _frozen(sincos_table_3d(as_size(grid, "grid"), width))
        if num_register_tokens:
            self.reg_token = nn.Parameter(torch.zeros(1, num_register_tokens, width))
        if self.scan_positions.has_table:
            rows = sincos_table_1d(self.scan_positions.max_num_scans, width)
            self.scan_pos_embed = _frozen(rows[None])
        self.patch_dropout = PatchDropout(patch_drop_prob)
        ramp = drop_path_ramp(drop_path_prob, len(self.levels))
        self.blocks = nn.ModuleList(
            Block(width, num_heads, mlp_ratio=mlp_ratio, drop_path_prob=prob, attention=attention)
            for prob in ramp
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pooling = pooling or ClsPooling()
        self._notices = Notices(__name__)
        self._init_weights()

    def forward(
        self,
        image: Float[Tensor, "n c d h w"],
        num_scans: Int[Tensor, " b"],
        *,
        scan_rows: Int[Tensor, " r"] | None = None,
        keep_indices: Int[Tensor, "s k"] | None = None,
    ) -> Float[Tensor, "b *p f"]:
        """Return the features of each study, after pooling and before projection.

        Args:
            image: Scans of all studies in a row.
            num_scans: Scans of each study, on the CPU.
            scan_rows: Takes these rows of the scan position table instead of the rule's.
            keep_indices: Keeps these patch tokens of each first-level sequence, in the order of
                the scans of `image`, instead of drawing them.

        Raises:
            ValueError: If `num_scans` does not divide the scans into studies.
        """
        layout = StudyLayout.of(num_scans.tolist(), image.shape[0])
        if not self.training:
            self._look_at_scans(layout)
        patches = self._add_positions(self.patch_embed(image), layout, scan_rows)
        regroup = Regrouper(layout, patches.shape[1], self.num_prefix)
        sequences = self._first_sequences(patches, layout, keep_indices)
        before = self.levels[0]
        for block, level in zip(self.blocks, self.levels, strict=True):
            tokens, lengths = regroup.change(sequences, before, level)
            sequences = Sequences(self._run_block(block, tokens, lengths), lengths)
            before = level
        tokens, lengths = regroup.change(sequences, before, "study")
        studies = regroup.studies(Sequences(self.norm(tokens), lengths))
        pooled = [self.pooling(group, self.num_prefix) for group in studies]
        features = pooled[0] if len(pooled) == 1 else torch.cat(pooled)
        return features if layout.study_place is None else features[layout.study_place]

    def _look_at_scans(self, layout: StudyLayout) -> None:
        """Say once what is unusual about the studies of an evaluation, and what becomes of them."""
        if layout.groups[0].num_scans == 1 and {"scan", "study"} <= set(self.levels):
            self._notices.once(
                "single",
                "a study of one scan came to a tower with attention over the scans of a study: "
                "that works, within its one scan. How good its features are depends on which scan "
                "it is; give all scans of a study where there are more",
            )
        rows = self.scan_positions.max_num_scans
        if self.scan_positions.has_table and layout.most_scans > rows:
            self._notices.once(
                "many",
                f"a study of {layout.most_scans} scans came to a tower with {rows} scan positions: "
                "their table is stretched, as in the published code. Such studies were not seen in "
                "training",
            )

    def _run_block(
        self, block: nn.Module, tokens: Tensor, lengths: tuple[int, ...] | None
    ) -> Tensor:
        if self.activation_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, tokens, lengths, use_reentrant=False)
        return block(tokens, lengths)

    def _add_positions(
        self, patches: Tensor, layout: StudyLayout, scan_rows: Tensor | None
    ) -> Tensor:
        """Add the position terms and put the scans in the order of the layout."""
        grid = patches.shape[1:4]
        patches = patches + resample_grid(self.pos_embed, (grid[0], grid[1], grid[2]))
        if layout.scan_order is not None:
            patches = patches[layout.scan_order]
        if not self.scan_positions.has_table:
            return patches
        return patches + self._scan_table(layout, scan_rows)[:, None, None, None]

    def _scan_table(self, layout: StudyLayout, scan_rows: Tensor | None) -> Tensor:
        """Look up the position row of each scan."""
        table = self.scan_pos_embed
        if scan_rows is None:
            scan_rows = self.scan_positions.draw(
                self.training, layout.num_studies, layout.most_scans
            )
        elif len(scan_rows) < layout.most_scans:
            raise ValueError(
                f"{len(scan_rows)} scan_rows came for a study of {layout.most_scans} scans; give "
                "one row per scan of the largest study"
            )
        if scan_rows is not None:
            table = table[:, scan_rows.to(table.device, non_blocking=True)]
        rows = [
            resample_rows(table, num_scans).expand(num_studies, -1, -1).flatten(0, 1)
            for num_scans, num_studies in layout.groups
        ]
        return torch.cat(rows)

    def _first_sequences(
        self, patches: Tensor, layout: StudyLayout, keep_indices: Tensor | None
    ) -> Sequences:
        """Group the patch tokens for the first block, drop some, prepend the prefix tokens."""
        if keep_indices is not None:
            keep_indices = _in_layout_order(keep_indices, self.levels[0], layout)
        if self.levels[0] == "slice":
            groups = [patches.flatten(2, 3).flatten(0, 1)]
        else:
            groups = [patches.flatten(1, 3)]
        if self.levels[0] == "study":
            bare = Regrouper(layout, patches.shape[1], num_prefix=0)
            groups = bare.studies(bare.change(Sequences(groups[0]), "scan", "study"))
        # Joined without their first axis: gradients then have the strides that DDP expects.
        learnt = [self.cls_token[0], self.reg_token[0]] if self._has_reg else [self.cls_token[0]]
        prefix = torch.cat(learnt)
        return pack(
            [
                torch.cat((prefix.expand(len(group), -1, -1), kept), dim=1)
                for group in groups
                for kept in [self.patch_dropout(group, keep_indices)]
            ]
        )

    @property
    def _has_reg(self) -> bool:
        return self.num_prefix > 1

    def _init_weights(self) -> None:
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.cls_token, std=1e-6)
        if self._has_reg:
            nn.init.normal_(self.reg_token, std=1e-6)


def _frozen(table: Tensor) -> nn.Parameter:
    # A parameter, because the published weights hold it; never trained.
    return nn.Parameter(table, requires_grad=False)


def _width_of(patch_embed: nn.Module) -> int:
    width = getattr(patch_embed, "embed_dim", None)
    if not isinstance(width, int):
        raise ValueError(
            f"patch embedding {type(patch_embed).__name__} has no integer `embed_dim`; the tower "
            "takes its width from there"
        )
    return width


def _check_levels(levels: Sequence[str]) -> list[Level]:
    known = {name: name for name in get_args(Level)}
    unknown = [level for level in levels if level not in known]
    if unknown or not levels:
        raise ValueError(
            f"levels {list(levels)} must name one of {', '.join(known)} for each block"
        )
    return [known[level] for level in levels]


def _in_layout_order(keep_indices: Tensor, first: Level, layout: StudyLayout) -> Tensor:
    """Reorder rows that follow the scans of the batch as the layout orders these scans."""
    if first == "study" and len(layout.groups) > 1:
        raise ValueError(
            "keep_indices cannot serve studies of different sizes when the first level is study: "
            "they keep different numbers of tokens"
        )
    if layout.scan_order is None:
        return keep_indices
    return keep_indices.unflatten(0, (len(layout.scan_order), -1))[layout.scan_order].flatten(0, 1)
