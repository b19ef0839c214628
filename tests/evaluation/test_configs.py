from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from jsonargparse import ArgumentParser
from omegaconf import OmegaConf

from medvlp.data import cq500, ct_rate, mr_rate, pub_brain_5, rad_chestct, rsna
from medvlp.evaluation.protocol import Evaluation

from .test_zero_shot import HashTokenizer

FOLDER = Path(__file__).parents[2] / "conf" / "evaluation"
PATHS = sorted(FOLDER.glob("*.yaml"))
LABEL_NAMES = {
    "ct_rate": ct_rate.LABEL_NAMES,
    "ct_rate_organ": ct_rate.LABEL_NAMES,
    "phantom_ct_rate": ct_rate.LABEL_NAMES,
    "ct_rate_positive": ct_rate.LABEL_NAMES,
    "rad_chestct": tuple(rad_chestct.CLASSES),
    "rad_chestct_positive": tuple(rad_chestct.CLASSES),
    "pub_brain_5": pub_brain_5.LABEL_NAMES,
    "rsna": rsna.LABEL_NAMES,
    "cq500": cq500.LABEL_NAMES,
    "mr_rate": mr_rate.LABEL_NAMES,
    "phantom_cq500": cq500.LABEL_NAMES,
    "phantom_mr_rate": mr_rate.LABEL_NAMES,
    "fvlm_ct_rate": ct_rate.LABEL_NAMES,
    "fvlm_ct_rate_18": ct_rate.LABEL_NAMES,
    "fvlm_rad_chestct": tuple(rad_chestct.CLASSES),
    "visd_boost": ct_rate.LABEL_NAMES,
}
TOKENIZER = {"_target_": f"{HashTokenizer.__module__}.HashTokenizer"}


def tree(path: Path) -> dict:
    model = OmegaConf.load(FOLDER.parent / "model" / "fvlm_vit_base.yaml").model  # of its organs
    with initialize_config_dir(str(FOLDER), version_base=None):
        evaluation = compose(path.stem)
    data = {"source": {"vocabulary": "phantom", "descriptions": None}}  # of HCL-AL
    parts = {"tokenizer": TOKENIZER, "evaluation": evaluation, "model": model, "data": data}
    return OmegaConf.create(parts)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_hydra_builds_every_evaluation(path):
    measures = instantiate(tree(path).evaluation, _convert_="all")
    assert measures
    for measure in measures.values():
        if path.stem not in LABEL_NAMES:
            continue  # of texts, or of labels that an experiment's own test checks
        assert tuple(measure.label_names) == LABEL_NAMES[path.stem]
        assert measure.protocol.thresholds is None


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_lightning_cli_builds_every_evaluation(path):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--evaluations", type=dict[str, Evaluation] | None)
    classes = {}
    for name, node in OmegaConf.to_container(tree(path).evaluation, resolve=True).items():
        target = node.pop("_target_")
        if "tokenizer" in node:
            node["tokenizer"] = {"class_path": node["tokenizer"]["_target_"]}
        classes[name] = {"class_path": target, "init_args": node}
    parsed = parser.parse_object({"evaluations": classes})
    measures = parser.instantiate(parsed)["evaluations"]
    assert all(isinstance(measure, Evaluation) for measure in measures.values())
