"""HCL-AL: the published accuracy over matched lesions."""

from medvlp.data.lesion_table import LesionTable
from medvlp.evaluation.published_hcl_al import published_score, score_tables

from .registry import Case, handles


@handles("hcl_al", "evaluate")
def evaluate(case: Case) -> None:
    predicted = LesionTable.read(case.path / "pred.csv")
    truth = LesionTable.read(case.path / "gt.csv")
    for name, value in published_score(predicted, truth)._asdict().items():
        assert value == case.config[name], name
    metrics = score_tables(predicted, truth, num_resamples=2).metrics()
    assert metrics["coverage_n"] == case.config["total_lesions"]
    assert metrics["localisation_n"] == case.config["evaluated_lesions"]
    assert metrics["localisation_top1"] == case.config["accuracy_top1"]
