"""HCL-AL: epochs and learning rates, and what samplers draw."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medvlp.data.lesion_places import PlaceVocabulary
from medvlp.data.lesion_sampling import LesionIndex, LesionTag, draw_coarse, draw_fine
from medvlp.data.lesion_table import names_of
from medvlp.data.tables import read_table
from medvlp.optim.multi_step import DrawnEpochs, MultiStep

from .registry import REPOSITORY, Case, external_folder, handles

SHARE_TOLERANCE, DUPLICATES_TOLERANCE = 0.025, 0.06
VOCABULARY = "anatomy_vocabulary_library.json"


@handles("hcl_al", "coarse_schedule")
def coarse_schedule(case: Case) -> None:
    for run in case.config["runs"]:
        samples = run["words_with_samples"] * run["word_iter_num_per_epoch"]
        epochs = DrawnEpochs(samples, run["batchsize"], run["resume_epoch"])
        schedule = MultiStep(run["milestones"], run["gamma"], drawn=epochs, compat="published")
        total = epochs.num_steps(run["epochs"])
        assert total == run["num_iterations"]
        steps = range(total)
        assert [epochs.epoch_of(step) for step in steps] == run["epoch_of_iteration"]
        rates = [run["base_lr"] * schedule(step, total) for step in steps]
        assert rates == run["lr_used_in_iteration"]
        kept = [[epochs.epoch_of(i), i] for i in steps if epochs.saves(i, run["save_epochs"])]
        assert kept == run["saved_epoch_and_iteration"]


@handles("hcl_al", "sampler_statistics")
def sampler_statistics(case: Case) -> None:
    config, rows = case.config, read_table(case.path / "rows.csv", ("coarse_gt", "fine_gt"))
    tags = [
        LesionTag(row["coarse_gt"], row["fine_gt"], tuple(names_of(row["coarse_labels"])))
        for row in rows
    ]
    vocabulary = PlaceVocabulary.read(_shared(case, "hcl_al") / VOCABULARY)
    regions = dict.fromkeys(place.body for place in vocabulary.places)
    weights = dict(zip(regions, map(float, config["region_sample_frequency"]), strict=True))
    index = LesionIndex(tags, vocabulary, weights)
    body_of = {place.coarse: place.body for place in vocabulary.places}
    size, chance = config["batch"], np.random.default_rng(0)
    per_batch, related = config["region_num_per_batch"], config["related_rate"]
    coarse = [
        draw_coarse(index, size, chance, num_regions=per_batch) for _ in range(config["batches"])
    ]
    fine = [draw_fine(index, size, chance, related=related) for _ in range(config["batches"])]
    for name, batches in (("coarse", coarse), ("fine", fine)):
        bodies = Counter(body_of[tags[i].coarse] for batch in batches for i in batch)
        _compare_shares(bodies, config[f"{name}_body_share"])
    spread = Counter(str(len({body_of[tags[i].coarse] for i in batch})) for batch in coarse)
    _compare_shares(spread, config["coarse_regions_per_batch_share"])
    unique = all(len({tags[i].coarse for i in batch}) == size for batch in coarse)
    assert unique == config["coarse_words_unique_in_batch"]
    unique = all(len({tags[i][:2] for i in batch}) == size for batch in fine)
    assert unique == config["fine_pairs_unique_in_batch"]
    twice = np.mean([size - len({tags[i].fine for i in batch}) for batch in fine])
    assert abs(twice - config["fine_duplicate_fine_words_per_batch"]) <= DUPLICATES_TOLERANCE
    if "coarse_len_formula_example" in config:
        example = config["coarse_len_formula_example"]
        epochs = DrawnEpochs(example["words"] * example["word_iter"], example["batch"])
        assert epochs.num_steps(example["epochs"] - 1) == example["len"]


def _compare_shares(counts: Counter[str], golden: Mapping[str, float]) -> None:
    for name in {*counts, *golden}:
        share = counts[name] / counts.total()
        assert abs(share - golden.get(name, 0.0)) <= SHARE_TOLERANCE, f"{name}: {share}"


def _shared(case: Case, name: str) -> Path:
    """Find a folder of the shared data, which lies beside the goldens or the repository."""
    beside = (case.path.parents[2], external_folder().parent, REPOSITORY.parent / "shared")
    folders = [folder / "data" / name for folder in beside]
    found = next((folder for folder in folders if folder.is_dir()), None)
    assert found is not None, f"no {name} in {', '.join(map(str, folders))}"
    return found
