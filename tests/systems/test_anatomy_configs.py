"""The configurations of fVLM name the same organs everywhere, and each option of them builds."""

import pytest
import torch
from hydra.utils import instantiate

from medvlp import config
from medvlp.data.totalsegmentator_classes import class_names

EXPERIMENTS = ["fvlm_ctrate", "fvlm_ctrate_36"]
COMMON = ["paths.raw=DIR", "init=none", "model.text.pretrained=null"]


def tree(*overrides: str) -> dict:
    resolved = config.resolve(config.compose([*overrides, *COMMON]))
    config.check_keys(resolved)
    return resolved


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_model_masks_texts_and_loss_count_the_same_organs(experiment):
    parts = tree(f"experiment={experiment}")
    organs = parts["model"]["pooling"]["organs"]
    assert list(parts["data"]["recipe"]["mask"]["anatomies"]) == organs
    assert parts["data"]["texts"]["organs"] == parts["loss"]["organs"] == organs
    assert parts["schedule"]["num_epochs"] == parts["trainer"]["max_epochs"]


def test_the_36_anatomies_are_made_of_classes_whose_names_say_so():
    recipe = config.compose(["data=ct_rate_fvlm_36", "paths.raw=DIR"], "prepare").data.recipe
    groups = dict(recipe.mask.anatomies)
    assert len(groups) == 36
    names = class_names()
    words = {
        "heart": ["heart", "atrial_appendage"],
        "erector_spinae": ["autochthon"],
        "clavicle": ["clavicula"],
        "large_bowel": ["colon"],
        "hip_joint": ["hip_"],
        "iliac_vein": ["iliac_vena"],
        "sacrum": ["sacrum", "vertebrae_S1"],
        "cervical_vertebrae": ["vertebrae_C"],
        "lumbar_vertebrae": ["vertebrae_L"],
        "thoracic_vertebrae": ["vertebrae_T"],
    }
    for anatomy, labels in groups.items():
        for label in labels:
            assert any(word in names[label - 1] for word in words.get(anatomy, [anatomy]))
    for anatomy, start in (("rib", "rib_"), ("thoracic_vertebrae", "vertebrae_T")):
        assert len(groups[anatomy]) == sum(name.startswith(start) for name in names)
    assert {anatomy for anatomy, labels in groups.items() if not labels} == {
        "face",
        "pulmonary_artery",
    }


@pytest.mark.parametrize(
    ("loss", "teacher"), [("anatomy_co_teaching", "CoTeaching"), ("anatomy_ema_text", "EmaText")]
)
def test_losses_with_a_teacher_bring_it(loss, teacher):
    parts = tree("experiment=fvlm_ctrate", f"loss={loss}")
    with torch.device("meta"):
        system = instantiate(parts["system"], _convert_="all")
    assert type(system.teacher).__name__.startswith(teacher)
    assert type(system.loss.targets).__name__.startswith(teacher)
