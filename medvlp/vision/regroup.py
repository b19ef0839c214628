"""Change the sequences that attention sees: slices, scans, whole studies.

A token sequence is a few prefix tokens (class, registers) followed by patch tokens. Slices and
scans of a batch are all of one length: dense (s n c). Studies are dense when they have the same
number of scans; otherwise they are packed (n c), with the length of each.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from medvlp.vision.study_layout import StudyGroup, StudyLayout

Level = Literal["slice", "scan", "study"]


class Sequences(NamedTuple):
    """Tokens and, if they are packed, the length of each sequence."""

    tokens: Float[Tensor, "..."]
    lengths: tuple[int, ...] | None = None


class Regrouper:
    """Moves the tokens of one batch between levels.

    Args:
        layout: Studies of the batch.
        num_slices: Depth of the token grid.
        num_prefix: Prefix tokens of every sequence.
    """

    def __init__(self, layout: StudyLayout, num_slices: int, num_prefix: int) -> None:
        self.layout = layout
        self.num_slices = num_slices
        self.num_prefix = num_prefix

    def change(self, sequences: Sequences, before: Level, after: Level) -> Sequences:
        """Regroup from one level to another.

        To a coarser level: concatenate the patch tokens of the children, average their prefix
        tokens. To a finer one: cut the patch tokens into equal pieces, copy the prefix tokens.
        """
        if before == after:
            return sequences
        if after == "study":
            return pack(self._merge_studies(sequences.tokens, before))
        if before == "study":
            pieces = zip(self.studies(sequences), self.layout.groups, strict=True)
            cut_pieces = [
                cut(tokens, self._children(after, group), self.num_prefix)
                for tokens, group in pieces
            ]
            return Sequences(_join(cut_pieces))
        change = merge if after == "scan" else cut
        return Sequences(change(sequences.tokens, self.num_slices, self.num_prefix))

    def studies(self, sequences: Sequences) -> list[Tensor]:
        """View study sequences as one dense tensor per group of equal numbers of scans."""
        tokens, lengths = sequences
        if lengths is None:
            return [tokens]
        dense, first, start = [], 0, 0
        for group in self.layout.groups:
            stop = start + group.num_studies * lengths[first]
            dense.append(tokens[start:stop].unflatten(0, (group.num_studies, -1)))
            first, start = first + group.num_studies, stop
        return dense

    def _merge_studies(self, tokens: Tensor, before: Level) -> list[Tensor]:
        children = [self._children(before, group) for group in self.layout.groups]
        sizes = [
            group.num_studies * count
            for group, count in zip(self.layout.groups, children, strict=True)
        ]
        pieces = zip(tokens.split(sizes), children, strict=True)
        return [merge(piece, count, self.num_prefix) for piece, count in pieces]

    def _children(self, level: Level, group: StudyGroup) -> int:
        return group.num_scans * (self.num_slices if level == "slice" else 1)


def merge(
    tokens: Float[Tensor, "s n c"], num_children: int, num_prefix: int
) -> Float[Tensor, "q m c"]:
    """Join each run of `num_children` sequences into one."""
    children = tokens.unflatten(0, (-1, num_children))
    prefix = children[:, :, :num_prefix].mean(1)
    return torch.cat((prefix, *children[:, :, num_prefix:].unbind(1)), dim=1)


def cut(
    tokens: Float[Tensor, "s n c"], num_children: int, num_prefix: int
) -> Float[Tensor, "q m c"]:
    """Cut each sequence into `num_children` of equal length.

    Raises:
        ValueError: If the patch tokens do not divide evenly.
    """
    num_patches = tokens.shape[1] - num_prefix
    if num_patches % num_children:
        raise ValueError(
            f"{num_patches} patch tokens cannot be cut into {num_children} equal sequences; choose "
            "a patch_drop_prob that keeps a multiple, or a first level that is the finest one"
        )
    patches = tokens[:, num_prefix:].unflatten(1, (num_children, -1))
    prefix = tokens[:, None, :num_prefix].expand(-1, num_children, -1, -1)
    return torch.cat((prefix, patches), dim=2).flatten(0, 1)


def pack(groups: Sequence[Float[Tensor, "_ _ c"]]) -> Sequences:
    """Put groups of sequences in a row; one group alone stays dense."""
    if len(groups) == 1:
        return Sequences(groups[0])
    lengths = tuple(group.shape[1] for group in groups for _ in range(group.shape[0]))
    return Sequences(torch.cat([group.flatten(0, 1) for group in groups]), lengths)


def _join(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
