"""The YAML of HSENet's data sets builds the same through Hydra and through LightningCLI."""

from pathlib import Path

import pytest
from hydra.utils import instantiate

from medvlp import config
from medvlp.data.conversation import Conversations
from medvlp.data.plain_report import PlainReport
from medvlp.data.sampling import EachScan
from medvlp.data.volume_datamodule import VolumeDataModule
from tests.both_builders import built_by_both

HASH = "data.recipe.slice_encoder.known_hash='0000000000000000'"  # BiomedCLIP is the user's
CONVERSATION = "data/texts=hsenet_conversation"


@pytest.mark.parametrize("name", ["ct_rate_hsenet", "bimcv_r_hsenet", "hsenet_json"])
@pytest.mark.parametrize("more", [[], [CONVERSATION]], ids=["report", "conversation"])
def test_hydra_and_lightning_build_the_same(name: str, more: list[str], tmp_path: Path) -> None:
    more = more if name == "hsenet_json" else [HASH, *more]
    cfg = config.compose([f"data={name}", f"paths.raw={tmp_path}", *more], "prepare")
    tree = config.resolve(cfg)
    config.check_keys(tree)
    built = built_by_both(tree["data"], VolumeDataModule)
    for module in built:
        assert isinstance(module, VolumeDataModule)
        assert module.recipe.fields == ("image", "slice_features")
        assert isinstance(module.scans.train, EachScan)
        assert isinstance(module.texts, Conversations if CONVERSATION in more else PlainReport)
        (augment,) = module.scans.augment
        assert vars(augment)["flip_probs"] == (0, 0, 0)  # published flips leave the slices behind
        assert vars(augment)["intensity_prob"] == 0.5
    assert built[0].recipe.hash == built[1].recipe.hash
    assert built[0].source.describe() == built[1].source.describe()


@pytest.mark.parametrize("experiment", ["hsenet_stage1", "hsenet_stage2"])
def test_both_stages_take_bimcv_r_and_its_findings(experiment: str, tmp_path: Path) -> None:
    evaluation = "evaluation=hsenet_retrieval_bimcv_r"
    overrides = [f"experiment={experiment}", "data=bimcv_r_hsenet", evaluation, HASH]
    (tmp_path / "first.ckpt").touch()
    start = [f"init.path={tmp_path / 'first.ckpt'}"] if experiment == "hsenet_stage2" else []
    tree = config.resolve(config.compose([*overrides, f"paths.raw={tmp_path}", *start]))
    config.check_keys(tree)
    source = instantiate(tree["data"]["source"], _convert_="all")
    scored = instantiate(tree["evaluation"], _convert_="all")["volume_retrieval"]
    assert scored.label_names == list(source.label_names)
    assert tree["data"]["recipe"]["slices"]["few"] == "repeat"  # BIMCV-R's recipe
    assert tree["trainer"]["max_epochs"] == 50
