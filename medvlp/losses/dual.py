"""Contrastive loss of two image tokens: one learns from short texts, one from whole reports."""

import warnings
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvlp.types import TextKind, TwoTowerOutput, VolumeBatch

SHORT = (TextKind.SENTENCE, TextKind.IMPRESSION)
WHOLE = (TextKind.REPORT, TextKind.FINDINGS)


class DualTokenLoss(nn.Module):
    """One loss for token 0 with short texts and for token 1 with reports, each at its own scale.

    Every study brings texts of two kinds: a sentence or impression, and a report or its findings.
    A model of one token learns from the short texts alone, as in the published code; that is
    warned of once.

    Args:
        loss: Contrasts one token with the texts of its kind, such as `ClipLoss`.
        report_weight: Share of the reports' loss in the total; the short texts' is the rest.

    Reference: the dual-token models of HLIP's published code (github.com/Zch0414/hlip).
    """

    def __init__(self, loss: nn.Module, *, report_weight: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= report_weight <= 1.0:
            raise ValueError(f"report_weight {report_weight} is a share, expected 0 to 1")
        self.loss = loss
        self.report_weight = report_weight
        self._has_warned = False

    def forward(self, output: TwoTowerOutput, batch: VolumeBatch) -> dict[str, Tensor]:
        """Return "total" and its parts, "sentence" and, of two tokens, "report".

        Raises:
            ValueError: If a study lacks a text of either kind, or the model the second scale.
        """
        image = output["image_embedding"]
        tokens = [image] if image.ndim == 2 else list(image.unbind(1))
        if len(tokens) > 2:
            raise ValueError(
                f"the model has {len(tokens)} image tokens, the dual loss takes two, the class "
                "token and one register; set model.vision.num_register_tokens=1"
            )
        short = self._of_kinds(SHORT, tokens[0], output["logit_scale"], output, batch)
        if len(tokens) == 1:
            self._warn_once()
            return {"total": short, "sentence": short.detach()}
        if "second_logit_scale" not in output:
            raise ValueError(
                "the dual loss needs a scale for the second image token and the model has none; "
                "set model.second_logit_scale_init=2.6592600369327781"
            )
        whole = self._of_kinds(WHOLE, tokens[1], output["second_logit_scale"], output, batch)
        total = (1 - self.report_weight) * short + self.report_weight * whole
        return {"total": total, "sentence": short.detach(), "report": whole.detach()}

    def _of_kinds(
        self,
        kinds: tuple[TextKind, ...],
        token: Float[Tensor, "b e"],
        scale: Float[Tensor, "1"],
        output: TwoTowerOutput,
        batch: VolumeBatch,
    ) -> Tensor:
        """Apply the loss to one image token and the texts of some kinds, by study."""
        rows = _rows_of(kinds, batch, len(token))
        index = torch.tensor(rows).to(token.device, non_blocking=True)
        given = cast(dict[str, Any], batch)
        names = ("text_study", "text_statements")
        texts = {name: given[name][index] for name in names if name in given}
        pairs = TwoTowerOutput(
            image_embedding=token, text_embedding=output["text_embedding"][index], logit_scale=scale
        )
        return self.loss(pairs, cast(VolumeBatch, given | texts))["total"]

    def _warn_once(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "the model has one image token, so that the dual loss uses short texts alone and "
                "reports are encoded for nothing; choose a text sampler without them, or two "
                "tokens (DualTokenPooling)",
                stacklevel=3,
            )


def _rows_of(kinds: tuple[TextKind, ...], batch: VolumeBatch, num_studies: int) -> list[int]:
    """Find the texts of these kinds, in the order of the studies.

    Where `text_study` lies on a device it is read only to explain an error, since that stalls:
    texts are taken to stand in the order of the studies, as DataModules put them.
    """
    if "text_kind" not in batch or "text_study" not in batch:
        raise ValueError(
            "the batch lacks text_kind or text_study, so that its texts cannot be told apart; "
            "choose a text sampler in data, such as SectionTexts"
        )
    rows = [row for row, kind in enumerate(batch["text_kind"].tolist()) if kind in kinds]
    if not batch["text_study"].is_cpu and len(rows) >= num_studies:
        return rows
    owners = batch["text_study"].tolist()
    rows.sort(key=owners.__getitem__)
    lacking = sorted(set(range(num_studies)) - {owners[row] for row in rows})
    if lacking:
        names = " or ".join(kind.name.lower() for kind in kinds)
        raise ValueError(
            f"{len(lacking)} of {num_studies} studies have no {names} text, first "
            f"{batch['study_id'][lacking[0]]}; the dual loss takes a short text and a report of "
            "every study: use the text sampler SectionTexts, or leave such studies out"
        )
    return rows
