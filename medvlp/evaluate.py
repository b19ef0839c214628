"""Validate, test or predict: `python -m medvlp.evaluate test --ckpt_path=best.ckpt [...]`.

A checkpoint of ours carries its experiment; `--experiment=NAME` composes another one. `--data` and
`--evaluation` put another data set and protocol in their place. Overrides `key=value` change that
tree as in `medvlp.train`; every other `--option` goes to LightningCLI, which runs the same tree
(`--print_config` shows it in LightningCLI's terms).
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig

from medvlp import config, lightning_noise
from medvlp.user_errors import one_line_errors

PUBLISHED_WEIGHTS = {
    "_target_": "medvlp.checkpoints.init.PublishedInit",
    "in_evaluation": True,
}

_SUBCOMMANDS = ("validate", "test", "predict")

_USAGE = """usage: python -m medvlp.evaluate {validate,test,predict} [--experiment=NAME]
       [--ckpt_path=FILE] [--data=NAME] [--evaluation=NAME] [key=value ...] [LightningCLI options]

  --experiment=NAME   an experiment of conf/experiment; default: the checkpoint's own
  --ckpt_path=FILE    a checkpoint written by medvlp.train; with --experiment also a published
                      weight file (.pt, .bin, .safetensors) or folder, loaded strictly
  --data=NAME         another data set of conf/data, as in --data=phantom/rad_chestct
  --evaluation=NAME   the protocol for it, of conf/evaluation, as in --evaluation=rad_chestct
  --allow_recipe=A,B  fields of the preprocessing recipe in which the data may differ from what the
                      checkpoint was trained on, as in data.recipe.size=[96,48,48]
                      --allow_recipe=size; every other difference is refused, and each that is
                      allowed is recorded in results.json
  key=value           an override of the tree, as in medvlp.train
  --print_config      show the tree in LightningCLI's terms and stop
  --model.*, --data.*, --trainer.*   LightningCLI's own overrides

Results go to outputs/<experiment>/<subcommand>/ (with --data: and a folder of its name below)
unless paths.run=FOLDER says otherwise.

A checkpoint trained on the twin of CT-RATE, evaluated on that of Rad-ChestCT by its protocol:
  python -m medvlp.evaluate test --experiment=phantom/hlip_ctrate --ckpt_path=best.ckpt \\
      --data=phantom/rad_chestct --evaluation=rad_chestct"""


class _Arguments(NamedTuple):
    subcommand: str
    experiment: str | None
    checkpoint: str | None
    overrides: list[str]
    allow_recipe: list[str]
    rest: list[str]


def evaluation_tree(
    experiment: str | None, checkpoint: str | None, overrides: Sequence[str]
) -> DictConfig:
    """Return the tree to evaluate: the experiment's, or the checkpoint's own.

    Raises:
        ConfigError: If neither is given, or an override names no key.
        FileNotFoundError: If there is no such checkpoint.
    """
    if experiment is not None:
        tree = config.compose([f"experiment={experiment}", *overrides])
        tree.init = None  # training starts there: an evaluation needs no such file
        return tree
    if checkpoint is None:
        raise config.ConfigError("give --ckpt_path=FILE, --experiment=NAME, or both")
    carried = _carried_tree(checkpoint)
    tree = config.override_tree(carried, overrides)
    if not any(override.startswith(("data/recipe", "data.recipe")) for override in overrides):
        tree.data.recipe = carried["data"]["recipe"]  # other data, the same preprocessing
    return tree


def lightning_config(tree: dict[str, Any], init: dict[str, Any] | None = None) -> dict[str, Any]:
    """Rewrite a resolved tree for LightningCLI: Trainer arguments, model and data classes.

    Args:
        tree: Of the run; what its training started from, and a teacher beside it, are left out.
        init: What fills the model before an evaluation.
    """
    alone = {"teacher": None} if "teacher" in tree["system"] else {}
    system = tree["system"] | alone | {"init": init}
    trainer = config.to_class_path(tree["trainer"])["init_args"]
    trainer["callbacks"] = [config.to_class_path(node) for node in tree["callbacks"].values()]
    trainer["logger"] = False
    return {
        "seed_everything": tree["seed"],
        "trainer": trainer,
        "model": config.to_class_path(system),
        "data": config.to_class_path(tree["data"]),
    }


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and hand the rewritten tree to LightningCLI."""
    subcommand, experiment, checkpoint, overrides, allow_recipe, rest = _parse(arguments)
    source = evaluation_tree(experiment, checkpoint, overrides)
    tree = config.resolve(source)
    config.check_keys(tree)
    config.require_writable(Path(tree["paths"]["run"]))

    import lightning.pytorch as pl
    from lightning.pytorch.cli import LightningCLI

    from medvlp.callbacks.provenance import Provenance

    lightning_noise.hush()
    provenance = Provenance(tree, config.plain(source), allow_recipe=allow_recipe)
    init = None if checkpoint is None else _take_weights(checkpoint, tree)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tree.yaml"
        rewritten = {subcommand: lightning_config(tree, init)}
        file.write_text(yaml.safe_dump(rewritten, sort_keys=False))
        options = ["--config", str(file), subcommand, *rest]
        if checkpoint is not None and init is None:
            options += [f"--ckpt_path={checkpoint}", "--weights_only=true"]
        if subcommand != "predict":
            options.append("--verbose=false")  # the results have a table of their own
        LightningCLI(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            trainer_defaults={"callbacks": [provenance]},
            parser_kwargs={"default_env": False},
            args=options,
        )


