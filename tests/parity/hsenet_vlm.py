"""HSENet: the whole model that writes reports, with and without its adapter."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medvlp.checkpoints.adapter import to_published
from medvlp.checkpoints.hsenet_vlm import PEFT_PREFIX, load_vlm, published_adapter, vlm_table
from medvlp.heads.spatial_packer import SpatialPacker
from medvlp.models.hsenet_vlm import HSENetVLM
from medvlp.text.conversation_tokenizer import ConversationTokenizer
from medvlp.text.language_model import Ending, LanguageModel
from medvlp.text.lora import LoRA
from medvlp.text.vocabulary import resize_vocabulary
from medvlp.types import Conversation, Tokens

from .hsenet_vision import build_vision
from .registry import Case, handles

ATOL = 2e-5  # of its README
TAIL = 250  # logits are stored from this place on
END = "<|endoftext|>"
IMAGE = "<im_patch>"


def build_vlm(config: Mapping[str, Any], slice_dim: int, lora: LoRA | None) -> HSENetVLM:
    """Build the model of a case with the keys vision, packer, llm."""
    published = config["vision"]
    vision = {
        "img_size": published["image_size"],
        "patch_size": published["patch_size"],
        "hidden_size": published["hidden"],
        "mlp_dim": published["mlp"],
        "num_layers": published["layers"],
        "num_heads": published["heads"],
    }
    language = LanguageModel({"model_type": "phi3"} | config["llm"], lora=lora)
    cells = {name: config["packer"][name] for name in ("kernel", "grid")}
    packers = [
        SpatialPacker(published["hidden"], language.width, **cells)
        for _ in range(2 if config["packer"]["parallel"] else 1)
    ]
    guided: Any = build_vision(vision, slice_dim=slice_dim)
    return HSENetVLM(
        build_vision(vision),
        guided,
        packer=packers[0],
        guided_packer=packers[1] if len(packers) > 1 else None,
        language=language,
    ).eval()


@handles("hsenet", "mllm_tiny")
@torch.no_grad()
def mllm_tiny(case: Case) -> None:
    _texts(case)
    base = _part(case, "base.")
    slice_dim = case.inputs["images_2d"].shape[-1]
    plain = build_vlm(case.config, slice_dim, None)
    assert load_vlm(plain, base).complete
    exported = to_published(plain.state_dict(), vlm_table(plain))
    assert all(torch.equal(exported[name], tensor) for name, tensor in base.items())
    _compare(case, plain, "")
    rule = case.config["lora"]
    adapted = build_vlm(
        case.config, slice_dim, LoRA(rule["r"], alpha=rule["alpha"], targets=rule["targets"])
    )
    adapter = _part(case, "adapter.")
    renamed = {name.removeprefix(PEFT_PREFIX): tensor for name, tensor in adapter.items()}
    assert load_vlm(adapted, base | renamed).complete
    again = published_adapter(adapted)
    assert again.keys() == adapter.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in adapter.items())
    _compare(case, adapted, "lora_")
    _vocabulary(case)
    case.assert_all_compared()


def _compare(case: Case, model: HSENetVLM, prefix: str) -> None:
    inputs, outputs = case.inputs, case.outputs
    ones = torch.ones(len(inputs["images"]), dtype=torch.int64)
    towers = model.look(inputs["images"], ones, inputs["images_2d"])
    mask = inputs["attention_mask"].bool()
    words = model.language.embed(inputs["input_ids"])
    embeddings = model.merge(words, model.pack(towers), mask)
    valid = mask[:, TAIL:, None]
    ours = {
        "tower1": towers.plain[:, :: towers.plain.shape[1] // outputs["tower1"].shape[1]],
        "tower2": towers.guided[:, :: towers.guided.shape[1] // outputs["tower2"].shape[1]],
        "inputs_embeds": embeddings,
        "logits_tail": model.language(embeddings, mask)[:, TAIL:] * valid,
        "loss": model(
            inputs["images"],
            ones,
            inputs["images_2d"],
            Conversation(inputs["input_ids"], mask, inputs["labels"]),
        ).loss,
        "pack1": model.packer(towers.plain),
        "pack2": (model.guided_packer or model.packer)(towers.guided),
    }
    for name, actual in ours.items():
        if prefix + name in outputs:
            expected = outputs[prefix + name]
            expected = expected * valid if name == "logits_tail" else expected
            case.assert_close(prefix + name, actual, expected, atol=ATOL)
    expected = outputs[f"{prefix}generated"]
    end = case.config["special_ids"][END]
    prompts = Tokens(inputs["prompt_input_ids"], inputs["prompt_attention_mask"].bool())
    ids = model.generate(
        inputs["images"],
        ones,
        inputs["images_2d"],
        prompts,
        Ending(expected.shape[1], [end], end),
    )
    ids = F.pad(ids, (0, expected.shape[1] - ids.shape[1]), value=end)
    case.assert_close(f"{prefix}generated", ids, expected)


def _texts(case: Case) -> None:
    """Compare the ids and labels of all texts with what the tokenizer makes of them."""
    for kind, prefix, expected in (
        ("samples", "", case.inputs),
        ("vqa_samples", "vqa_", case.outputs),
        ("trunc_samples", "trunc_", case.outputs),
    ):
        samples = case.config[kind]
        (length,) = {sample["max_length"] for sample in samples}
        tokenizer = _tokenizer(case, length)
        questions = [_question(sample["question"]) for sample in samples]
        made = tokenizer.conversation(questions, [sample["answer"] for sample in samples])
        for name, actual in zip(made._fields, made, strict=True):
            case.assert_close(
                f"{prefix}{name}", actual.to(torch.int64), expected[f"{prefix}{name}"]
            )
    prompts = _tokenizer(case, length).prompts(
        [_question(case.config["prompt"])] * len(case.inputs["prompt_input_ids"])
    )
    assert torch.equal(prompts.input_ids, case.inputs["prompt_input_ids"])
    mask = case.inputs["prompt_attention_mask"]
    assert torch.equal(prompts.attention_mask.to(mask.dtype), mask)


def _tokenizer(case: Case, max_length: int) -> ConversationTokenizer:
    tokenizer = ConversationTokenizer(
        str(case.path / "tokenizer.json"),
        max_length,
        num_image_tokens=int(case.config["prompt"].split(f"{IMAGE}*")[1][:3]),
        end_token=END,
        padding="max_length",
    )
    tokenizer.num_truncated = 1  # cuts are expected here, do not warn of them
    return tokenizer


def _question(text: str) -> str:
    """Take off what the tokenizer puts before a question itself."""
    return text.removeprefix(f"{END}{IMAGE}*").lstrip("0123456789")


def _vocabulary(case: Case) -> None:
    """Check the rule for added rows on a table whose other rows have the stated mean."""
    mean, rows = case.outputs["vocab_resize_mean_of"], case.outputs["vocab_resize_new_rows"]
    language = LanguageModel({"model_type": "phi3"} | case.config["llm"])
    table: Any = language.decoder.get_input_embeddings()
    table.weight[:] = mean
    resize_vocabulary(language.decoder, len(table.weight) + 1, len(rows))
    grown: Any = language.decoder.get_input_embeddings()
    grown.weight[-len(rows) - 1] = mean
    resize_vocabulary(language.decoder, None, len(rows))
    case.assert_close("vocab_resize_new_rows", grown.weight[-len(rows) :], rows, atol=ATOL)
    others = grown.weight[: -len(rows)].mean(0)
    case.assert_close("vocab_resize_mean_of", others, mean, atol=ATOL)


def _part(case: Case, prefix: str) -> dict[str, Tensor]:
    found = case.state_dict.items()
    return {name.removeprefix(prefix): t for name, t in found if name.startswith(prefix)}
