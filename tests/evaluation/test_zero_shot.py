import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medvlp.data import rad_chestct
from medvlp.evaluation.plots import write_plots
from medvlp.evaluation.prompt_evaluation import class_embeddings
from medvlp.evaluation.protocol import Evaluation
from medvlp.evaluation.published import hlip_layout
from medvlp.evaluation.report import to_text
from medvlp.evaluation.zero_shot import ZeroShotClassification, pair_probabilities
from medvlp.prompts.prompt_set import PromptSet
from medvlp.types import Tokens

WIDTH = 40
NAMES = PromptSet.load("phantom_ct_rate").class_names
LABEL_NAMES = [*reversed(NAMES), "Another label"]


class HashTokenizer:
    """One token: a number that stands for the text."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def __call__(self, texts: list[str]) -> Tokens:
        ids = [self.texts.setdefault(text, len(self.texts)) for text in texts]
        return Tokens(torch.tensor(ids)[:, None], torch.ones(len(ids), 1, dtype=torch.bool))


def embed_text(tokens: Tokens) -> torch.Tensor:
    """Text n points along axis n."""
    return F.one_hot(tokens.input_ids[:, 0], WIDTH).float()


def evaluation(**changes) -> ZeroShotClassification:
    options = {"label_names": LABEL_NAMES, "num_resamples": 20}
    return ZeroShotClassification("phantom_ct_rate", HashTokenizer(), **(options | changes))


def batches(num_samples: int = 24, batch_size: int = 5):
    """Studies whose embedding points to the prompt that is true, with noise."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(num_samples, len(NAMES), generator=generator) < 0.4).long()
    axes = 2 * torch.arange(len(NAMES)) + labels
    embedding = torch.zeros(num_samples, WIDTH).scatter_(1, axes, 1.0)
    embedding += 0.6 * torch.randn(embedding.shape, generator=generator)
    extra = torch.zeros(num_samples, 1, dtype=torch.long)
    columns = torch.cat([labels.flip(1), extra], dim=1)
    for start in range(0, num_samples, batch_size):
        rows = range(start, min(start + batch_size, num_samples))
        yield (
            F.normalize(embedding[rows.start : rows.stop], dim=-1),
            {
                "image": torch.zeros(len(rows), 1, 1, 1, 1),
                "num_scans": torch.ones(len(rows), dtype=torch.long),
                "study_id": [f"study{k}" for k in rows],
                "sample_id": [f"sample{k:03}" for k in rows],
                "patient_id": [f"patient{k // 2}" for k in rows],
                "recipe_hash": "recipe",
                "labels": columns[rows.start : rows.stop],
            },
        )


def run(measure: ZeroShotClassification, **options):
    measure.reset()
    measure.prepare(embed_text, torch.tensor([2.0]), torch.device("cpu"))
    for embedding, batch in batches(**options):
        measure.update(embedding, batch)
    return measure.compute(measure.rows())


def test_the_class_is_an_evaluation():
    measure: Evaluation = evaluation()
    assert run(measure).num_samples == 24  # pyright: ignore[reportArgumentType]


def test_informative_embeddings_score_high_and_labels_are_matched_by_name():
    results = run(evaluation())
    assert [finding.name for finding in results.findings] == NAMES
    assert results.metrics()["auroc_macro"] > 0.8
    assert results.protocol == "zero_shot/phantom_ct_rate/volume"
    assert (results.num_samples, results.num_patients) == (24, 12)
    assert results.recipe_hash == "recipe"
    assert results.prompt_hash == PromptSet.load("phantom_ct_rate").hash


def test_subgroups_come_from_the_metadata_of_the_batches():
    measure = evaluation()
    measure.prepare(embed_text, torch.tensor([2.0]), torch.device("cpu"))
    for embedding, batch in batches():
        places = [int(name.removeprefix("sample")) for name in batch["sample_id"]]
        metadata = [{"sex": "FM"[place % 2], "age": str(20 + place)} for place in places]
        measure.update(embedding, {**batch, "metadata": metadata})
    found = measure.compute(measure.rows()).subgroups
    assert [(group.attribute, group.value, group.num_samples) for group in found] == [
        ("age", "18-39", 20),
        ("sex", "F", 12),
        ("sex", "M", 12),
    ]


def test_batch_size_order_and_repeated_samples_change_nothing():
    reference = run(evaluation())
    assert run(evaluation(), batch_size=1).to_dict() == reference.to_dict()
    measure = evaluation()
    run(measure)
    rows = measure.rows()
    padded = measure.compute([*reversed(rows), *rows[:3]])
    assert padded.duplicates_dropped == 3
    assert padded.findings == reference.findings
    assert padded.macros == reference.macros


def test_unknown_labels_are_left_out_of_their_finding_only():
    measure = evaluation()
    reference = run(measure)
    rows = measure.rows()
    rows[0]["labels"] = [-1, *rows[0]["labels"][1:]]
    results = measure.compute(rows)
    assert results.findings[0].num_known == 23
    assert results.findings[1:] == reference.findings[1:]


def test_constant_labels_are_skipped_by_name():
    measure = evaluation()
    run(measure)
    rows = measure.rows()
    for row in rows:
        row["labels"] = [0, 1, -1, *row["labels"][3:]]
    results = measure.compute(rows)
    assert results.skipped == {
        NAMES[0]: "no positives",
        NAMES[1]: "only positives",
        NAMES[2]: "no known label",
    }
    assert len(results.findings) == 15
    assert set(results.macros[0].findings) == set(NAMES[3:])


