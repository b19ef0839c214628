import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medvlp.evaluation.published import retrieval_layout
from medvlp.evaluation.report import to_markdown, to_text
from medvlp.evaluation.results import Results
from medvlp.evaluation.retrieval import Retrieval
from medvlp.evaluation.retrieval_metrics import matching_ranks, rank_metrics
from medvlp.types import TextKind, Tokens

CPU = torch.device("cpu")
WIDTH = 16


def embed_text(tokens: Tokens) -> torch.Tensor:
    """A text of the token k points along axis k."""
    return F.one_hot(tokens.input_ids[:, 0], WIDTH).float()


def batch_of(texts: list[int], owners: list[int], size: int, first: int = 0) -> dict:
    ids = [f"s{first + k}" for k in range(size)]
    return {
        "image": torch.zeros(size, 1, 1, 1, 1),
        "num_scans": torch.ones(size, dtype=torch.long),
        "study_id": ids,
        "sample_id": ids,
        "patient_id": ids,
        "recipe_hash": "recipe",
        "tokens": Tokens(torch.tensor(texts)[:, None], torch.ones(len(texts), 1, dtype=torch.bool)),
        "text_study": torch.tensor(owners),
        "text_kind": torch.full((len(texts),), int(TextKind.REPORT)),
    }


def run(measure: Retrieval, *batches: tuple[torch.Tensor, dict]) -> Results:
    measure.reset()
    measure.prepare(embed_text, torch.zeros(1), CPU)
    for embedding, batch in batches:
        measure.update(embedding, batch)
    return measure.compute(measure.rows())


def axes(*numbers: int) -> torch.Tensor:
    return F.one_hot(torch.tensor(numbers), WIDTH).float()


def test_figures_by_hand():
    # studies 0 and 1 are exchanged, 2 is found; study 3 has no text
    embedding, batch = axes(1, 0, 2, 3), batch_of([0, 1, 2], [0, 1, 2], 4)
    results = run(Retrieval(num_resamples=10), (embedding, batch))
    layout = retrieval_layout(results)
    assert results.num_samples == 3
    assert results.left_out == {"without a text": 1}
    assert layout["image_to_text_R@1"] == pytest.approx(1 / 3)
    # each of the two exchanged has one item ahead, and ties with the third before it
    assert layout["image_to_text_mean_rank"] == pytest.approx((3 + 3 + 1) / 3)
    assert layout["text_to_image_median_rank"] == 3
    assert results.metrics()["pairs_similarity"] == pytest.approx(1 / 3)
    assert "image to text" in to_text(results) and "| image_to_text |" in to_markdown(results)
    assert Results.from_dict(results.to_dict()).macros == results.macros


def test_queries_ask_their_own_pool_alone():
    embedding, batch = axes(1, 0, 3, 2), batch_of([0, 1, 2, 3], [0, 1, 2, 3], 4)
    results = run(Retrieval(cutoffs=[1, 2], pools=[3, 4], num_resamples=10), (embedding, batch))
    figures = {macro.name: macro.figures for macro in results.macros}
    assert results.notes == ["1 pools of 3 of 4 samples", "no pools of 4: there are 4 samples"]
    assert figures["image_to_text_pool_3"]["n"].value == 3
    # one of three has lost its partner, so that all texts tie; the other two are exchanged
    assert figures["image_to_text_pool_3"]["mean_rank"].value == 3
    assert figures["text_to_image"]["mean_rank"].value == 4


def test_equal_texts_count_once_under_dedup():
    embedding, batch = axes(0, 0, 1), batch_of([0, 0, 1], [0, 1, 2], 3)
    metrics = run(Retrieval(num_resamples=10), (embedding, batch)).metrics()
    assert metrics["image_to_text_R@1"] == pytest.approx(1 / 3)  # the two cannot be told apart
    assert metrics["image_to_text_n"] == 3
    assert metrics["image_to_text_dedup_R@1"] == metrics["text_to_image_dedup_R@1"] == 1
    assert metrics["image_to_text_dedup_n"] == 2


def test_batches_order_and_repeated_samples_change_nothing():
    embedding = F.normalize(torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(0)))
    texts = [3, 1, 4, 5, 9, 2]
    whole = run(Retrieval(num_resamples=20), (embedding, batch_of(texts, list(range(6)), 6)))
    parts = [
        (embedding[k : k + 2], batch_of(texts[k : k + 2], [0, 1], 2, first=k)) for k in (4, 0, 2, 0)
    ]
    cut = run(Retrieval(num_resamples=20), *parts)
    assert cut.duplicates_dropped == 2
    assert cut.macros[:4] == whole.macros[:4]
    # published: every pair is weighed by the size of its batch
    published = {
        name: retrieval_layout(one)["clip_val_score"]
        for name, one in (("whole", whole), ("cut", cut))
    }
    similarity = whole.metrics()["pairs_similarity"]
    assert published["whole"] == pytest.approx(6 * similarity)
    assert published["cut"] == pytest.approx(2 * similarity)


def test_several_texts_are_averaged_and_kinds_are_chosen():
    batch = batch_of([0, 1, 2, 3], [0, 0, 1, 1], 2)
    batch["text_kind"] = torch.tensor([int(TextKind.FINDINGS), int(TextKind.IMPRESSION)] * 2)
    both = F.normalize(axes(0, 2) + axes(1, 3))
    assert run(Retrieval(num_resamples=5), (both, batch)).metrics()[
        "pairs_similarity"
    ] == pytest.approx(1)
    chosen = Retrieval(num_resamples=5, kinds=["IMPRESSION"])
    assert run(chosen, (axes(1, 3), batch)).metrics()["pairs_similarity"] == pytest.approx(1)


def test_ties_and_chunks(monkeypatch):
    points = torch.ones(5, 3)
    ranks = {ties: matching_ranks(points, points, ties=ties)[0].item() for ties in RULES}
    assert ranks == {"worst": 4.0, "mean": 2.0, "best": 0.0}
    queries, items = torch.randn(2, 7, 4).unbind()
    whole = matching_ranks(queries, items)
    expected = (queries @ items.T).argsort(dim=1, descending=True).argsort(dim=1).diagonal()
    assert torch.equal(whole, expected.float())
    monkeypatch.setattr("medvlp.evaluation.retrieval_metrics.QUERIES_PER_CHUNK", 3)
    assert torch.equal(matching_ranks(queries, items), whole)


RULES = ("worst", "mean", "best")


def test_resampled_median_counts_repetitions():
    ranks = np.array([0.0, 5.0, 9.0, 2.0])
    weights = np.array([[1.0, 1, 1, 1], [0, 3, 1, 0], [2, 0, 0, 2]])
    expected = [np.floor(np.median(np.repeat(ranks, w.astype(int)))) + 1 for w in weights]
    assert rank_metrics(ranks, weights)["median_rank"].tolist() == expected


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="no kind of text SUMMARY; choose among REPORT"):
        Retrieval(kinds=["SUMMARY"])
    measure, batch = Retrieval(num_resamples=5), batch_of([0, 1], [0, 1], 2)
    with pytest.raises(RuntimeError, match="call prepare"):
        measure.update(axes(0, 1), batch)
    with pytest.raises(ValueError, match="none of 2 samples counts, all are without a text"):
        run(measure, (axes(0, 1), {key: batch[key] for key in batch if key != "tokens"}))
    with pytest.raises(ValueError, match="2 of 2 samples have scores that are not finite"):
        run(measure, (axes(0, 1) * torch.nan, batch))
