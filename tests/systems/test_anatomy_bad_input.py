"""Bad masks and reports of organs, from the files to the step of a training."""

import csv
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medvlp.data.anatomy_mask import AnatomyMask
from medvlp.data.anatomy_recipe import AnatomyRecipe
from medvlp.data.engine import LocalEngine, PreparationError
from medvlp.data.folder import Folder
from medvlp.data.manifest import Manifest
from medvlp.data.organ_texts import OrganCaptionSampler
from medvlp.data.preparation import prepare_dataset
from medvlp.data.sampling import RandomScan
from medvlp.data.scan_policy import ScanPolicy
from medvlp.data.splits import Splits
from medvlp.data.volume_datamodule import VolumeDataModule
from medvlp.types import Tokens
from tests.systems.anatomy_tiny import ORGANS, make_model, make_system
from tests.systems.tiny import Record, fit, make_trainer

SHAPE = (16, 14, 10)  # x, y, z
AFFINE = np.array([[-1.0, 0, 0, 7], [0, -1, 0, 6], [0, 0, 2, -9], [0, 0, 0, 1]])
SIZE = (12, 16, 16)
LABELS = {"lung": [10, 11], "heart": [51], "aorta": [52]}
ABNORMAL = "There is a nodule in the lung. Heart size is increased. Aortic calcification."
NORMAL = "The lungs are clear. The heart is of normal size. The aorta is normal."


def labels() -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[3:7, 4:8, 3:7], found[8:12, 4:8, 3:6], found[8:11, 9:12, 2:8] = 10, 51, 52
    return found


def flipped() -> tuple[np.ndarray, np.ndarray]:
    """The same voxels in the world, stored from the other end of every axis."""
    turn = np.diag([-1.0, -1, -1, 1])
    turn[:3, 3] = np.array(SHAPE) - 1
    return labels()[::-1, ::-1, ::-1], AFFINE @ turn


def finer() -> tuple[np.ndarray, np.ndarray]:
    half = np.diag([0.5, 0.5, 0.5, 1.0])
    half[:3, 3] = -0.25
    return labels().repeat(2, 0).repeat(2, 1).repeat(2, 2), AFFINE @ half


def moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[2, 3] += mm
    return affine


SOUND = {
    "sound": (labels(), AFFINE),
    "flipped": flipped(),
    "finer": finer(),
    "no_aorta": (np.where(labels() == 52, 0, labels()), AFFINE),
}
BAD = {
    "no_mask": (None, "the recipe needs anatomy_mask beside the scan"),
    "moved": ((labels(), moved(40)), "begins 40.0 mm away from it: one origin is wrong"),
    "elsewhere": ((labels()[:12], moved(900)), "no anatomy of the mask lies inside the image"),
    "other_labels": ((labels() % 7, AFFINE), "has none of lung, heart, aorta"),
    "fractions": ((labels() * np.float32(0.3), AFFINE), "expected labels: whole numbers"),
}


def write(folder: Path, masks: dict, findings: dict[str, str] | None = None) -> Folder:
    """Write a folder with a study for each mask; None leaves the mask out."""
    folder.mkdir()
    rows = []
    for number, (name, mask) in enumerate(masks.items()):
        array = np.full(SHAPE, -1000.0)
        body = array[1:-1, 2:-2]
        body[...] = 40 + np.random.default_rng(number).normal(0, 20, body.shape)
        nib.save(nib.Nifti1Image(array.astype(np.int16), AFFINE), folder / f"{name}.nii.gz")
        if mask is not None:
            nib.save(nib.Nifti1Image(*mask), folder / f"{name}_mask.nii.gz")
        text = (findings or {}).get(name, ABNORMAL if number % 2 else NORMAL)
        cell = "" if mask is None else f"{name}_mask.nii.gz"
        rows.append([name, f"{name}.nii.gz", cell, "train", text])
    with (folder / "studies.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["study_id", "path", "anatomy_mask", "split", "findings"], *rows]
        )
    return Folder(str(folder / "studies.csv"), str(folder), text_columns={"findings": "findings"})


def tokenizer(texts: Sequence[str]) -> Tokens:
    ids = [[1 + len(word) for word in f"{text} . . .".split()[:4]] for text in texts]
    return Tokens(torch.tensor(ids), torch.ones(len(texts), 4, dtype=torch.bool))