def test_nothing_to_score_gives_nan_metrics_under_the_usual_names():
    measure = evaluation()
    run(measure)
    rows = [row | {"labels": [1] * 18} for row in measure.rows()]
    metrics = measure.compute(rows).metrics()
    assert np.isnan(metrics["auroc_macro"]) and np.isnan(metrics["auroc_macro_large"])


def test_a_batch_without_labels_is_scored_but_not_judged():
    measure = evaluation()
    measure.prepare(embed_text, torch.tensor([2.0]), CPU)
    for embedding, batch in batches(num_samples=5):
        measure.update(embedding, {key: batch[key] for key in batch if key != "labels"})
    rows = measure.rows()
    assert len(rows) == 5 and len(rows[0]["scores"]) == 18
    with pytest.raises(ValueError, match="none of 5 samples has a known label"):
        measure.compute(rows)


def test_a_tie_is_negative():
    probability = pair_probabilities(torch.full((1, 1, 2), 0.3), 40.0)
    measure = evaluation()
    measure.prepare(lambda tokens: torch.ones(len(tokens.input_ids), WIDTH), torch.zeros(1), CPU)
    embedding, batch = next(batches())
    measure.update(embedding, batch)
    assert probability.tolist() == [[[0.5, 0.5]]]
    assert not any(any(row["decisions"]) for row in measure.rows())


CPU = torch.device("cpu")


def test_probability_by_hand():
    cosine = torch.tensor([[[0.1, 0.3]]])
    probability = pair_probabilities(cosine, torch.tensor([10.0]))
    assert probability[0, 0, 1].item() == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_ensemble_is_the_normalised_mean_of_normalised_templates():
    vectors = torch.tensor([[3.0, 0.0], [0.0, 2.0], [5.0, 0.0]])

    def embed(tokens: Tokens) -> torch.Tensor:
        return vectors[tokens.input_ids[:, 0]]

    classes = class_embeddings([["a", "b"], ["c"]], HashTokenizer(), embed, CPU)
    half = 2**-0.5
    torch.testing.assert_close(classes, torch.tensor([[half, half], [1.0, 0.0]]))


def test_a_cosine_is_ranked_but_neither_decided_nor_calibrated(tmp_path):
    pairs = run(evaluation())
    measure = evaluation(score="cosine")
    run(measure)
    assert len(measure.tokenizer.texts) == len(NAMES)  # the negative prompts are not encoded
    rows = measure.rows()
    for row in rows:
        row["scores"] = [score - 0.5 for score in row["scores"]]  # a cosine may be negative
    results = measure.compute(rows)
    figures = results.findings[0].figures
    assert results.score_rule == "cosine"
    assert 0 <= figures["auroc"].value <= 1 and not np.isnan(figures["* recall"].value)
    assert all(np.isnan(figures[name].value) for name in ("ece", "brier", "recall"))
    assert "no calibration" in to_text(results)
    assert {path.stem for path in write_plots(results, tmp_path)} == {"roc", "findings"}
    assert hlip_layout(results)["* mean"]["mean auc"] == results.metrics()["auroc_macro"]
    path = pairs.to_json(tmp_path / "results.json")
    with pytest.raises(ValueError, match="by the rule 'pair', this evaluation scores by 'cosine'"):
        evaluation(score="cosine", thresholds_from=str(path))


def test_a_class_may_have_several_label_columns():
    names = list(rad_chestct.CLASSES)
    measure = ZeroShotClassification(
        "rad_chestct_positive",
        HashTokenizer(),
        label_names=names,
        template="ensemble",
        score="cosine",
        num_resamples=5,
    )
    assert measure.class_names[-1] == "Calcification" and len(measure.class_names) == 14
    measure.prepare(lambda tokens: torch.rand(len(tokens.input_ids), WIDTH), torch.zeros(1), CPU)
    embedding, batch = next(batches())
    labels = torch.zeros(5, len(names), dtype=torch.long)
    labels[0, names.index("Arterial wall calcification")] = 1
    labels[1, names.index("Coronary artery wall calcification")] = 1
    measure.update(embedding, batch | {"labels": labels})
    assert [row["labels"][-1] for row in measure.rows()] == [1, 1, 0, 0, 0]


def test_thresholds_of_a_validation_run_are_used_and_named(tmp_path):
    path = run(evaluation()).to_json(tmp_path / "results.json")
    results = run(evaluation(thresholds_from=str(path)), num_samples=20)
    assert results.threshold_rule == "closest_corner_validation (n = 24)"
    assert [f.threshold for f in results.findings] == [
        f.threshold for f in run(evaluation()).findings
    ]


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="no such label"):
        evaluation(label_names=NAMES[1:])
    with pytest.raises(ValueError, match="did you mean volume"):
        evaluation(template="volum")
    measure = evaluation()
    embedding, batch = next(batches())
    with pytest.raises(RuntimeError, match="call prepare"):
        measure.update(embedding, batch)
    measure.prepare(embed_text, torch.zeros(1), CPU)
    with pytest.raises(ValueError, match="has 3 labels, 19 are expected"):
        measure.update(embedding, batch | {"labels": batch["labels"][:, :3]})
    with pytest.raises(ValueError, match="no samples were scored"):
        measure.compute([])
    measure.update(embedding * torch.nan, batch)
    with pytest.raises(ValueError, match="5 of 5 samples have scores that are not finite"):
        measure.compute(measure.rows())
    measure.reset()
    measure.update(embedding, batch)
    measure.update(embedding, batch | {"recipe_hash": "x", "sample_id": list("abcde")})
    with pytest.raises(ValueError, match="2 different recipes"):
        measure.compute(measure.rows())
