"""The whole two-tower model of HLIP: both towers, logits, zero-shot classifiers, token ids."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from medvlp.checkpoints.hlip import export_hlip, load_hlip
from medvlp.models.two_tower import TwoTower
from medvlp.text.tokenizers import WordPieceTokenizer
from medvlp.types import Tokens

from .hlip_models import build_two_tower, packed, record
from .registry import Case, handles


@handles("hlip", "full_model")
@torch.no_grad()
def full_model(case: Case) -> None:
    bias = 0.0 if "logit_bias" in case.state_dict else None
    model = build_two_tower(case.config, logit_bias_init=bias)
    assert load_hlip(model, case.state_dict).complete
    exported = export_hlip(model)
    assert all(torch.equal(exported[name], case.state_dict[name]) for name in case.state_dict)
    with tempfile.TemporaryDirectory() as folder:
        vocab = Path(folder) / "vocab.txt"
        vocab.write_text("\n".join(case.config["vocab"]) + "\n", encoding="utf-8")
        context = case.config["context_length"]
        tokenizer = WordPieceTokenizer(vocab, context, padding="max_length")
        tokenizer.num_truncated = 1  # cuts are expected here, do not warn of them
        tokens = tokenizer(case.config["texts"])
        _check_ids(case, vocab)
    results = _embeddings(case, model, tokens)
    results |= _classifiers(case, model, tokenizer, results["image_features"])
    for name, actual in results.items():
        case.assert_close(name, actual, case.outputs[name])
    case.assert_all_compared()


def _check_ids(case: Case, vocab: Path) -> None:
    for name in case.inputs:
        match = re.fullmatch(r"token_ids(?:_ctx(\d+))?", name)
        if not match:
            continue
        context = int(match[1] or case.config["context_length"])
        tokenizer = WordPieceTokenizer(vocab, context, padding="max_length")
        tokenizer.num_truncated = 1
        ids, mask = tokenizer(case.config["texts"])
        case.assert_close(name, ids, case.inputs[name])
        assert torch.equal(mask, case.inputs[name] != tokenizer.pad_id)


def _embeddings(case: Case, model: TwoTower, tokens: Tokens) -> dict[str, Tensor]:
    hidden: list[Tensor] = []
    model.text.get_submodule("encoder").register_forward_hook(
        lambda _module, _inputs, output: hidden.append(output.last_hidden_state)
    )
    modules = (model.vision, model.image_projection, model.text_projection)
    trunk, image, text = (record(module) for module in modules)
    scans, num_scans = packed(case.inputs["image"])
    output = model(scans, num_scans, tokens)
    scale = output["logit_scale"].exp()
    image_features, text_features = output["image_embedding"], output["text_embedding"]
    return {
        "trunk_output": trunk[0],
        "image_features_unnormalised": image[0],
        "image_features": image_features,
        "text_last_hidden_state": hidden[0],
        "text_features_unnormalised": text[0],
        "text_features": text_features,
        "logit_scale": scale.squeeze(0),
        "logits": scale * image_features @ text_features.T,
    }


def _classifiers(
    case: Case, model: TwoTower, tokenizer: WordPieceTokenizer, image_features: Tensor
) -> dict[str, Tensor]:
    config = case.config

    def column(prompts: Sequence[str]) -> Tensor:
        return F.normalize(model.embed_text(tokenizer(prompts)).mean(0), dim=0)

    ensemble = [
        column([template.format(c=name) for template in config["ensemble_templates"]])
        for name in config["ensemble_classes"]
    ]
    template = config["pub_brain_template"]
    brain = torch.stack([column([template.format(c=c)]) for c in config["pub_brain_prompts"]], 1)
    logits = model.logit_scale.exp() * image_features @ brain
    return {
        "classifier_ensemble": torch.stack(ensemble, dim=1),
        "classifier_pub_brain": brain,
        "probs_pub_brain": logits.softmax(-1),
    }
