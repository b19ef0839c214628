"""Train an experiment: `python -m medvlp.train experiment=NAME [key=value ...]`.

Without arguments the embedded default runs: a phantom twin of CT-RATE is written, prepared,
trained on and evaluated. `-m` sweeps over comma-separated values.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from medvlp import config, lightning_noise, slurm
from medvlp.stages import read_stages, run_stages
from medvlp.user_errors import one_line_errors

if TYPE_CHECKING:
    import lightning.pytorch as pl

config.register_resolvers()


def train(cfg: DictConfig) -> float | None:
    """Run one resolved tree: fit, then test the best checkpoint.

    Returns:
        The value of `cfg.metric`, for sweeps.

    Raises:
        ConfigError: If the tree cannot be built.
    """
    tree = config.resolve(cfg)
    config.check_keys(tree)
    source = config.plain(cfg)
    requeued = slurm.checkpoint_of_requeued(Path(tree["paths"]["run"]) / "checkpoints")
    tree["ckpt_path"] = str(requeued) if requeued else tree["ckpt_path"]

    import lightning.pytorch as pl
    import torch
    from hydra.utils import instantiate

    lightning_noise.hush()
    pl.seed_everything(tree["seed"], workers=True, verbose=False)
    if tree["num_threads"]:
        torch.set_num_threads(tree["num_threads"])
    datamodule = instantiate(tree["data"], _convert_="all")
    system = instantiate(_resumed(tree["system"], tree["ckpt_path"]), _convert_="all")
    trainer = _trainer(tree, source)
    if trainer.is_global_zero:
        print(_headline(trainer, system, tree))  # noqa: T201
    _fit(trainer, system, datamodule, tree)
    checkpoint = _final_checkpoint(trainer)
    value = _metric(trainer, system, datamodule, tree["metric"])
    if tree["test"]:
        trainer.test(system, datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False)
    if trainer.is_global_zero:
        print(  # noqa: T201
            f"{tree['metric']} = {value:.4f}; everything lies in {tree['paths']['run']}"
        )
    return value


def _trainer(tree: dict[str, Any], source: dict[str, Any]) -> "pl.Trainer":
    from hydra.utils import instantiate

    from medvlp.callbacks.provenance import Provenance

    callbacks = instantiate(tree["callbacks"], _convert_="all").values()
    return instantiate(
        tree["trainer"],
        callbacks=[*callbacks, Provenance(tree, source)],
        logger=list(instantiate(tree["logger"], _convert_="all").values()),
        _convert_="all",
    )


def _fit(
    trainer: "pl.Trainer",
    system: "pl.LightningModule",
    datamodule: "pl.LightningDataModule",
    tree: dict[str, Any],
) -> None:
    try:
        trainer.fit(system, datamodule, ckpt_path=tree["ckpt_path"], weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C, after the checkpoint was written
        sys.exit(
            f"medvlp: stopped at step {trainer.global_step}; go on with "
            f"ckpt_path={tree['paths']['run']}/checkpoints/interrupted.ckpt"
        )


def _headline(trainer: "pl.Trainer", system: "pl.LightningModule", tree: dict[str, Any]) -> str:
    """Say what is about to run, on what, and where."""
    parameters = sum(weight.numel() for weight in system.parameters()) / 1e6
    device = type(trainer.accelerator).__name__.removesuffix("Accelerator")
    return (
        f"{tree['name']}: {parameters:.1f} M parameters on {trainer.world_size} x {device}, "
        f"{trainer.precision}, seed {tree['seed']}; run folder {tree['paths']['run']}"
    )


def _resumed(system: dict[str, Any], checkpoint: str | None) -> dict[str, Any]:
    """Leave out what a fresh run starts from where a checkpoint brings all weights."""
    return system if checkpoint is None else system | {"init": None}


def _final_checkpoint(trainer: "pl.Trainer") -> str:
    """Return the best checkpoint, or write the last state where validation never ran."""
    callback = trainer.checkpoint_callback
    best = getattr(callback, "best_model_path", "")
    if best:
        return best
    last = str(Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt")
    last = trainer.strategy.broadcast(last)  # under torchrun each rank names a folder by its clock
    trainer.save_checkpoint(last)
    return last


def _metric(
    trainer: "pl.Trainer",
    system: "pl.LightningModule",
    datamodule: "pl.LightningDataModule",
    name: str,
) -> float:
    """Read the metric of the best checkpoint, validating once if training never did."""
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    if score is not None:
        return float(score)
    if name not in trainer.callback_metrics:
        trainer.validate(system, datamodule, weights_only=True, verbose=False)
    if name not in trainer.callback_metrics:
        known = ", ".join(sorted(trainer.callback_metrics))
        raise config.ConfigError(f"metric={name} was never logged; logged were: {known}")
    return float(trainer.callback_metrics[name])


def _relaunchable(run: Path) -> None:
    """Let a launcher of further local processes start them on this job's own tree.

    Lightning repeats the command line in every child; under a sweep that would repeat the whole
    sweep. The children get the job's resolved tree instead.
    """
    HydraConfig.instance().cfg = None
    sys.argv = [
        sys.argv[0],
        "--config-dir",
        str(run.resolve()),
        "--config-name",
        "config",
        f'hydra.run.dir="{run}"',
        "hydra.output_subdir=null",
        "hydra/hydra_logging=none",
        "hydra/job_logging=medvlp",
    ]


def with_run_folder(arguments: Sequence[str]) -> list[str]:
    """Let Hydra, which makes the folder of a run, know of one that the command line chooses.

    Raises:
        ValueError: If a sweep is given one folder for all of its jobs.
    """
    chosen = [text.partition("=")[2] for text in arguments if text.startswith("paths.run=")]
    if not chosen:
        return list(arguments)
    if {"-m", "--multirun"} & set(arguments):
        raise ValueError(
            "paths.run is the folder of one run, and a sweep has many; set hydra.sweep.dir=FOLDER"
        )
    return [*arguments, f"hydra.run.dir={chosen[-1]}"]


def _run_stages(stages: dict[str, Any], job: Any, run: Path) -> None:
    sources = job.runtime.config_sources
    folders = [source.path for source in sources if source.provider == "command-line"]
    run_stages(read_stages(stages, job.overrides.task), run, config_folders=folders)


@hydra.main(version_base="1.3", config_path=str(config.config_dir()), config_name="train")
def _job(cfg: DictConfig) -> float | None:
    run = Path(HydraConfig.get().runtime.output_dir)
    with open_dict(cfg):
        cfg.paths.run = str(run)
    if "LOCAL_RANK" not in os.environ:
        OmegaConf.save(cfg, run / "config.yaml")
    with one_line_errors():
        if cfg.get("stages"):
            return _run_stages(config.plain(cfg.stages), HydraConfig.get(), run)
        _relaunchable(run)
        return train(cfg)
    return None  # never reached: the context ends the process, or raises


def main() -> None:
    """Check the command line, then hand over to Hydra."""
    config.check_command_line(sys.argv[1:], "train")
    with one_line_errors():
        sys.argv[1:] = with_run_folder(sys.argv[1:])
    _job()


if __name__ == "__main__":
    main()
