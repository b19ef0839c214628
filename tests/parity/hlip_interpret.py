"""Activation maps of HLIP: attention and gradient of the last block, relevance, probabilities."""

import re
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from medvlp.checkpoints.hlip import load_hlip
from medvlp.evaluation.activation import activation_maps
from medvlp.layers.attention import Attention
from medvlp.models.two_tower import TwoTower
from medvlp.text.tokenizers import WordPieceTokenizer
from medvlp.vision.activation import upsample

from .hlip_models import build_two_tower, packed
from .registry import Case, handles


class _Explicit(torch.nn.Module):
    """The attention of a block with its whole matrix, which the towers never make."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.inner = attention
        self.matrix = torch.empty(0)

    def forward(self, x: Tensor, lengths: object = None) -> Tensor:
        q, k, v = self.inner.qkv(x).unflatten(-1, (3, self.inner.num_heads, -1)).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        self.matrix = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        return self.inner.proj((self.matrix @ v).transpose(1, 2).flatten(-2))


@handles("hlip", "interpret")
def interpret(case: Case) -> None:
    model = build_two_tower(case.config | {"embed_dim": _embed_dim(case)})
    assert load_hlip(model, case.state_dict).complete
    names = case.config["prompts"]
    texts = _embed(case, model, [case.config["template"].format(c=name) for name in names])
    classifier = case.outputs["classifier"]
    case.assert_close("classifier", texts.T, classifier)
    study = case.inputs["image"][0]
    found = activation_maps(model, study, texts)
    case.assert_close("probs", found.scores.softmax(-1)[None], case.outputs["probs"])
    if "image_features" in case.outputs:
        case.assert_close("image_features", found.embedding[None], case.outputs["image_features"])
    volumes = upsample(found.maps, tuple(study.shape[2:]))
    for row, name in enumerate(names):
        key = f"relevance.{name.replace(' ', '_')}"
        if key in case.outputs:  # the published code squeezes axes of size 1
            case.assert_close(key, volumes[row].squeeze(), case.outputs[key].squeeze())
    _compare_matrices(case, model, texts, names)
    case.assert_all_compared()


def _compare_matrices(case: Case, model: TwoTower, texts: Tensor, names: list[str]) -> None:
    block = model.vision.blocks[-1]
    explicit = block.attn = _Explicit(block.attn)
    embedding = model.embed_image(*packed(case.inputs["image"]))
    embedding = embedding if embedding.ndim == 2 else embedding[:, 0]  # dual towers: token 0
    logits = model.logit_scale.exp() * embedding @ texts.T
    if "attn_last_block" in case.outputs:
        case.assert_close("attn_last_block", explicit.matrix, case.outputs["attn_last_block"])
    for key in case.outputs:
        match = re.fullmatch(r"attn_grad_last_block\.(.+)", key)
        if match:
            target = [name.replace(" ", "_") for name in names].index(match[1])
            (gradient,) = torch.autograd.grad(logits[0, target], explicit.matrix, retain_graph=True)
            case.assert_close(key, gradient, case.outputs[key])


def _embed_dim(case: Case) -> int:
    return int(case.state_dict["visual.head.proj.weight"].shape[0])


def _embed(case: Case, model: TwoTower, texts: list[str]) -> Tensor:
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        vocab = Path(folder) / "vocab.txt"
        vocab.write_text("\n".join(case.config["vocab"]) + "\n", encoding="utf-8")
        context = case.config["context_length"]
        return model.embed_text(WordPieceTokenizer(vocab, context, padding="max_length")(texts))
