"""Look after prepared data: `python -m medvlp.cache list | verify [DATASET[/RECIPE]]`.

`verify` decompresses every volume and compares it with its checksum and the manifest; it ends
with code 1 if there is damage. `verify --repair` deletes what is damaged, so that the next
`medvlp prepare`, or the next training run, makes it again.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medvlp.user_errors import one_line_errors

if TYPE_CHECKING:
    from rich.console import Console

    from medvlp.data.verification import Finding

_SHOWN = 50  # findings of a data set that the table lists


def list_datasets(cache_dir: Path, wanted: str = "") -> None:
    """Print data sets and recipes with their counts and sizes."""
    from rich.console import Console
    from rich.table import Table

    from medvlp.data.manifest import Manifest, is_prepared
    from medvlp.data.verification import bytes_on_disk

    table = Table()
    for name in ("data set", "recipe", "kind", "studies", "scans", "skipped", "MB"):
        table.add_column(name, overflow="fold")
    for folder in _chosen(cache_dir, wanted):
        size = f"{bytes_on_disk(folder) / 1e6:,.1f}"
        if is_prepared(folder):
            manifest = Manifest(folder)
            counts, skipped = manifest.counts, sum(manifest.skips.values())
            numbers = [f"{n:,}" for n in (counts["studies"], counts["scans"], skipped)]
            kind = str(manifest.recipe.get("kind", ""))
            table.add_row(manifest.name, folder.name, kind, *numbers, size)
        else:
            table.add_row(folder.parent.name, folder.name, "not complete", "", "", "", size)
    console = Console()
    console.print(table)
    console.print(f"everything lies in {cache_dir}", soft_wrap=True)


def verify(
    cache_dir: Path, wanted: str = "", *, repair: bool = False, prune: bool = False, workers: int
) -> bool:
    """Check data sets and print what is wrong with them.

    Returns:
        Whether no damage was found.
    """
    from rich.console import Console

    from medvlp.data import verification
    from medvlp.data.engine import LocalEngine
    from medvlp.data.progress import RateBar

    console, sound = Console(), True
    for folder in _chosen(cache_dir, wanted):
        name = f"{folder.parent.name}/{folder.name}"
        with RateBar(f"verifying {name}") as bar:
            findings = verification.verify_dataset(folder, LocalEngine(workers), bar.advance)
        damage = [finding for finding in findings if finding.kind in verification.DAMAGE]
        _print(console, name, findings)
        if repair or prune:
            deleted = verification.repair(folder, findings, prune=prune)
            console.print(f"{name}: {deleted:,} files deleted")
        if damage and repair:
            console.print(f"make them again: python -m medvlp.prepare data=... ({name})")
        sound = sound and not damage
    return sound


def _print(console: "Console", name: str, findings: "list[Finding]") -> None:
    from rich.table import Table

    if not findings:
        console.print(f"{name}: sound")
        return
    table = Table("kind", "what", "file", title=name, title_justify="left")
    for finding in findings[:_SHOWN]:
        table.add_row(finding.kind, finding.reason, str(finding.path))
    console.print(table)
    if len(findings) > _SHOWN:
        console.print(f"and {len(findings) - _SHOWN:,} more")


def _chosen(cache_dir: Path, wanted: str) -> list[Path]:
    from medvlp.data.tables import nearest
    from medvlp.data.verification import prepared_folders

    folders = {
        f"{folder.parent.name}/{folder.name}": folder for folder in prepared_folders(cache_dir)
    }
    chosen = [folder for name, folder in folders.items() if f"{name}/".startswith(f"{wanted}/")]
    if wanted and not chosen:
        names = {*folders, *(name.split("/")[0] for name in folders)}
        raise ValueError(f"{cache_dir} holds no {wanted!r}{nearest(wanted, names)}")
    return chosen if wanted else list(folders.values())


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser("python -m medvlp.cache", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="data sets and recipes, counts, sizes")
    checking = verbs.add_parser("verify", help="find damage; code 1 if there is any")
    for command in (listing, checking):
        command.add_argument("dataset", nargs="?", default="", help="NAME or NAME/RECIPE")
        command.add_argument("--cache", type=Path, help="its folder; default: paths.cache")
    checking.add_argument("--repair", action="store_true", help="delete what is damaged")
    checking.add_argument("--prune", action="store_true", help="delete what no manifest names")
    checking.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    with one_line_errors():
        cache_dir = options.cache or _configured()
        if options.verb == "list":
            list_datasets(cache_dir, options.dataset)
            return
        switches = {"repair": options.repair, "prune": options.prune}
        if not verify(cache_dir, options.dataset, workers=options.workers, **switches):
            sys.exit(1)


def _configured() -> Path:
    from medvlp import config

    return Path(config.compose([], "prepare").paths.cache)


if __name__ == "__main__":
    main()
