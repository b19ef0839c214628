"""Draws from a shard index of millions of samples with several workers and prints memory.

    python -m tests.data.image_loader_memory SAMPLES WORKERS EPOCHS FOLDER

One JSON object per epoch on standard output: MB of this process and its workers together, memory
they share counted once. The samples are few, listed again and again: only the index is large.
"""

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from medvlp.data.image_datamodule import ImageDataModule
from medvlp.data.image_recipe import ImageRecipe
from medvlp.data.mixing import Mixture
from medvlp.data.shard_images import ShardImages
from medvlp.text.tokenizers import WordPieceTokenizer
from tests.data.test_shard_images import write_shard

DRAWN = 512  # samples of an epoch


def write_index(folder: Path, num_samples: int) -> ShardImages:
    """Write a shard of eight samples and an index that lists them often."""
    folder.mkdir(parents=True)
    members = []
    for number in range(8):
        out = io.BytesIO()
        noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(noise).save(out, "JPEG")
        members += [(f"{number}.jpg", out.getvalue()), (f"{number}.txt", b"no nodule")]
    write_shard(folder / "s.tar", members)
    images = ShardImages(str(folder / "s.tar"), name="large")
    images.open()
    file = next(folder.glob(".medvlp_index_*.npy"))
    np.save(file, np.resize(np.load(file), (num_samples, 5)))
    return images


def shared_once(pid: int) -> float:
    """Ask the kernel for the memory of a process, in MB; shared memory is divided up."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def main() -> None:
    """Print a line after each epoch."""
    num_samples, num_workers, epochs = map(int, sys.argv[1:4])
    module = ImageDataModule(
        ImageRecipe(32, mean=(0.5,) * 3, std=(0.5,) * 3),
        train=[write_index(Path(sys.argv[4]), num_samples)],
        cache_dir=sys.argv[4],
        tokenizer=WordPieceTokenizer("phantom", 32),
        mixture=Mixture([1.0], epoch_size=DRAWN),
        batch_size=32,
        num_workers=num_workers,
        inspect=False,
    )
    module.prepare_data()
    module.setup("fit")
    loader = module.train_dataloader()
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        samples = sum(len(batch["sample_id"]) for batch in loader)
        workers = [worker.pid for worker in loader._iterator._workers]  # type: ignore[union-attr]
        megabytes = sum(map(shared_once, [os.getpid(), *workers]))
        line = json.dumps({"epoch": epoch, "samples": samples, "resident": megabytes})
        print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
