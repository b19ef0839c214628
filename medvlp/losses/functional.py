"""Contrastive losses as formulas: tensors in, tensors out; no batch, no rank.

Logits are formed in float32 even under autocast: at a scale near 100, half precision would round
them by 0.03 and bfloat16 by 0.5, more than the differences that the loss looks at.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def pair_logits(
    rows: Float[Tensor, "r e"],
    columns: Float[Tensor, "k e"],
    logit_scale: Float[Tensor, "1"],
    logit_bias: Float[Tensor, "1"] | None = None,
) -> Float[Tensor, "r k"]:
    """Scale the cosine of every pair.

    Args:
        rows: L2-normalised embeddings.
        columns: L2-normalised embeddings.
        logit_scale: In log space.
        logit_bias: Added to every pair.

    >>> one = torch.ones(1, 1)
    >>> pair_logits(one, -one, torch.tensor([0.0]), torch.tensor([0.5]))
    tensor([[-0.5000]])
    """
    dtype = torch.promote_types(rows.dtype, torch.float32)
    with torch.autocast(rows.device.type, enabled=False):
        logits = logit_scale.to(dtype).exp() * rows.to(dtype) @ columns.to(dtype).T
        return logits if logit_bias is None else logits + logit_bias.to(dtype)


def cross_entropy_sum(
    logits: Float[Tensor, "r k"], targets: Int[Tensor, " r"] | Float[Tensor, "r k"]
) -> Float[Tensor, ""]:
    """Sum the cross entropy of the rows against column indices or distributions over columns.

    A row whose target distribution is all zero adds nothing.

    >>> cross_entropy_sum(torch.eye(2), torch.arange(2))  # 2 * ln(1 + 1/e)
    tensor(0.6265)
    """
    return F.cross_entropy(logits, targets, reduction="sum")


def clip_loss(
    image_embedding: Float[Tensor, "b e"],
    text_embedding: Float[Tensor, "b e"],
    logit_scale: Float[Tensor, "1"],
) -> Float[Tensor, ""]:
    """Average the cross entropies image-to-text and text-to-image; pairs are on the diagonal.

    >>> clip_loss(torch.eye(2), torch.eye(2), torch.tensor([0.0]))  # ln(1 + 1/e)
    tensor(0.3133)

    Reference: Radford et al., Learning Transferable Visual Models, 2021, Fig. 3.
    """
    logits = pair_logits(image_embedding, text_embedding, logit_scale)
    labels = torch.arange(len(logits), device=logits.device)
    total = cross_entropy_sum(logits, labels) + cross_entropy_sum(logits.T, labels)
    return total / (2 * len(logits))


def sigmoid_loss_sum(logits: Float[Tensor, "b b"], *, diagonal: bool) -> Float[Tensor, ""]:
    """Sum -log sigmoid(z L) over all pairs of a block.

    Args:
        logits: L, images in rows and texts in columns.
        diagonal: If true, z is +1 on the diagonal and -1 elsewhere; if false, -1 everywhere.

    >>> sigmoid_loss_sum(torch.zeros(2, 2), diagonal=True)  # 4 * ln 2
    tensor(2.7726)

    Reference: Zhai et al., Sigmoid Loss for Language Image Pre-Training, 2023, Alg. 1.
    """
    if not diagonal:
        return -F.logsigmoid(-logits).sum()
    signs = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
    return -F.logsigmoid(signs * logits).sum()


def match_statements(
    text_statements: Int[Tensor, "t u"], study_statements: Int[Tensor, "b m"]
) -> Bool[Tensor, "t b"]:
    """Say of which studies a text is true: those whose report holds all of its statements.

    Args:
        text_statements: Hashes >= 0; -1 fills. A text without any matches no study.
        study_statements: Hashes >= 0; -1 fills.

    >>> texts = torch.tensor([[7, -1], [7, 8]])
    >>> studies = torch.tensor([[7, 9, -1], [8, 9, 7]])
    >>> match_statements(texts, studies).tolist()
    [[True, True], [False, True]]
    """
    real = text_statements >= 0
    reports = F.pad(study_statements, (0, 1), value=-1).sort(dim=1).values
    wanted = text_statements.flatten().expand(len(reports), -1).contiguous()
    place = torch.searchsorted(reports, wanted).clamp_(max=reports.shape[1] - 1)
    found = (reports.gather(1, place) == wanted).unflatten(1, text_statements.shape)
    return ((found | ~real).all(dim=2) & real.any(dim=1)).T


def normalise_rows(match: Bool[Tensor, "r k"]) -> Float[Tensor, "r k"]:
    """Spread the weight 1 of each row over its matches; a row without any stays zero.

    >>> normalise_rows(torch.tensor([[True, True], [False, False]])).tolist()
    [[0.5, 0.5], [0.0, 0.0]]
    """
    return match / match.sum(dim=1, keepdim=True).clamp(min=1)
