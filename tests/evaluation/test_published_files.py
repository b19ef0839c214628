import csv
import json

import torch

from medvlp.data import rad_chestct
from medvlp.evaluation.published_files import write_published
from medvlp.evaluation.retrieval import Retrieval
from medvlp.evaluation.zero_shot import ZeroShotClassification

from .test_retrieval import axes, batch_of
from .test_retrieval import run as retrieve
from .test_zero_shot import CPU, HashTokenizer, batches
from .test_zero_shot_task import TRUTH, make_task, run
from .test_zero_shot_task import batch_of as brain_batch


def test_findings_have_the_published_names(tmp_path):
    names = list(rad_chestct.CLASSES)
    measure = ZeroShotClassification(
        "rad_chestct", HashTokenizer(), label_names=names, num_resamples=5
    )
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(40, 40, generator=generator)
    measure.prepare(lambda tokens: table[tokens.input_ids[:, 0]], torch.zeros(1), CPU)
    for embedding, batch in batches():
        labels = torch.randint(2, (len(embedding), len(names)), generator=generator)
        measure.update(embedding, batch | {"labels": labels})
    result = measure.compute(measure.rows())
    files = write_published({"rad": result}, tmp_path, "vit_base")
    folder = tmp_path / "results/rad_chestct/vit_base"
    assert files == [folder / "logits_volume.csv", folder / "results_volume.json"]
    rows = list(csv.DictReader(files[0].read_text().splitlines()))
    assert list(rows[0]) == ["recon", *measure.prompts.scored_names]
    assert len(rows) == 24 and 0 < float(rows[0]["Calcification"]) < 1
    layout = json.loads(files[1].read_text())
    assert list(layout) == [*measure.prompts.scored_names, "mean", "* mean"]
    assert set(layout["Emphysema"]) == {
        "acc (balanced)", "f1 (weighted)", "recall", "precision", "auc",
        "* acc (balanced)", "* f1 (weighted)", "* recall", "* precision",
    }  # fmt: skip
    assert set(layout["mean"]) == {
        "mean acc (balanced)", "mean f1 (weighted)", "mean recall", "mean precision",
    }  # fmt: skip
    assert "mean auc" in layout["* mean"] and "* mean recall" in layout["* mean"]


def test_tasks_have_the_published_names(tmp_path):
    results = {
        "stroke": run(make_task(["Normal", "Stroke"]), *brain_batch(TRUTH)),
        "disease": run(make_task(), *brain_batch(TRUTH)),
        # of its three classes none is there
        "tumor": run(make_task(["Glioma", "Meningioma", "Metastasis"]), *brain_batch(TRUTH % 2)),
    }
    files = write_published(results, tmp_path, "vit_base")
    assert [path.name for path in files] == [
        "stroke_detection_study_pub_brain_5.csv",
        "disease_classification_study_pub_brain_5.csv",
        "tumor_classification_study_pub_brain_5.csv",
        "results_study.json",
    ]
    layout = json.loads(files[-1].read_text())
    assert "Weghted F1" in layout["Stroke Detection (2-way)"]
    assert set(layout["Disease Classification (5-way)"]) == {"Balanced Acc", "Macro AUC"}
    assert layout["Tumor Classification (3-way)"] == {"Balanced Acc": None, "Macro AUC": None}
    assert files[0].read_text().splitlines()[0] == "study,Normal,Stroke"
    assert files[2].read_text().splitlines() == ["study,Glioma,Meningioma,Metastasis"]


def test_retrieval_has_the_published_names(tmp_path):
    result = retrieve(Retrieval(num_resamples=5), (axes(0, 1), batch_of([0, 1], [0, 1], 2)))
    (path,) = write_published({"retrieval": result}, tmp_path, "vit_base")
    layout = json.loads(path.read_text())
    assert layout["image_to_text_R@1"] == layout["text_to_image_mean_rank"] == 1
    assert layout["clip_val_score"] == 2  # of pairs with cosine 1, in one batch of two
