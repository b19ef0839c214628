"""Prepare a data set: `python -m medvlp.prepare data=NAME paths.raw=FOLDER [key=value ...]`.

Raw scans are checked, resampled by the recipe, compressed into the cache and described. It may be
stopped or killed and run again at any time: what is done is kept. `engine=local|dask|slurm` says
where, `masks=import|totalsegmentator` adds organ masks, `preview=true` shows one batch. Of 2D
images every one is looked at. Annotation files and images become web shards (`data=unimed/...`).
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from medvlp import config
from medvlp.user_errors import one_line_errors, user_message

if TYPE_CHECKING:
    from rich.console import Console

    from medvlp.data.engine import Engine
    from medvlp.data.manifest import Manifest
    from medvlp.data.progress import ScanProgress
    from medvlp.data.records import StudySource
    from medvlp.data.shard_manifest import ShardManifest
    from medvlp.data.shard_preparation import ShardPreparation

config.register_resolvers()

_PREVIEW_BATCH = 4


def prepare(cfg: DictConfig) -> "Manifest":
    """Prepare the volumes of a resolved tree and describe them on the terminal.

    Returns:
        What was prepared.

    Raises:
        OSError, ValueError, RuntimeError: See `prepare_dataset`.
    """
    tree = _resolved(cfg)

    from hydra.utils import instantiate
    from rich.console import Console

    from medvlp.data.preparation import prepare_dataset
    from medvlp.data.progress import ScanProgress

    data, console = tree["data"], Console()
    source, recipe = (instantiate(data[key], _convert_="all") for key in ("source", "recipe"))
    engine = instantiate(tree["engine"], _convert_="all")
    console.print(
        f"preparing {source.name} under recipe {recipe.stored_hash} into {data['cache_dir']}"
    )
    if tree["masks"]:
        source = _with_masks(source, engine, tree)
    with ScanProgress() as progress:
        manifest = prepare_dataset(
            source,
            recipe,
            cache_dir=Path(data["cache_dir"]),
            engine=engine,
            max_quarantine_share=float(tree["max_quarantine_share"]),
            device=tree["device"],
            on_scan=progress,
        )
    _describe(console, manifest, progress)
    if tree["preview"]:
        _preview(console, tree)
    _say_where(console, manifest, tree)
    return manifest


def prepare_images(cfg: DictConfig) -> None:
    """Look at every 2D image of a resolved tree and say on the terminal what was found.

    Raises:
        OSError, ValueError: See `inspect_images`.
    """
    tree = _resolved(cfg)

    from hydra.utils import instantiate
    from rich.console import Console
    from rich.table import Table

    from medvlp.data.image_inspection import inspect_images

    console = Console()
    module = instantiate(tree["data"], _convert_="all")
    for images in dict.fromkeys(one for sets in module.sets.values() for one in sets):
        images.open()
        found = inspect_images(images, module.cache_dir, num_workers=module.num_workers)
        table = Table(title=f"{images.name}, recipe {module.recipe.hash}", show_header=False)
        for row in found.rows():
            table.add_row(*row)
        console.print(table)
        console.print(f"a picture to look at: {found.folder / 'quality.png'}", soft_wrap=True)
        console.print(f"everything lies in {found.folder}", soft_wrap=True)
    if tree["preview"]:
        _preview(console, tree)


def prepare_shards(cfg: DictConfig) -> list["ShardManifest"]:
    """Write the web shards of a resolved tree and describe them on the terminal.

    Where a source cannot be prepared the others are, all the same.

    Returns:
        What was prepared.

    Raises:
        PreparationError: At the end, if a source could not be prepared or lacks too many samples.
    """
    tree = _resolved(cfg)

    from hydra.utils import instantiate
    from rich.console import Console

    from medvlp.data.engine import PreparationError
    from medvlp.data.shard_summary import caption_table, check_skipped, summary

    console = Console()
    preparation = instantiate(tree["data"], _convert_="all")
    preparation.materialise()
    manifests: list[ShardManifest] = []
    failed: list[str] = []
    for name in preparation.sources:
        try:
            manifest = _prepare_source(console, preparation, name)
            manifests.append(manifest)
            console.print(caption_table(name, manifest))
            check_skipped(name, manifest, allowed=float(tree["max_quarantine_share"]))
        except (PreparationError, ValueError, OSError) as error:
            message = user_message(error)
            if message is None:  # a mistake in the code: with its traceback
                raise
            failed.append(f"{name}: {message}")
    for line in summary(manifests, preparation.out_dir):
        console.print(line, soft_wrap=True)
    _require_none(failed, len(preparation.sources))
    return manifests


def _require_none(failed: list[str], number: int) -> None:
    from medvlp.data.engine import PreparationError

    if failed:
        told = "\n  ".join(failed)
        raise PreparationError(f"{len(failed)} of {number} sources:\n  {told}")


def _prepare_source(
    console: "Console", preparation: "ShardPreparation", name: str
) -> "ShardManifest":
    from medvlp.data.progress import RateBar

    with RateBar(f"preparing {name}", "rows") as bar:
        manifest = preparation.prepare(name, on_row=bar.advance)
    if not bar.num_done:
        console.print(f"{name}: all shards were there")
    return manifest


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    tree = config.resolve(cfg)
    config.check_keys(tree)
    return tree


def _with_masks(source: "StudySource", engine: "Engine", tree: dict[str, Any]) -> "StudySource":
    from hydra.utils import instantiate

    from medvlp.data.engine import LocalEngine
    from medvlp.data.organ_masks import attach_masks
    from medvlp.data.progress import RateBar

    masks = instantiate(tree["masks"], _convert_="all")
    with RateBar("organ masks") as bar:
        return attach_masks(
            source,
            masks,
            cache_dir=Path(tree["data"]["cache_dir"]),
            engine=LocalEngine(1) if masks.in_this_process else engine,
            on_mask=bar.advance,
        )


def _describe(console: "Console", manifest: "Manifest", progress: "ScanProgress") -> None:
    from rich.table import Table

    from medvlp.data.summary import label_prevalence, summarise

    for title, rows in (
        (f"{manifest.name}, recipe {manifest.recipe_hash}", summarise(manifest)),
        ("labels", label_prevalence(manifest)),
    ):
        if rows:
            table = Table(title=title, show_header=False)
            for row in rows:
                table.add_row(*row)
            console.print(table)
    console.print(
        f"{progress.num_done:,} scans: {progress.num_written:,} prepared now, "
        f"{progress.num_reused:,} were there, {progress.num_refused:,} refused; "
        f"{progress.seconds:.0f} s, {progress.num_done / max(progress.seconds, 1e-3):.1f} scans/s"
    )


def _say_where(console: "Console", manifest: "Manifest", tree: dict[str, Any]) -> None:
    from medvlp.data.quality import montage_file, write_montage
    from medvlp.data.quarantine import quarantine_file

    if tree["montage_scans"]:
        picture = montage_file(manifest.folder)
        write_montage(manifest, picture, num_scans=int(tree["montage_scans"]))
        console.print(f"a picture to look at: {picture}", soft_wrap=True)
    console.print(
        f"left out or changed: {sum(manifest.skips.values()):,}, named in "
        f"{quarantine_file(manifest.folder)}",
        soft_wrap=True,
    )
    console.print(f"everything lies in {manifest.folder}", soft_wrap=True)


def _preview(console: "Console", tree: dict[str, Any]) -> None:
    """Print a small batch of the DataModule, loaded in this process."""
    from hydra.utils import instantiate
    from rich.table import Table

    from medvlp.data.preview import batch_table, first_batch

    small = {"batch_size": _PREVIEW_BATCH, "num_workers": 0, "in_memory": False}
    data = {**tree["data"], **{key: small[key] for key in small if key in tree["data"]}}
    split, batch = first_batch(instantiate(data, _convert_="all"))
    table = Table("field", "type", "values", title=f"one batch of the {split} split")
    for row in batch_table(batch):
        table.add_row(*row)
    console.print(table)


@hydra.main(version_base="1.3", config_path=str(config.config_dir()), config_name="prepare")
def _job(cfg: DictConfig) -> None:
    try:
        with one_line_errors():
            if "sources" in cfg.data:
                prepare_shards(cfg)
            elif "source" in cfg.data:
                prepare(cfg)
            else:
                prepare_images(cfg)
    except KeyboardInterrupt:
        sys.exit("medvlp: stopped; what is done is kept: run the same again to finish")


def main() -> None:
    """Check the command line, then hand over to Hydra."""
    config.check_command_line(sys.argv[1:], "prepare")
    _job()


if __name__ == "__main__":
    main()
