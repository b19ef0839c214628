import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from medvlp import config


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("experiment=phantom/hlip_ctrat", "phantom/hlip_ctrate"),
        ("optm.lr=1e-3", "optim.lr"),
        ("strategy=dpd", "ddp"),
        ("optim.learning_rate=1e-3", r"optim\.lr"),
    ],
)
def test_a_misspelt_override_fails_with_the_nearest_valid_name(override, advice):
    with pytest.raises(config.ConfigError, match=advice):
        config.compose([override])


def test_the_command_line_check_ends_with_one_line_and_takes_sweeps():
    config.check_command_line(["-m", "optim.lr=1e-4,3e-4"], "train")
    with pytest.raises(SystemExit, match=r"did you mean optim\.lr"):
        config.check_command_line(["-m", "optim.lrr=1e-4,3e-4"], "train")


def test_advice_knows_the_keys_of_the_groups_that_were_chosen():
    chosen = ["data.source.tabel=x", "data=folder"]
    with pytest.raises(config.ConfigError, match=r"did you mean data\.source\.table"):
        config.compose(chosen, "prepare")
    with pytest.raises(config.ConfigError, match=r"'data\.source\.rot'"):
        config.compose(["data=folder", "data.source.table=x", "data.source.rot=y"], "prepare")
    columns = "data.source.text_columns={findings: Findings}"
    assert config.compose(["data=folder", columns], "prepare").data.source.text_columns


def test_unknown_parameters_are_named_with_their_place():
    tree = {"a": [{"_target_": "torch.nn.Linear", "in_features": 1, "out_feature": 2}]}
    with pytest.raises(
        config.ConfigError, match=r"a\[0\].out_feature .* did you mean out_features"
    ):
        config.check_keys(tree)


def test_a_target_that_is_not_there_is_named():
    with pytest.raises(config.ConfigError, match=r"medvlp\.nowhere\.Thing"):
        config.check_keys({"_target_": "medvlp.nowhere.Thing"})


def test_missing_values_are_named():
    with pytest.raises(config.ConfigError, match=r"paths\.raw"):
        config.resolve(OmegaConf.create({"paths": {"raw": "???"}}))


def test_class_path_form_of_nested_objects_and_partials():
    tree = {
        "_target_": "a.B",
        "inner": [{"_target_": "c.D", "x": 1}],
        "optim": {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.1},
        "plain": {"k": [1, 2]},
    }
    assert config.to_class_path(tree) == {
        "class_path": "a.B",
        "init_args": {
            "inner": [{"class_path": "c.D", "init_args": {"x": 1}}],
            "optim": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.1}},
            "plain": {"k": [1, 2]},
        },
    }


def test_overrides_of_a_carried_tree_reach_what_interpolates_them():
    tree = {"paths": {"run": "old"}, "callbacks": {"writer": {"folder": "${paths.run}"}}}
    changed = config.resolve(config.override_tree(tree, ["paths.run=new"]))
    assert changed["callbacks"]["writer"]["folder"] == "new"
    with pytest.raises(config.ConfigError, match=r"did you mean paths\.run"):
        config.override_tree(tree, ["paths.rum=new"])


def test_a_group_option_replaces_a_node_of_a_carried_tree():
    tree = {"loss": {"_target_": "old.Loss", "old": 1}}
    changed = config.override_tree(tree, ["loss.exchange=gather", "loss=siglip"])
    assert "SigLip" in changed.loss._target_
    assert "old" not in changed.loss
    assert changed.loss.exchange == "gather"


def test_a_group_option_brings_what_else_its_file_sets():
    tree = config.plain(config.compose(["paths.data=here"]))
    twin = config.override_tree(tree, ["data=phantom/rad_chestct"])
    assert config.resolve(twin)["data"]["source"]["root"] == "here/phantom/rad_chestct"
    real = config.override_tree(tree, ["data=rad_chestct"])
    with pytest.raises(config.ConfigError, match=r"mandatory values are missing: paths\.raw"):
        config.resolve(real)
    given = config.override_tree(tree, ["data=rad_chestct", "paths.raw=there"])
    assert config.resolve(given)["data"]["source"]["root"] == "there"
    asked = config.override_tree(tree, ["data=folder", "data/texts=hsenet_conversation"])
    assert asked.data.texts.questions == "hsenet"
    tower = config.override_tree(tree, ["model=hlip_vit_base_multiscan_h2_token588"])
    assert tower.tokenizer != tree["tokenizer"]


def test_configuration_is_free_of_heavy_imports(tmp_path: Path):
    import subprocess

    code = (
        "import sys, medvlp.config, medvlp.train, medvlp.evaluate, medvlp.__main__;"
        "heavy = {'torch', 'lightning', 'monai', 'transformers', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
