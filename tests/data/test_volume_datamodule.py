import json
import logging
from types import SimpleNamespace

import pytest
import torch

from medvlp.data.ct_rate import LABEL_NAMES
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.manifest import Manifest, write_manifest
from medvlp.data.sampling import AllScans, EachQuestion
from medvlp.data.splits import Splits
from medvlp.data.texts import SectionTexts
from medvlp.data.token_budget import TokenBudget
from medvlp.data.volume_datamodule import ScanPolicy
from medvlp.types import VolumeBatch
from medvlp.user_errors import one_line_errors

from .conftest import CTRateTree
from .volume_batches import datamodule, epoch, text_of


def test_a_training_batch(tree: CTRateTree, recipe: CTRecipe) -> None:
    tree.write()
    module = datamodule(tree, recipe)
    batches = epoch(module)
    assert len(batches) == len(module.train_dataloader()) == 2  # five or fewer patients, in twos
    batch = batches[0]
    assert batch["image"].shape == (2, 1, 6, 8, 8) and batch["image"].dtype == torch.float32
    assert batch["num_scans"].tolist() == [1, 1]
    assert batch["text_study"].tolist() == [0, 1]
    assert batch["labels"].shape == (2, 18) and batch["recipe_hash"] == recipe.hash
    assert batch["labels"][:, LABEL_NAMES.index("Lung nodule")].tolist() == [1, 1]
    for row, statements in zip(batch["text_statements"], batch["study_statements"], strict=True):
        assert {i for i in row.tolist() if i >= 0} <= set(statements.tolist())
    assert all(text.startswith("The volume") for text in text_of(batch))


def test_splits_keep_patients_apart(tree: CTRateTree, recipe: CTRecipe) -> None:
    module = datamodule(tree.write() and tree, recipe)
    ids = {
        split: {b for batch in loader for b in batch["patient_id"]}
        for split, loader in {
            "val": module.val_dataloader(),
            "test": module.test_dataloader(),
        }.items()
    }
    train = {p for n in range(6) for batch in epoch(module, n) for p in batch["patient_id"]}
    assert ids["test"] == {"valid_1", "valid_2"}
    assert (
        not train & ids["val"]
        and ids["val"]
        and train | ids["val"] == {f"train_{n}" for n in range(1, 7)}
    )
    samples = [s for batch in module.test_dataloader() for s in batch["sample_id"]]
    assert samples == ["valid_1_a_1", "valid_1_a_2", "valid_2_a_1", "valid_2_a_2"]


