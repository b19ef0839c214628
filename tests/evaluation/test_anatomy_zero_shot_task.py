import pytest
import torch
from torch.nn import functional as F

from medvlp.evaluation.anatomy_zero_shot_task import AnatomyZeroShot
from medvlp.evaluation.report import to_text
from medvlp.prompts.prompt_set import PromptSet

from .test_zero_shot import WIDTH, HashTokenizer, embed_text

ORGANS = ["aorta", "heart", "lung", "esophagus"]
PROMPTS = PromptSet.load("fvlm")
NAMES = PROMPTS.class_names
NUMBERS = [ORGANS.index(entry.organ) for entry in PROMPTS.classes]
ABSENT = {2: "esophagus", 5: "esophagus", 7: "heart"}


def evaluation(**changes) -> AnatomyZeroShot:
    options = {"label_names": NAMES, "organs": ORGANS, "num_resamples": 20}
    return AnatomyZeroShot("fvlm", HashTokenizer(), **(options | changes))


def studies(num_samples: int = 30, absent: dict = ABSENT):
    """Each organ's embedding points to the prompts that are true of it; some organs are absent."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(num_samples, len(NAMES), generator=generator) < 0.4).long()
    embedding = 0.3 * torch.randn(num_samples, len(ORGANS), WIDTH, generator=generator)
    for k, organ in enumerate(NUMBERS):
        embedding[torch.arange(num_samples), organ, 2 * k + labels[:, k]] += 1
    embedding = F.normalize(embedding, dim=-1)
    for row, organ in absent.items():
        embedding[row, ORGANS.index(organ)] = torch.nan
    batch = {
        "image": torch.zeros(num_samples, 1, 1, 1, 1),
        "num_scans": torch.ones(num_samples, dtype=torch.long),
        "study_id": [f"study{k}" for k in range(num_samples)],
        "sample_id": [f"sample{k:03}" for k in range(num_samples)],
        "patient_id": [f"patient{k // 2}" for k in range(num_samples)],
        "recipe_hash": "recipe",
        "labels": labels,
    }
    return embedding, batch


def rows(measure: AnatomyZeroShot, embedding=None) -> list:
    found, batch = studies()
    measure.reset()
    measure.prepare(embed_text, torch.tensor([2.0]), torch.device("cpu"))
    measure.update(found if embedding is None else embedding, batch)
    return measure.rows()


def test_a_finding_is_looked_for_in_its_organ_and_a_study_without_it_takes_no_part():
    measure = evaluation()
    found = rows(measure)
    results = measure.compute(found)
    known = {finding.name: finding.num_known for finding in results.findings}
    expected = {
        entry.name: 30 - list(ABSENT.values()).count(entry.organ) for entry in PROMPTS.classes
    }
    assert known == expected
    assert results.metrics()["auroc_macro"] > 0.9
    assert results.notes == [
        "heart: absent in 1 of 30 samples, which are not scored for Cardiomegaly, Pericardial "
        "effusion, Coronary artery wall calcification",
        "esophagus: absent in 2 of 30 samples, which are not scored for Hiatal hernia",
    ]
    assert "esophagus: absent in 2 of 30" in " ".join(to_text(results).split())
    others = [row for row in found if not row["absent"][NAMES.index("Hiatal hernia")]]
    of_hernia = [
        {f.name: f for f in part.findings}["Hiatal hernia"].figures["auroc"].value
        for part in (results, measure.compute(others))
    ]
    assert of_hernia[0] == of_hernia[1]


def test_published_figures_count_an_absent_organ_as_probability_zero():
    measure = evaluation(compat="published")
    found = rows(measure)
    hernia = NAMES.index("Hiatal hernia")
    assert [row["scores"][hernia] for row in found if row["absent"][hernia]] == [0.0, 0.0]
    results = measure.compute(found)
    assert {finding.num_known for finding in results.findings} == {30}
    assert "esophagus: absent in 2 of 30 samples, which are probability 0" in results.notes[1]


def test_a_finding_whose_organ_no_study_shows_is_skipped_by_name():
    embedding, _ = studies()
    embedding[:, ORGANS.index("aorta")] = torch.nan
    measure = evaluation()
    results = measure.compute(rows(measure, embedding))
    assert results.skipped == {"Arterial wall calcification": "no labelled sample has a score"}
    with pytest.raises(ValueError, match="none of 30 studies shows any of aorta, heart"):
        measure.compute(rows(measure, torch.full_like(embedding, torch.nan)))


def test_other_embeddings_unknown_organs_and_broken_prompts_are_refused():
    embedding, _ = studies()
    measure = evaluation()
    with pytest.raises(ValueError, match=r"takes \(studies, 4 organs, width\)"):
        rows(measure, embedding[:, :3])
    with pytest.raises(ValueError, match="ask for esophagus, the model knows lung, heart, aorta"):
        evaluation(organs=["lung", "heart", "aorta"])
    measure.prepare(lambda tokens: embed_text(tokens) * torch.nan, torch.ones(1), embedding.device)
    measure.update(*studies())
    with pytest.raises(ValueError, match="scores that are not finite"):
        measure.compute(measure.rows())


def test_a_finding_of_all_organs_is_looked_for_in_the_mean_of_those_shown():
    prompts = "fvlm_ct_rate_18"
    names = PromptSet.load(prompts).class_names
    measure = AnatomyZeroShot(prompts, HashTokenizer(), label_names=names, organs=ORGANS)
    measure.prepare(embed_text, torch.zeros(1), torch.device("cpu"))
    embedding = torch.full((2, 4, WIDTH), torch.nan)
    embedding[0, :2] = torch.eye(WIDTH)[[32, 33]]  # the prompts of Medical material
    embedding[1, 3] = torch.eye(WIDTH)[33]
    batch = studies(2, {})[1]
    measure.update(embedding, {key: value for key, value in batch.items() if key != "labels"})
    scores = [row["scores"][16] for row in measure.rows()]
    assert scores == pytest.approx([0.5, 1 / (1 + 2.718281828**-1)])


@pytest.mark.parametrize("name", ["fvlm_ct_rate_18", "fvlm_rad_chestct"])
def test_further_prompt_sets_ask_as_the_published_one(name):
    prompts = PromptSet.load(name)
    shared = [finding for finding in NAMES if finding in prompts.class_names]
    for finding in shared:
        assert prompts.texts(finding, "organ") == PROMPTS.texts(finding, "organ")
    others = set(NAMES) ^ set(prompts.class_names)
    assert len(others) == {"fvlm_ct_rate_18": 2, "fvlm_rad_chestct": 1}[name]
    assert len(prompts.scored_names) == {"fvlm_ct_rate_18": 18, "fvlm_rad_chestct": 14}[name]
