"""HCL-AL's localisation of a study with many lesions, against the way of its published code.

Ours is the whole command `medvlp localise` in a process of its own: imports, both checkpoints, all
texts of the vocabulary, CT, PET and mask, patches, both stages, tables and, if asked, pictures. Of
the published way the lesions alone count, see `medvlp.bench.localise_published`. Each way is
measured once, one after another, in a process of its own.
"""

import argparse
import contextlib
import importlib
import io
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch

from medvlp.bench.localise_published import Answers, Cost, Files, localise_as_published
from medvlp.bench.options import LOCALISE_WAYS
from medvlp.bench.record import Row, cpu_seconds, peak_memory_mib, publish
from medvlp.bench.whole_body import PET_SPACING_MM, Lattice, write_stage, write_study

TOLERANCE = 1e-3  # of probabilities: rounding of float32 in logits that are 100 times the cosines
PUBLISHED = "published way"


def run(options: argparse.Namespace) -> None:
    """Write the study, localise its lesions in every way, publish the table.

    Raises:
        RuntimeError: If the ways do not give the same answers.
    """
    with tempfile.TemporaryDirectory(prefix="medvlp_bench_", dir=options.folder) as name:
        files = write_files(Path(name), options)
        published = partial(localise_as_published, files, options.published)
        costs = {PUBLISHED: _in_a_process(published, options.threads)}
        for way in options.ways:
            costs[way] = _in_a_process(
                partial(localise, files, LOCALISE_WAYS[way]), options.threads
            )
    differences = {
        way: largest_difference(costs[PUBLISHED].answers, cost.answers)
        for way, cost in costs.items()
    }
    for way, difference in differences.items():
        if difference > TOLERANCE and way != "bf16":
            raise RuntimeError(
                f"{way}: probabilities differ by {difference:.1e} from those of the {PUBLISHED}, "
                f"at most {TOLERANCE} was expected: their speeds cannot be compared"
            )
    publish("localise", rows_of(costs, differences), _notes(options), options.json)


def write_files(folder: Path, options: argparse.Namespace) -> Files:
    """Write what both ways read."""
    ct = Lattice(tuple(options.shape), tuple(options.spacing))
    pet = Lattice(tuple(options.pet_shape), PET_SPACING_MM)
    study = write_study(folder, ct, pet, options.lesions)
    coarse, fine = write_stage(folder, "coarse"), write_stage(folder, "fine")
    texts = options.vocabulary, options.descriptions
    return Files(study, coarse, fine, *texts, options.device)


def localise(files: Files, arguments: Sequence[str]) -> Cost:
    """Run the command in this process; what it took counts from the start of the process."""
    start = time.perf_counter()
    out = files.study[0].parent / "out"
    with contextlib.redirect_stdout(io.StringIO()):
        verb = importlib.import_module("medvlp.localise")  # its imports count
        verb.main([*files.command(), *arguments, "--out", str(out)])
    told = json.loads((out / "predictions.json").read_text())
    answers = [{one["name"]: one["probability"] for one in lesion["places"]} for lesion in told]
    return Cost(time.perf_counter() - start, cpu_seconds(), peak_memory_mib(), answers)


def largest_difference(expected: Answers, found: Answers) -> float:
    """Compare the probabilities of the lesions that both have."""
    return max(
        abs(ours.get(name, 0.0) - theirs.get(name, 0.0))
        for ours, theirs in zip(found, expected, strict=False)
        for name in {*ours, *theirs}
    )


def rows_of(costs: Mapping[str, Cost], differences: Mapping[str, float]) -> list[Row]:
    """Tell what each way takes for a lesion, and how much cheaper it is than the published one."""
    each = {way: cost.cpu / len(cost.answers) for way, cost in costs.items()}
    return [
        {
            "way": way,
            "lesions": len(cost.answers),
            "wall s": cost.wall,
            "CPU s": cost.cpu,
            "CPU s/lesion": each[way],
            "ratio": f"{each[PUBLISHED] / each[way]:.1f}x",
            "peak MiB": cost.peak_mib,
            "largest difference": f"{differences[way]:.1e}",
        }
        for way, cost in costs.items()
    ]


def _notes(options: argparse.Namespace) -> list[str]:
    ct, pet = (
        " x ".join(str(n) for n in reversed(one)) for one in (options.shape, options.pet_shape)
    )
    return [
        f"CT and mask {ct} voxels, PET {pet} on another lattice; full-size ClipText_ResidualNet in "
        f"both stages, random weights; vocabulary {options.vocabulary}; {options.device}; float32 "
        "but where told",
        "published way: the lesions alone, one at a time; files, checkpoints, vocabulary and "
        "tokenizer are read once before and do not count; for each lesion and stage the texts "
        "anew, at the full context; our patches",
        "ours: the whole command, from the imports to the last file, divided by the lesions: with "
        "tables alone; with a picture of each lesion too; with image towers in bf16, tables alone",
        "differences are of probabilities, over the lesions of the published way",
    ]


def _in_a_process(work: Callable[[], Cost], threads: int) -> Cost:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_threaded, work, threads).result()


def _threaded(work: Callable[[], Cost], threads: int) -> Cost:
    torch.set_num_threads(threads)
    return work()
