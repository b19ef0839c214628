"""fVLM: captions of organs, zero-shot scores."""

import json
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from medvlp.data.organ_captions import OrganCaptions
from medvlp.evaluation.anatomy_zero_shot import embed_organs, organ_numbers, organ_probabilities
from medvlp.evaluation.published_fvlm import printed_means, published_figures
from medvlp.evaluation.published_fvlm_table import read_scores

from .fvlm_models import build_fvlm, build_tokenizer
from .registry import Case, handles

METRIC_TOLERANCE = 1e-12  # rates of counts


@handles("fvlm", "caption_assembly")
def caption_assembly(case: Case) -> None:
    config = case.config
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.json" for name in ("desc_info", "conc_info")]
        for path in paths:
            path.write_text(json.dumps(config[path.stem]), encoding="utf-8")
        organs = list(dict.fromkeys(o for row in config["expected_caption"].values() for o in row))
        captions = OrganCaptions(*paths, organs=organs, compat="published")
    for patient in config["patients"]:
        ours = captions.of(patient)
        for key, attribute in (
            ("expected_caption", "text"),
            ("expected_abnormal", "abnormal"),
            ("expected_text_for_encoder", "encoder_text"),
        ):
            for organ, expected in config[key][patient].items():
                assert getattr(ours[organ], attribute) == expected, f"{patient} {organ}: {key}"


@handles("fvlm", "zero_shot")
@torch.no_grad()
def zero_shot(case: Case) -> None:
    """Score a volume; the golden has NaN where an organ is absent."""
    config = case.config
    model = build_fvlm(config, case.state_dict)
    patch = model.vision.patch_embed.patch_size
    seen: dict[str, dict[str, list[int]]] = {}

    def embed_image(image: Tensor, num_scans: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        embedding, present = model.embed_image(image, num_scans, mask)
        for organ in (mask.unique()[1:] - 1).tolist():
            seen[config["organs"][organ]] = {"padded": list(image.shape[2:])}
        return embedding, present

    organs = embed_organs(
        embed_image,
        case.inputs["image_u8"].float()[None] / 255,
        case.inputs["mask"],
        num_organs=len(config["organs"]),
        window=tuple(config["window"]),
        multiple=patch,
        compat="published",
    )
    assert {name: {"padded": row["padded"]} for name, row in config["windows"].items()} == seen
    names, _, *pairs = zip(*config["items"], strict=True)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = build_tokenizer(config, folder)
        texts = torch.stack([model.embed_text(tokenizer(list(part))) for part in pairs], dim=1)
    numbers = torch.tensor(organ_numbers(names, config["organs"]))
    scores = organ_probabilities(organs, texts, numbers, model.temperature)
    _assert_close_with_nan(case, "organ_feat", organs[0])
    _assert_close_with_nan(case, "probabilities", scores[0])
    case.assert_close("text_feat", texts, case.outputs["text_feat"])
    case.assert_all_compared()


def _assert_close_with_nan(case: Case, name: str, actual: Tensor) -> None:
    expected = case.outputs[name]
    assert torch.equal(actual.isnan(), expected.isnan()), f"{case.name}: {name}: other NaN"
    case.assert_close(name, actual.nan_to_num(), expected.nan_to_num())


@handles("fvlm", "metrics")
def metrics(case: Case) -> None:
    table = read_scores(case.path / "predictions.csv", case.path / "labels.csv", compat="published")
    assert table.class_names == case.config["findings"]
    figures = published_figures(table)
    assert printed_means(figures) == case.config["printed_means"]
    for key, golden in case.outputs.items():
        found = torch.tensor([row[key] for row in figures.values()], dtype=torch.float64)
        case.assert_close(key, found, golden, METRIC_TOLERANCE)
    case.assert_all_compared()
