"""What a benchmark leaves behind: a table, and a JSON file that says where it was measured."""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from medvlp import __version__

Row = Mapping[str, Any]
MIN_WIDTH = 132  # a table cut to a narrow terminal loses its figures


def publish(title: str, rows: Sequence[Row], notes: Sequence[str], json_path: Path | None) -> None:
    """Print the rows as a table with notes; write them with the machine's facts if asked to."""
    _publish({title: rows}, notes, {"title": title, "rows": list(rows)}, json_path)


def publish_tables(
    title: str, tables: Mapping[str, Sequence[Row]], notes: Sequence[str], json_path: Path | None
) -> None:
    """Print several tables, by name, with notes for all of them; write them as `publish` does."""
    record = {"title": title, "tables": {name: list(rows) for name, rows in tables.items()}}
    _publish(tables, notes, record, json_path)


def _publish(
    tables: Mapping[str, Sequence[Row]],
    notes: Sequence[str],
    record: dict[str, Any],
    json_path: Path | None,
) -> None:
    console = Console()
    console.width = max(console.width, MIN_WIDTH)
    for title, rows in tables.items():
        console.print(_table(title, rows))
    facts = machine()
    hardware = facts["gpu"] or f"{facts['cpu']}, {facts['threads']} of {facts['cores']} threads"
    for note in [*notes, f"{hardware}; torch {facts['torch']}; {facts['commit']}"]:
        console.print(note, highlight=False, markup=False)
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        record |= {"notes": list(notes), "machine": facts}
        json_path.write_text(json.dumps(record, indent=1) + "\n")
        console.print(f"written: {json_path}", highlight=False)


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for k, column in enumerate(rows[0]):
        table.add_column(column, justify="right" if k else "left", no_wrap=not k)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def machine() -> dict[str, Any]:
    """Describe hardware, versions, commit and command."""
    return {
        "cpu": _cpu_name(),
        "cores": torch.multiprocessing.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16_units": bf16_units(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "medvlp": __version__,
        "python": platform.python_version(),
        "commit": _commit(),
        "command": "python -m medvlp.bench " + " ".join(sys.argv[1:]),
    }


def bf16_units() -> str:
    """Name what this CPU multiplies bfloat16 with: matrix tiles (AMX) or dot products (AVX512)."""
    known = ("amx_bf16", "avx512_bf16")
    return ", ".join(name for name in known if name in _cpu_info("flags").split())


def peak_memory_mib() -> float:
    """Return the largest resident set of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss survives exec on Linux: a child would start at its parent's
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    scale = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def cpu_seconds(processes: Sequence[int] = ()) -> float:
    """Return the CPU time of this process and of others, all their threads together."""
    total = time.process_time()
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return "-" if value is None else str(value)


def _cpu_name() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_info(key: str) -> str:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return ""
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "")


def _commit() -> str:
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return f"medvlp {__version__}"
    return answer.stdout.strip() or f"medvlp {__version__}"