def assert_equal(ours: list[VolumeBatch], theirs: list[VolumeBatch]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a["study_id"] == b["study_id"] and text_of(a) == text_of(b)
        torch.testing.assert_close(a["image"], b["image"], rtol=0, atol=0)


def test_batches_do_not_depend_on_workers_memory_or_ranks(
    tree: CTRateTree, recipe: CTRecipe
) -> None:
    tree.write()
    reference = epoch(datamodule(tree, recipe), 3)
    assert_equal(epoch(datamodule(tree, recipe, num_workers=2), 3), reference)
    assert_equal(epoch(datamodule(tree, recipe, in_memory=True), 3), reference)
    for rank in range(2):
        module = datamodule(tree, recipe)
        module.trainer = SimpleNamespace(global_rank=rank, world_size=2)  # type: ignore[assignment]
        for ours, whole in zip(epoch(module, 3), reference, strict=True):
            assert ours["study_id"] == whole["study_id"][rank : rank + 1]
            torch.testing.assert_close(ours["image"], whole["image"][rank : rank + 1])
    module = datamodule(tree, recipe)
    orders = {tuple(i for batch in epoch(module, n) for i in batch["study_id"]) for n in range(6)}
    assert len(orders) > 2


def test_ragged_studies_are_packed(tree: CTRateTree, recipe: CTRecipe) -> None:
    tree.add("train", "train_1_a_3.nii.gz", 1)
    tree.write()
    policy = ScanPolicy(AllScans(), AllScans(), augment=[lambda image, generator: image + 1])
    module = datamodule(tree, recipe, scans=policy, splits=Splits(0.0, predict="all"), batch_size=8)
    (batch,) = module.predict_dataloader()
    assert batch["num_scans"].tolist() == [3, 2, 2, 2, 2, 2, 2, 2]
    assert batch["image"].shape[0] == 17 and len(batch["sample_id"]) == 8


def test_a_test_over_all_studies(tree: CTRateTree, recipe: CTRecipe) -> None:
    tree.write()
    ids = {}
    for split in ("test", "train", "all"):
        module = datamodule(tree, recipe, splits=Splits(0.0, test=split), batch_size=4)
        ids[split] = {name for batch in module.test_dataloader() for name in batch["study_id"]}
    assert ids["test"].isdisjoint(ids["train"]) and ids["all"] == ids["test"] | ids["train"]
    with pytest.raises(ValueError, match="test is 'every', expected one of"):
        Splits(test="every")


def test_a_budget_counts_the_scans_of_ragged_studies(tree: CTRateTree, recipe: CTRecipe) -> None:
    tree.add("train", "train_1_a_3.nii.gz", 1)
    tree.write()
    module = datamodule(
        tree,
        recipe,
        scans=ScanPolicy(AllScans(), AllScans()),
        splits=Splits(0.0, predict="all"),
        batch_size=8,
        batching=TokenBudget(5),
    )
    counts = [batch["num_scans"].tolist() for batch in module.predict_dataloader()]
    assert counts == [[3, 2], [2, 2], [2, 2], [2, 2]]
    assert len(epoch(module)) == 2  # 13 scans fill two batches of five
    module.batching = TokenBudget(2)
    with pytest.raises(ValueError, match="a sample has 3 tokens"):
        module.train_dataloader()


def test_samples_about_questions_carry_them(tree: CTRateTree, recipe: CTRecipe) -> None:
    module = datamodule(tree.write() and tree, recipe)
    asked = {"answer": "yes", "kind": "presence", "choices": ["yes", "no"], "subject": ""}
    questions = [{"question": f"Number {n}?", **asked} for n in range(3)]
    rows = [row | {"questions": []} for row in Manifest(module.folder)]
    next(row for row in rows if row["split"] == "test")["questions"] = questions
    dataset = json.loads((module.folder / "dataset.json").read_text())
    write_manifest(module.folder, rows, dataset)
    module = datamodule(tree, recipe, scans=ScanPolicy(evaluation=EachQuestion()), batch_size=2)
    batches = list(module.test_dataloader())
    assert [row for batch in batches for row in batch["target"]] == questions
    assert [len(batch["image"]) for batch in batches] == [2, 1]


def test_metadata_come_with_every_sample(tree: CTRateTree, recipe: CTRecipe) -> None:
    module = datamodule(tree.write() and tree, recipe)
    (batch, _) = module.test_dataloader()
    assert batch["metadata"] == [{"sex": "F", "age": "36", "manufacturer": "Maker"}] * 2


def test_an_epoch_goes_on_after_a_restart(tree: CTRateTree, recipe: CTRecipe) -> None:
    tree.write()
    reference = epoch(datamodule(tree, recipe, batch_size=1), 2)
    loader = datamodule(tree, recipe, batch_size=1, num_workers=1).train_dataloader()
    loader.sampler.set_epoch(2)
    batches = iter(loader)
    assert_equal([next(batches), next(batches)], reference[:2])
    resumed = datamodule(tree, recipe, batch_size=1).train_dataloader()
    resumed.load_state_dict(loader.state_dict())
    assert_equal(list(resumed), reference[2:])


def test_augmentation_is_for_training_only(tree: CTRateTree, recipe: CTRecipe) -> None:
    tree.write()
    plain = datamodule(tree, recipe)
    policy = ScanPolicy(augment=[lambda image, generator: image + generator.random()])
    moved = datamodule(tree, recipe, scans=policy)
    assert (epoch(moved)[0]["image"] - epoch(plain)[0]["image"]).abs().min() > 0
    ours, theirs = (next(iter(module.val_dataloader())) for module in (moved, plain))
    torch.testing.assert_close(ours["image"], theirs["image"])


def test_sections_that_something_stands_in_for_are_counted(
    tree: CTRateTree, recipe: CTRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    for row in tree.reports["train"][:2]:
        row |= {"Impressions_EN": ""}
    tree.write()
    with caplog.at_level(logging.WARNING):
        module = datamodule(tree, recipe, splits=Splits(0.0), texts=SectionTexts())
    assert "1 of 6 training studies have no section 'impression'" in caplog.text
    batch = epoch(module)[0]
    assert batch["text_kind"].tolist() == [3, 1, 3, 1]
    assert batch["text_study"].tolist() == [0, 0, 1, 1]


def test_studies_without_text_are_for_evaluation_only(
    tree: CTRateTree, recipe: CTRecipe, caplog: pytest.LogCaptureFixture
) -> None:
    for row in tree.reports["train"][:2] + tree.reports["valid"][:2]:
        row |= {"Findings_EN": "", "Impressions_EN": ""}
    tree.write()
    with caplog.at_level(logging.WARNING):
        module = datamodule(tree, recipe, splits=Splits(0.0), batch_size=1)
    assert "1 of 6 training studies have no text and are left out: train_1_a" in caplog.text
    assert "train_1_a" not in {batch["study_id"][0] for batch in epoch(module)}
    tested = {batch["study_id"][0]: batch for batch in module.test_dataloader()}
    assert set(tested) == {"valid_1_a", "valid_2_a"}
    assert "tokens" not in tested["valid_1_a"] and "tokens" in tested["valid_2_a"]
    module.batch_size = 4
    (together,) = module.test_dataloader()  # two reconstructions of each
    assert together["text_study"].tolist() == [2, 3]


def test_another_recipe_source_or_label_is_noticed(tree: CTRateTree, recipe: CTRecipe) -> None:
    module = datamodule(tree.write() and tree, recipe)
    dataset = module.folder / "dataset.json"
    text = dataset.read_text()
    dataset.write_text(text.replace('"mean": 0.449', '"mean": 0.5'))
    with pytest.raises(ValueError, match=r"recipes differ.*\n.*\n(.*\n)*mean <-- differs"):
        module.setup()
    dataset.write_text(text)
    module.source.label_names = (*LABEL_NAMES, "Cardiomegali")
    with pytest.raises(ValueError, match="no label 'Cardiomegali'; did you mean 'Cardiomegaly'"):
        module.setup()


def test_a_lost_volume_is_told_of_in_one_line(tree: CTRateTree, recipe: CTRecipe) -> None:
    module = datamodule(tree.write() and tree, recipe, num_workers=1)
    Manifest(module.folder).cache.path_of("valid_1_a_2").unlink()
    expected = r"^medvlp: image of valid_1_a_2 is not in the cache [^\n]*medvlp\.prepare$"
    with pytest.raises(SystemExit, match=expected), one_line_errors():
        list(module.test_dataloader())


def test_num_scans_stays_on_the_host(tree: CTRateTree, recipe: CTRecipe) -> None:
    module = datamodule(tree.write() and tree, recipe)
    moved = module.transfer_batch_to_device(epoch(module)[0], torch.device("meta"), 0)
    assert moved["num_scans"].device.type == "cpu"
    assert moved["image"].is_meta and moved["tokens"].attention_mask.is_meta
    assert isinstance(moved["study_id"], list)
