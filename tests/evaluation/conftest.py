import numpy as np
import pytest

from medvlp.evaluation.classification import ClassificationProtocol, classification_results
from medvlp.evaluation.score_table import ScoreTable
from medvlp.prompts.prompt_set import PromptSet


def make_table(num_samples: int = 60, seed: int = 0, **changes) -> ScoreTable:
    """Scores of the 18 phantom findings that grow a little with the label."""
    rng = np.random.default_rng(seed)
    names = PromptSet.load("phantom_ct_rate").class_names
    labels = (rng.random((num_samples, len(names))) < 0.3).astype(np.int64)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    columns = {
        "class_names": names,
        "sample_ids": [f"s{k:03}" for k in range(num_samples)],
        "patient_ids": [f"p{k // 2}" for k in range(num_samples)],
        "scores": scores,
        "decisions": scores > 0.5,
        "labels": labels,
        "metadata": [{"sex": "FM"[k % 2]} for k in range(num_samples)],
        "recipe_hash": "r",
    }
    return ScoreTable(**(columns | changes))


def make_protocol(**changes) -> ClassificationProtocol:
    prompts = PromptSet.load("phantom_ct_rate")
    fields = {
        "name": "zero_shot/phantom_ct_rate/volume",
        "prompt_hash": prompts.hash,
        "groups": prompts.macro_groups(),
        "tiers": {entry.name: entry.tier for entry in prompts.classes},
        "num_resamples": 50,
    }
    return ClassificationProtocol(**(fields | changes))


@pytest.fixture
def results():
    table = make_table()
    labels = table.labels.copy()
    labels[:, 1] = 0
    return classification_results(make_table(labels=labels), make_protocol())
