"""What lies in a folder, found by listing: no path is ever built from a table."""

import os
from pathlib import Path


def folders_in(folder: Path) -> list[Path]:
    """List the folders within a folder, hidden ones left out, in the order of their names."""
    entries = [entry for entry in os.scandir(folder) if entry.is_dir()]
    return sorted(Path(entry.path) for entry in entries if not entry.name.startswith("."))
