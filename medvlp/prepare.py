"""Prepare a data set: `python -m medvlp.prepare data=NAME paths.raw=FOLDER [key=value ...]`.

Raw scans are checked, resampled by the recipe, compressed into the cache and described. It may be
stopped and run again at any time: what is done is kept.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from medvlp import config
from medvlp.user_errors import one_line_errors

if TYPE_CHECKING:
    from rich.console import Console

    from medvlp.data.manifest import Manifest
    from medvlp.data.progress import ScanProgress

config.register_resolvers()


def prepare(cfg: DictConfig) -> "Manifest":
    """Prepare the data set of a resolved tree and describe it on the terminal.

    Returns:
        What was prepared.

    Raises:
        OSError, ValueError, RuntimeError: See `prepare_dataset`.
    """
    tree = config.resolve(cfg)
    config.check_keys(tree)
    data = tree["data"]

    from hydra.utils import instantiate
    from rich.console import Console

    from medvlp.data.engine import LocalEngine
    from medvlp.data.preparation import prepare_dataset
    from medvlp.data.progress import ScanProgress

    source, recipe = (instantiate(data[key], _convert_="all") for key in ("source", "recipe"))
    engine = instantiate(data["engine"], _convert_="all") if data.get("engine") else LocalEngine()
    console = Console()
    console.print(f"preparing {source.name} under recipe {recipe.hash} into {data['cache_dir']}")
    with ScanProgress() as progress:
        manifest = prepare_dataset(
            source,
            recipe,
            cache_dir=Path(data["cache_dir"]),
            engine=engine,
            max_quarantine_share=float(tree["max_quarantine_share"]),
            on_scan=progress,
        )
    _describe(console, manifest, progress, tree)
    return manifest


def _describe(
    console: "Console", manifest: "Manifest", progress: "ScanProgress", tree: dict[str, Any]
) -> None:
    from rich.table import Table

    from medvlp.data.quality import write_montage
    from medvlp.data.quarantine import quarantine_file
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
    if tree["montage_scans"]:
        picture = manifest.folder / "quality.png"
        write_montage(manifest, picture, num_scans=int(tree["montage_scans"]))
        console.print(f"a picture to look at: {picture}", soft_wrap=True)
    console.print(
        f"left out or changed: {sum(manifest.skips.values()):,}, named in "
        f"{quarantine_file(manifest.folder)}",
        soft_wrap=True,
    )
    console.print(f"everything lies in {manifest.folder}", soft_wrap=True)


@hydra.main(version_base="1.3", config_path=str(config.config_dir()), config_name="prepare")
def _job(cfg: DictConfig) -> None:
    with one_line_errors():
        prepare(cfg)


def main() -> None:
    """Check the command line, then hand over to Hydra."""
    config.check_command_line(sys.argv[1:], "prepare")
    _job()


if __name__ == "__main__":
    main()
