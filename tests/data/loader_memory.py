"""Goes through a large manifest with several workers and prints the memory of all processes.

    python -m tests.data.loader_memory ROWS WORKERS EPOCHS FOLDER

One JSON object per epoch on standard output: the resident MB of this process and its workers
together. A process of its own, so that nothing else that a test session holds counts.
"""

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.engine import LocalEngine
from medvlp.data.manifest import dataset_folder, write_manifest
from medvlp.data.records import StudySource
from medvlp.data.texts import SentenceSampler
from medvlp.data.volume_datamodule import VolumeDataModule
from medvlp.text.tokenizers import WordPieceTokenizer

SHAPE = (8, 16, 16)
LABELS = tuple(f"Finding {number}" for number in range(18))
RECIPE = CTRecipe(SHAPE, (3.0, 1.0, 1.0), window_hu=(-1150.0, 350.0), mean=0.449, std=0.226)
WORDS = ["lung", "nodule", "effusion", "left", "right", "lobe", "stable", "small", "large", "heart"]


class Listed(StudySource):
    """A data set whose manifest is written by hand."""

    name = "listed"
    label_names = LABELS

    def studies(self) -> Any:
        """Never asked for: the manifest is there."""
        return iter(())

    def describe(self) -> dict[str, Any]:
        """Name it."""
        return {"name": self.name}


def report(generator: random.Random) -> str:
    """Make a report of fifteen sentences that hardly any other shares."""
    sentences = (" ".join(generator.choices(WORDS, k=12)).capitalize() for _ in range(15))
    return ". ".join(sentences) + "."


def write_dataset(folder: Path, num_rows: int) -> None:
    """Write studies with reports of their own; their volumes are links to one file."""
    generator = random.Random(0)
    rows = [
        {
            "study_id": f"study_{number}",
            "patient_id": f"patient_{number}",
            "split": "train",
            "scans": [{"scan_id": f"scan_{number}", "shape": list(SHAPE)}],
            "texts": {"findings": report(generator), "impression": report(generator)},
            "labels": dict.fromkeys(LABELS, number % 2),
            "metadata": {"sex": "FM"[number % 2], "age": str(number % 90)},
            "questions": [],
            "lesions": [],
        }
        for number in range(num_rows)
    ]
    dataset = {
        "name": "listed",
        "source": {"name": "listed"},
        "label_names": list(LABELS),
        "recipe": RECIPE.describe(),
        "recipe_hash": RECIPE.hash,
        "skips": {},
    }
    place = dataset_folder(folder, "listed", RECIPE.hash)
    place.mkdir(parents=True)
    cache = write_manifest(place, rows, dataset).cache
    cache.write("scan_0", np.random.default_rng(0).random(SHAPE).astype(np.float16), {})
    for number in range(1, num_rows):
        path = cache.path_of(f"scan_{number}")
        path.parent.mkdir(exist_ok=True)
        os.link(cache.path_of("scan_0"), path)


def resident(pid: int) -> float:
    """Ask the kernel for the memory of a process, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> None:
    """Print a line after each epoch."""
    num_rows, num_workers, epochs = map(int, sys.argv[1:4])
    folder = Path(sys.argv[4])
    write_dataset(folder, num_rows)
    module = VolumeDataModule(
        Listed(),
        RECIPE,
        cache_dir=str(folder),
        tokenizer=WordPieceTokenizer("phantom", 64),
        texts=SentenceSampler(2, texts_per_study=2),
        batch_size=32,
        num_workers=num_workers,
        engine=LocalEngine(0),
    )
    module.prepare_data()
    module.setup("fit")
    loader = module.train_dataloader()
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        samples = sum(len(batch["study_id"]) for batch in loader)
        workers = [worker.pid for worker in loader._iterator._workers]  # type: ignore[union-attr]
        megabytes = sum(map(resident, [os.getpid(), *workers]))
        line = json.dumps({"epoch": epoch, "samples": samples, "resident": megabytes})
        print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
