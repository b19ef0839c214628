"""Contrastive loss of two image tokens: one learns from short texts, one from whole reports."""

import warnings
from collections import Counter

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvlp.distributed.world import world_size
from medvlp.losses.contrastive import ClipLoss, check_global_batch
from medvlp.types import TextKind, TwoTowerOutput, VolumeBatch

SHORT = (TextKind.SENTENCE, TextKind.IMPRESSION)
WHOLE = (TextKind.REPORT, TextKind.FINDINGS)


class DualClipLoss(nn.Module):
    """CLIP loss of token 0 with short texts and of token 1 with reports, each at its own scale.

    Every study brings two texts, told apart by their kind: a sentence or impression, and a report
    or its findings. A model of one token learns from the short texts alone, as in the published
    code; that is warned of once.

    Args:
        report_weight: Share of the reports' loss in the total; the short texts' is the rest.
        local_loss: See `ClipLoss`.
        gather_with_grad: See `ClipLoss`.

    Reference: the dual-token models of HLIP's published code (github.com/Zch0414/hlip).
    """

    def __init__(
        self,
        *,
        report_weight: float = 0.5,
        local_loss: bool = False,
        gather_with_grad: bool = False,
    ) -> None:
        super().__init__()
        if not 0.0 <= report_weight <= 1.0:
            raise ValueError(f"report_weight {report_weight} is a share, expected 0 to 1")
        self.report_weight = report_weight
        self.clip = ClipLoss(local_loss=local_loss, gather_with_grad=gather_with_grad)
        self._has_warned = False

    def forward(self, output: TwoTowerOutput, batch: VolumeBatch) -> dict[str, Tensor]:
        """Return "total" and its parts, "sentence" and, of two tokens, "report".

        Raises:
            ValueError: Unless each study has one short text, and for two tokens one report and
                the model a second scale; or if in training there is a single study.
        """
        image, text = output["image_embedding"], output["text_embedding"]
        tokens = [image] if image.ndim == 2 else list(image.unbind(1))
        if len(tokens) > 2:
            raise ValueError(
                f"the model has {len(tokens)} image tokens, the dual loss takes two: class token "
                "and one register; set model.vision.num_register_tokens=1"
            )
        check_global_batch(self, len(image) * world_size())
        short = self.clip.of_pairs(
            tokens[0], _texts_of(SHORT, text, batch, len(image)), output["logit_scale"]
        )
        if len(tokens) == 1:
            self._warn_once()
            return {"total": short, "sentence": short.detach()}
        if "second_logit_scale" not in output:
            raise ValueError(
                "the dual loss needs a scale for the second image token and the model has none; "
                "set model.second_logit_scale_init=2.6592600369327781"
            )
        whole = self.clip.of_pairs(
            tokens[1], _texts_of(WHOLE, text, batch, len(image)), output["second_logit_scale"]
        )
        total = (1 - self.report_weight) * short + self.report_weight * whole
        return {"total": total, "sentence": short.detach(), "report": whole.detach()}

    def _warn_once(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "the model has one image token, so that the dual loss uses short texts alone; "
                "reports are encoded for nothing: choose a text sampler without them, or "
                "DualTokenPooling",
                stacklevel=3,
            )


def _texts_of(
    kinds: tuple[TextKind, TextKind],
    text: Float[Tensor, "t e"],
    batch: VolumeBatch,
    num_studies: int,
) -> Float[Tensor, "b e"]:
    """Select the one text of these kinds of each study, in the order of the studies.

    Where `text_study` lies on a device it is not read, which would stall: texts are then taken to
    stand in the order of the studies, as data modules put them.
    """
    names = " or ".join(kind.name.lower() for kind in kinds)
    if "text_kind" not in batch or "text_study" not in batch:
        raise ValueError(
            "the batch lacks text_kind or text_study, so that its texts cannot be told apart; "
            "the dual loss needs a text sampler, such as SectionTexts"
        )
    rows = [row for row, kind in enumerate(batch["text_kind"].tolist()) if kind in kinds]
    owners = batch["text_study"]
    if owners.is_cpu:
        owner_of = owners.tolist()
        rows.sort(key=owner_of.__getitem__)
        count = Counter(owner_of[row] for row in rows)
        wrong = [study for study in range(num_studies) if count[study] != 1]
    else:
        wrong = [] if len(rows) == num_studies else list(range(num_studies))
    if wrong:
        raise ValueError(
            f"{len(wrong)} of {num_studies} studies do not have exactly one {names} text, first "
            f"{batch['study_id'][wrong[0]]}; the dual loss takes one short text and one report of "
            "each study: use data.texts=SectionTexts, or leave such studies out"
        )
    return text[torch.tensor(rows).to(text.device, non_blocking=True)]
