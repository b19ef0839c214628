"""What every rank finds of a padded evaluation set; importable, because ranks start afresh."""

from typing import Any

import torch

from medvlp.data.sampling import GlobalBatchSampler
from medvlp.distributed.gather import gather_objects

from .test_retrieval import Retrieval, axes, batch_of
from .test_retrieval import embed_text as embed_report
from .test_zero_shot import CPU, embed_text
from .test_zero_shot_catalogue import batch_of as set_batch
from .test_zero_shot_catalogue import images_of
from .test_zero_shot_catalogue import make as make_catalogue
from .test_zero_shot_task import batch_of as brain_batch
from .test_zero_shot_task import make_task

NUM_SAMPLES = 23  # divides neither by the batch size nor by the ranks
TRUTH = torch.arange(NUM_SAMPLES) % 5


def parts(rank: int, world_size: int) -> list[list[int]]:
    sampler = GlobalBatchSampler(
        NUM_SAMPLES, 6, shuffle=False, drop_last=False, rank=rank, world_size=world_size
    )
    return [[key.sample for key in batch] for batch in sampler]


def find(rank: int, world_size: int) -> dict[str, Any]:
    """Score this rank's share and compute the figures of all, as a system does."""
    task, retrieval, catalogue = make_task(), Retrieval(num_resamples=20), make_catalogue()
    images, metadata = images_of(catalogue, ["BACH", "CT_axial"], per_class=2)
    found = {}
    for measure, embed in ((task, embed_text), (retrieval, embed_report)):
        measure.prepare(embed, torch.tensor([2.0]), CPU)
    embedding, batch = brain_batch(TRUTH)
    for places in parts(rank, world_size):
        own = {key: [batch[key][i] for i in places] for key in ("study_id", "sample_id")}
        own["patient_id"] = own["sample_id"]
        texts = batch_of([i % 16 for i in places], list(range(len(places))), len(places)) | own
        labels = {key: batch[key][places] for key in ("labels", "num_scans")}
        task.update(embedding[places], batch | own | labels)
        sets = set_batch([metadata[i] for i in places], own["sample_id"])
        catalogue.update(images[places], sets)
        retrieval.update(axes(*((i + i // 20) % 16 for i in places)), texts)
    for name, measure in (("task", task), ("retrieval", retrieval), ("sets", catalogue)):
        result = measure.compute(gather_objects(measure.rows()))
        found[name] = result.metrics() | {
            "samples": result.num_samples,
            "duplicates": result.duplicates_dropped,
        }
    return found