def _parse(arguments: Sequence[str]) -> _Arguments:
    """Split the command line into our own options, overrides and the rest."""
    if not arguments or arguments[0] not in _SUBCOMMANDS:
        raise config.ConfigError(f"the first word is one of {', '.join(_SUBCOMMANDS)}\n\n{_USAGE}")
    names = ("--experiment", "--ckpt_path", "--data", "--evaluation", "--allow_recipe")
    values: dict[str, str | None] = dict.fromkeys(names)
    overrides, rest = [], []
    remaining = iter(arguments[1:])
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name in values:
            values[name] = value if equals else next(remaining, None)
        elif argument.startswith("-"):
            rest.append(argument)
        else:
            overrides.append(argument)
    groups = [f"{key}={values[f'--{key}']}" for key in ("data", "evaluation") if values[f"--{key}"]]
    allowed = (values["--allow_recipe"] or "").strip("[]").split(",")
    return _Arguments(
        subcommand=arguments[0],
        experiment=values["--experiment"],
        checkpoint=values["--ckpt_path"],
        overrides=[*groups, *_with_run_folder(overrides, arguments[0], values["--data"])],
        allow_recipe=[field.strip() for field in allowed if field.strip()],
        rest=rest,
    )


def _with_run_folder(overrides: Sequence[str], subcommand: str, data: str | None) -> list[str]:
    """Give the results a folder of their own unless the user named one."""
    if any(override.split("=")[0].lstrip("+") == "paths.run" for override in overrides):
        return list(overrides)
    folder = f"{subcommand}/{data}" if data else subcommand
    return [*overrides, f"paths.run=${{paths.outputs}}/${{name}}/{folder}"]


def _take_weights(checkpoint: str, tree: dict[str, Any]) -> dict[str, Any] | None:
    """Make room for the weights of a checkpoint in a tree.

    Returns:
        What fills the model from a published file; None for a checkpoint of ours, which Lightning
        reads.
    """
    from medvlp.checkpoints.files import open_weights
    from medvlp.checkpoints.model_configs import without_pretrained
    from medvlp.checkpoints.vlm_adapter import adapter_start

    file = open_weights(checkpoint)
    adapter = adapter_start(file, tree)
    if adapter is not None:  # over pretrained weights of the language model
        return adapter
    tree["system"]["model"] = without_pretrained(tree["system"]["model"])
    return None if file.layout.lightning else PUBLISHED_WEIGHTS | {"path": checkpoint}


def _carried_tree(checkpoint: str) -> dict[str, Any]:
    """Read the unresolved tree that a checkpoint of ours carries."""
    from medvlp.checkpoints.exported import CARRIED, is_export
    from medvlp.checkpoints.files import open_weights

    if is_export(Path(checkpoint)):
        return open_weights(checkpoint).beside[CARRIED]["source"]
    if Path(checkpoint).is_dir():
        raise config.ConfigError(
            f"{checkpoint} is a folder, as of published weights, which carry no experiment; name "
            "one with --experiment=NAME"
        )
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f"there is no checkpoint {checkpoint}")
    import torch

    from medvlp.callbacks.provenance import CHECKPOINT_KEY

    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, UnpicklingError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it is empty"
        raise config.ConfigError(f"{checkpoint} is no checkpoint of ours ({reason})") from error
    if CHECKPOINT_KEY not in content:
        raise config.ConfigError(
            f"{checkpoint} does not carry an experiment (it was not written by medvlp.train); "
            "name one with --experiment=NAME"
        )
    return content[CHECKPOINT_KEY]["source"]


def main() -> None:
    """Run the command line; user errors end with one line."""
    arguments = sys.argv[1:]
    if not arguments or "--help" in arguments[:1] or "-h" in arguments[:1]:
        print(_USAGE)  # noqa: T201
        return
    with one_line_errors():
        run(arguments)


if __name__ == "__main__":
    main()
