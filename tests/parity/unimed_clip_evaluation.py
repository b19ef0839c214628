"""UniMed-CLIP: zero-shot classifiers, evaluation of labelled sets, metrics."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from medvlp.checkpoints.adapter import load_published
from medvlp.checkpoints.systems import load_weights
from medvlp.checkpoints.unimed_clip import UNIMED_CLIP
from medvlp.data.catalogue_sets import Registry
from medvlp.evaluation.prompt_evaluation import class_embeddings, class_means
from medvlp.evaluation.published_unimed import slip_layout
from medvlp.evaluation.retrieval_metrics import matching_ranks, rank_metrics
from medvlp.evaluation.set_metrics import set_metrics, top_k
from medvlp.evaluation.zero_shot_catalogue import ZeroShotCatalogue, classifier_of
from medvlp.prompts.prompt_ensembles import PromptEnsembles, expand
from medvlp.text.tokenizers import WordPieceTokenizer
from medvlp.types import Tokens

from .registry import Case, handles
from .unimed_clip_models import build_text, build_two_tower, ones_for

CPU = torch.device("cpu")


class TextPart(nn.Module):
    """Text tower, its head and the scale, under their names in the whole model."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.text, self.text_projection = build_text(config)
        self.logit_scale = nn.Parameter(torch.zeros(1))

    def forward(self, tokens: Tokens) -> Tensor:
        return self.text_projection(self.text(tokens))


def tokenizer_of(case: Case) -> WordPieceTokenizer:
    return WordPieceTokenizer(case.path / "vocab.txt", case.config["context_length"])


@handles("unimed_clip", "zeroshot_classifier")
@torch.no_grad()
def zeroshot_classifier(case: Case) -> None:
    part = TextPart(case.config).eval()
    assert load_published(part, case.state_dict, UNIMED_CLIP).complete
    tokenizer = tokenizer_of(case)
    shipped = PromptEnsembles.load("unimed_clip").sets
    for name, classes in case.config["prompt_sets"].items():
        assert shipped.get(name, classes) == classes
        actual = class_embeddings(list(classes.values()), tokenizer, part, CPU)
        case.assert_close(f"classifier.{name}", actual, case.outputs[f"classifier.{name}"])
    if "template_list" in case.config:
        entry = case.config["template_list"]
        texts = [expand(entry["templates"], names) for names in entry["labels"]]
        actual = class_embeddings(texts, tokenizer, part, CPU)
        case.assert_close("template_list.features", actual, case.outputs["template_list.features"])
    if "classnorm_set" in case.config:
        classes = case.config["prompt_sets"][case.config["classnorm_set"]]
        means = class_means(list(classes.values()), tokenizer, part, CPU)
        features, (mean, std) = classifier_of(means, class_norm=True)
        for name, actual in (("features", features), ("mean", mean), ("std", std)):
            case.assert_close(f"classnorm.{name}", actual, case.outputs[f"classnorm.{name}"])
    case.assert_all_compared()


def evaluation_of(case: Case, folder: Path) -> ZeroShotCatalogue:
    """Build the evaluation of the case's sets, and compare their prompts with those shipped."""
    registry, prompts = Registry.load(), PromptEnsembles.load("unimed_clip")
    sets = {}
    for name, used in case.config["prompts_used"].items():
        if one := registry.sets.get(name):
            assert prompts.texts(one.prompts, one.classes, one.num_prompts) == list(used.values())
            assert one.two_class == isinstance(case.config["metrics"][name], dict)
        sets[name] = {
            "modality": "any",
            "prompts": name,
            "classes": list(used),
            "two_class": isinstance(case.config["metrics"][name], dict),
            "layout": {"folders": list(used)},
        }
    (folder / "sets.yaml").write_text(yaml.safe_dump({"sets": sets}, sort_keys=False))
    (folder / "prompts.json").write_text(json.dumps({"sets": case.config["prompts_used"]}))
    return ZeroShotCatalogue(
        tokenizer_of(case),
        prompts=str(folder / "prompts.json"),
        registry=str(folder / "sets.yaml"),
        num_resamples=2,
    )


@handles("unimed_clip", "zeroshot_eval")
@torch.no_grad()
def zeroshot_eval(case: Case) -> None:
    model = build_two_tower(case.config)
    assert load_weights(model, case.state_dict).complete
    with tempfile.TemporaryDirectory() as folder:
        measure = evaluation_of(case, Path(folder))
    measure.prepare(model.embed_text, model.logit_scale, CPU)
    image = case.inputs["image"]
    embedding = model.embed_image(image, ones_for(image))
    for one in measure.sets:
        target = case.inputs[f"target.{one.name}"]
        labels = target.argmax(dim=1) if target.ndim == 2 else target
        ids = [f"{one.name}/{row:06}" for row in range(len(image))]
        measure.update(
            embedding,
            {
                "image": image,
                "num_scans": ones_for(image),
                "study_id": ids,
                "sample_id": ids,
                "patient_id": ids,
                "recipe_hash": "",
                "metadata": [{"dataset": one.name, "label": str(k)} for k in labels.tolist()],
            },
        )
    rows = measure.rows()
    for one in measure.sets:
        places = [measure.class_names.index(f"{one.name}: {name}") for name in one.classes]
        own = np.stack([row["scores"][places] for row in rows if row["dataset"] == one.name])
        name = f"cosine.{one.name}"
        case.assert_close(name, torch.from_numpy(own), case.outputs[name])
    case.assert_all_compared()
    found = {line["task"]: line["acc"] for line in slip_layout(measure.compute(rows))}
    assert list(found) == list(case.config["prompts_used"])
    for name, expected in case.config["metrics"].items():
        assert found[name] == pytest.approx(expected, rel=1e-5), name


@handles("unimed_clip", "metrics")
def metrics(case: Case) -> None:
    expected = case.config["metrics"]
    for group, wanted in expected.items():
        scores = case.inputs[f"{group}.scores"].numpy()
        truth = case.inputs[f"{group}.target"].numpy()
        weights = np.ones((1, len(truth)))
        found = set_metrics(scores, truth, weights, two_class="auc_roc" in wanted)
        percent = {name: 100 * float(values[0]) for name, values in found.items()}
        percent |= {"top1": percent["acc"], "top5": percent.get("top5_acc")}
        percent |= {"mean_per_class": percent["balanced_acc"]}
        assert np.array_equal(top_k(scores, truth, 1), scores.argmax(axis=1) == truth)
        for name, value in wanted.items():
            if name == "confusion_matrix":
                cells = truth * len(value) + scores.argmax(axis=1)
                counts = np.bincount(cells, minlength=len(value) ** 2)
                assert counts.reshape(len(value), -1).tolist() == value
            else:
                assert percent[name] == pytest.approx(value, rel=1e-5), f"{group}: {name}"


@handles("unimed_clip", "retrieval_metrics")
def retrieval_metrics(case: Case) -> None:
    image, text = case.inputs["image_features"], case.inputs["text_features"]
    found = {}
    for name, queries, items in (("image_to_text", image, text), ("text_to_image", text, image)):
        ranks = matching_ranks(queries, items).double().numpy()
        values = rank_metrics(ranks, np.ones((1, len(ranks))))
        found |= {f"{name}_{key}": float(value[0]) for key, value in values.items()}
    assert found == pytest.approx(dict(case.config["metrics"]), rel=1e-5)
