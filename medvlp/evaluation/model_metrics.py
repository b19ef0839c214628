"""Metrics of texts that need a trained model: BERTScore, RaTEScore, RadGraph F1 and GREEN.

Each is computed by its authors' package, where that and its model lie on this machine: nothing is
downloaded. What is missing is told, with what to install.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from medvlp.layers.notices import Notices

_NOTICES = Notices(__name__)
Scores = Sequence[Float[ndarray, " n"]]


class ModelMetric(NamedTuple):
    """A metric that a package computes.

    Attributes:
        figures: Names of its scores.
        told: What they are.
        package: As it is imported.
        install: Brings the package.
        missing: Given the package, tells what else to do; empty where it is complete.
        score: Given the package, generated and true texts, none of them empty, returns the scores.
    """

    figures: tuple[str, ...]
    told: str
    package: str
    install: str
    missing: Callable[[Any], str]
    score: Callable[[Any, list[str], list[str]], Scores]


def model_scores(
    names: Sequence[str], generated: Sequence[str], truth: Sequence[str]
) -> tuple[dict[str, Float[ndarray, " n"]], list[str]]:
    """Compute those metrics of `MODEL_METRICS` that can be computed here.

    A pair of which one text is empty scores 0.

    Returns:
        The scores of every pair by figure; notes on what they are and on what is missing.
    """
    texts = [text.strip() for text in generated], [text.strip() for text in truth]
    full = [k for k, pair in enumerate(zip(*texts, strict=True)) if all(pair)]
    scores: dict[str, Float[ndarray, " n"]] = {}
    notes, lacks = [], []
    for name in names:
        metric = MODEL_METRICS[name]
        package, lack = _imported(metric)
        if lack:
            lacks.append(f"{name}: {lack}")
            continue
        found = metric.score(package, *([side[k] for k in full] for side in texts)) if full else []
        for number, figure in enumerate(metric.figures):
            scores[figure] = np.zeros(len(truth))
            if full:
                scores[figure][full] = found[number]
        notes.append(metric.told)
    if lacks:
        notes.append(f"not computed, as something is missing: {'; '.join(lacks)}")
        _NOTICES.once(notes[-1], notes[-1])
    return scores, notes


def _imported(metric: ModelMetric) -> tuple[Any, str]:
    """Return the package of a metric, and what is missing."""
    try:
        package = import_module(metric.package)
    except ImportError as error:
        return None, f"{metric.install} ({error})"
    return package, metric.missing(package)


def bert_scores(
    package: Any,
    generated: list[str],
    truth: list[str],
    *,
    model: str = "roberta-large",
    layer: int = 17,
) -> Scores:
    """Compute BERTScore's F1 without idf weights and without rescaling.

    Reference: Zhang et al., BERTScore (ICLR 2020), its default for English; as HSENet publishes it.
    """
    from transformers import AutoTokenizer

    scorer = package.BERTScorer(model_type=model, num_layers=layer)
    # the package asks for a space before the first word, which transformers 5 no longer hears
    scorer._tokenizer = AutoTokenizer.from_pretrained(model, add_prefix_space=True)
    return [scorer.score(generated, truth)[2].numpy()]


def _rate_scores(package: Any, generated: list[str], truth: list[str]) -> Scores:
    scorer = package.RaTEScore(use_gpu=torch.cuda.is_available())
    return [np.array(scorer.compute_score(generated, truth), dtype=np.float64)]


def _radgraph_scores(package: Any, generated: list[str], truth: list[str]) -> Scores:
    scorer = package.F1RadGraph(reward_level="all", model_type="radgraph-xl")
    return [np.array(level) for level in scorer(refs=truth, hyps=generated)[1]]


def _green_scores(package: Any, generated: list[str], truth: list[str]) -> Scores:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:  # it writes a table of its own
        scorer = package.GREEN(_GREEN, output_dir=folder)
        return [np.array(scorer(truth, generated)[2], dtype=np.float64)]


def _lacks_models(*models: str) -> Callable[[Any], str]:
    def missing(package: Any) -> str:
        from huggingface_hub import try_to_load_from_cache

        found = {model: try_to_load_from_cache(model, "config.json") for model in models}
        absent = [model for model, path in found.items() if not isinstance(path, str)]
        return " and ".join(f"hf download {model}" for model in absent)

    return missing


def _lacks_radgraph(package: Any) -> str:
    folder = Path(package.radgraph.CACHE_DIR) / "radgraph-xl"
    command = "python -c \"from radgraph import RadGraph; RadGraph(model_type='radgraph-xl')\""
    return "" if folder.is_dir() else f"fetch its model once by {command}"


def _lacks_green(package: Any) -> str:
    if not torch.cuda.is_available():
        return "its language model of 7 billion parameters needs a GPU"
    return _lacks_models(_GREEN)(package)


_GREEN = "StanfordAIMI/GREEN-radllama2-7b"
MODEL_METRICS = {
    "bertscore": ModelMetric(
        ("bertscore_f1",),
        "bertscore_f1: roberta-large, layer 17, no idf, not rescaled",
        "bert_score",
        "pip install bert-score",
        _lacks_models("roberta-large"),
        bert_scores,
    ),
    "ratescore": ModelMetric(
        ("ratescore",),
        "ratescore: RaTEScore with the defaults of its package",
        "RaTEScore",
        "pip install RaTEScore medspacy",
        _lacks_models("Angelakeke/RaTE-NER-Deberta", "FremyCompany/BioLORD-2023-C"),
        _rate_scores,
    ),
    "radgraph": ModelMetric(
        ("radgraph_simple_f1", "radgraph_partial_f1", "radgraph_complete_f1"),
        "radgraph_*_f1: of radgraph-xl; entities alone (simple), and whether they have relations "
        "(partial), and which (complete)",
        "radgraph",
        "pip install radgraph",
        _lacks_radgraph,
        _radgraph_scores,
    ),
    "green": ModelMetric(
        ("green",),
        f"green: of {_GREEN}",
        "green_score",
        "pip install git+https://github.com/Stanford-AIMI/GREEN, which needs torchvision",
        _lacks_green,
        _green_scores,
    ),
}