def prepared(source: Folder, batch_size: int, share: float = 0.05) -> VolumeDataModule:
    mask, cache = AnatomyMask(LABELS), source.root.parent / "cache"
    recipe = AnatomyRecipe(SIZE, (2.0, 1.0, 1.0), window_hu=(-1000.0, 200.0), mask=mask)
    engine = LocalEngine(1)
    prepare_dataset(source, recipe, cache_dir=cache, engine=engine, max_quarantine_share=share)
    data = VolumeDataModule(
        source,
        recipe,
        cache_dir=str(cache),
        tokenizer=tokenizer,
        texts=OrganCaptionSampler(ORGANS),
        scans=ScanPolicy(RandomScan(), RandomScan()),
        splits=Splits(0.0),
        batch_size=batch_size,
    )
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> VolumeDataModule:
    """Sound and bad masks in one data set; as many may be bad, and the rest goes on."""
    folder = tmp_path_factory.mktemp("mixed")
    more = {f"more{number}": SOUND["sound"] for number in range(4)}
    masks = SOUND | more | {name: mask for name, (mask, _) in BAD.items()}
    source = write(folder / "raw", masks, {"sound": "", "no_aorta": "The lungs are clear."})
    return prepared(source, len(SOUND) + len(more) - 1, share=0.5)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_mask_is_named_with_its_reason(mixed: VolumeDataModule, name: str) -> None:
    with (mixed.folder / "quarantine.csv").open(newline="") as file:
        reasons = {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)}
    assert BAD[name][1] in reasons[f"{name}.nii.gz"]
    assert f"{name}.nii.gz" not in {row["study_id"] for row in Manifest(mixed.folder)}


def test_a_mask_of_another_grid_or_orientation_comes_out_the_same(mixed: VolumeDataModule) -> None:
    rows = {row["study_id"]: row["scans"][0] for row in Manifest(mixed.folder)}
    read = Manifest(mixed.folder).cache.read
    sound = read(rows["sound"]["scan_id"], field="anatomy_mask")
    assert set(np.unique(sound)) == {0, 1, 2, 3}
    for name in ("flipped", "finer"):
        assert np.array_equal(read(rows[name]["scan_id"], field="anatomy_mask"), sound)
    assert rows["no_aorta"]["anatomy_voxels"]["aorta"] == 0


def test_an_organ_without_voxels_or_sentence_leaves_the_others_to_learn(
    mixed: VolumeDataModule,
) -> None:
    (batch,) = mixed.train_dataloader()
    rows = {study: row for row, study in enumerate(batch["study_id"])}
    system = make_system(window=SIZE)
    embedding = system.eval()._embed(batch)
    absent = embedding.isnan().any(-1)
    assert absent.nonzero().tolist() == [[rows["no_aorta"], ORGANS.index("aorta")]]
    told = {
        (batch["study_id"][study], ORGANS[organ]): normal
        for study, organ, normal in zip(
            batch["text_study"].tolist(),
            batch["text_organ"].tolist(),
            batch["text_normal"].tolist(),
            strict=True,
        )
    }
    assert told["no_aorta", "heart"] and not told["flipped", "heart"]
    assert "sound" not in rows  # its report is empty
    record = Record()
    fit(make_trainer(callbacks=[record]), system.train(), [batch])
    assert np.isfinite(record.losses).all() and record.losses[0] > 0


def test_a_report_that_contradicts_itself_is_told_and_taken_for_abnormal() -> None:
    sampler = OrganCaptionSampler(ORGANS)
    sections = {"findings": "The lungs are clear.", "impression": "Nodule in the right lung."}
    assert "lung" in sampler.decomposed(sections).contradictions
    lung = sampler(sections, np.random.default_rng(0))[0]
    assert not lung.normal and "Nodule" in lung.text and "clear" in lung.text


def test_a_batch_of_normal_patients_gives_a_loss_of_zero_with_a_gradient(tmp_path: Path) -> None:
    masks = dict.fromkeys("abcd", SOUND["sound"])
    data = prepared(write(tmp_path / "raw", masks, dict.fromkeys(masks, NORMAL)), 4)
    (batch,) = data.train_dataloader()
    assert batch["text_normal"].all()
    model = make_model()
    output = model(
        batch["image"], batch["num_scans"], batch["anatomy_mask"], batch["tokens"], intact_only=True
    )
    losses = make_system(model).loss(output, batch)
    assert set(losses) == {"total"} and losses["total"].item() == 0
    losses["total"].backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_no_mask_at_all_stops_the_preparation(tmp_path: Path) -> None:
    source = write(tmp_path / "raw", dict.fromkeys("ab"))
    with pytest.raises(PreparationError, match="2 x the recipe needs anatomy_mask beside the scan"):
        prepared(source, 2)
