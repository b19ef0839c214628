"""The course of writing a twin: `twin.json`, the refusal of foreign folders, many processes.

A `TwinWriter` begins with `prepare_root`, which says whether the twin is there already, paints its
studies with `paint_all`, writes its tables, and ends with `finish`. A twin that was interrupted
begins again and leaves out the volumes that are there: write a volume last, after what belongs to
it.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.progress import Progress, TextColumn, TimeRemainingColumn

from medvlp.phantom.tables import write_json
from medvlp.phantom.twin_parameters import TwinParameters

RECORD = "twin.json"

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class TwinWriter(Generic[Item, Result]):
    """How the twin of a data set is planned, painted and recorded.

    Attributes:
        title: Name of the real data set.
        version: Of what is written; count up whenever content changes.
        plan: Lists the studies.
        write: Writes one, called as `write(root, parameters, study)`; importable by name.
        write_tables: Writes what comes last, called as `write_tables(root, written)`, and returns
            facts for `twin.json`: `num_volumes`, `hard_cases` (a list of `{"kind", "study"}`).
        state: States the parameters as `twin.json` has them.
        takes_kinds: Whether its findings can be chosen.
    """

    title: str
    version: int
    plan: Callable[[TwinParameters], Sequence[Item]]
    write: Callable[[Path, TwinParameters, Item], Result]
    write_tables: Callable[[Path, list[Result]], Mapping[str, Any]]
    state: Callable[[TwinParameters], dict[str, Any]] = TwinParameters.as_json
    takes_kinds: bool = False

    def build(self, root: str | Path, parameters: TwinParameters, *, num_workers: int) -> Path:
        """Write the twin, or finish one that was interrupted; a finished one is left as it is.

        Args:
            root: Where to.
            parameters: All that decides the content.
            num_workers: Processes; 0 writes in this one.

        Returns:
            `root`.

        Raises:
            ValueError: If a parameter is out of range, or `root` holds something else.
        """
        root, stated = Path(root), self.state(parameters)
        parameters.check()
        if parameters.prevalence is not None and "prevalence" not in stated:
            raise ValueError(f"the twin of {self.title} takes no --prevalence")
        if parameters.kinds is not None and not self.takes_kinds:
            raise ValueError(f"the twin of {self.title} does not let you choose its kinds")
        if prepare_root(root, self.title, version=self.version, parameters=stated):
            return root
        write = partial(self.write, root, parameters)
        title = f"Painting {self.title} twin"
        written = paint_all(write, self.plan(parameters), num_workers, title)
        facts = self.write_tables(root, written)
        finish(root, self.title, version=self.version, parameters=stated, facts=facts)
        return root


def prepare_root(root: Path, twin_of: str, *, version: int, parameters: Mapping[str, Any]) -> bool:
    """Begin a twin, or tell that it is finished already.

    Args:
        root: Made if it is not there; gets `twin.json`.
        twin_of: Name of the real data set.
        version: Of what the writer writes; count up whenever content changes.
        parameters: All that decides the content, in JSON types.

    Returns:
        True if the twin is complete and nothing is to be done.

    Raises:
        ValueError: If `root` holds something else, or a twin of other parameters.
    """
    wanted = _record(twin_of, version, parameters, finished=False)
    record = root / RECORD
    if record.exists():
        found = json.loads(record.read_text(encoding="utf-8"))
        _refuse_other(root, found, wanted)
        if found.get("finished"):
            return True
    elif root.is_dir() and any(not entry.name.startswith(".") for entry in root.iterdir()):
        raise ValueError(
            f"{root} holds files that are not a twin (no {RECORD}); nothing is written there: "
            "choose another folder"
        )
    root.mkdir(parents=True, exist_ok=True)
    write_json(record, wanted)
    return False


def finish(
    root: Path,
    twin_of: str,
    *,
    version: int,
    parameters: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Mark a twin as complete.

    Args:
        root: Of the twin.
        twin_of: As given to `prepare_root`.
        version: As given to `prepare_root`.
        parameters: As given to `prepare_root`.
        facts: More to state: `num_volumes`, `hard_cases` (a list of `{"kind", "study"}`).
    """
    record = _record(twin_of, version, parameters, finished=True)
    write_json(root / RECORD, {**record, **(facts or {})})


def paint_all(
    function: Callable[[Item], Result], items: Sequence[Item], num_workers: int, title: str
) -> list[Result]:
    """Call a function on every item, in order, with progress and rate.

    Args:
        function: Writes one item; importable by name if there are workers (`functools.partial` of
            such a function is).
        items: One for each study.
        num_workers: Processes; 0 works in this one.
        title: Of the progress bar, such as "Painting CT-RATE twin".
    """
    columns = (*Progress.get_default_columns()[:3], TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeRemainingColumn()) as progress, _pool(num_workers) as pool:
        task = progress.add_task(title, total=len(items), rate="")
        results = pool.map(function, items, chunksize=8) if pool else map(function, items)
        written: list[Result] = []
        for result in results:
            written.append(result)
            rate = len(written) / max(progress.tasks[task].elapsed or 0.0, 1e-3)
            progress.update(task, advance=1, rate=f"{rate:.0f} studies/s")
    return written


def _record(
    twin_of: str, version: int, parameters: Mapping[str, Any], *, finished: bool
) -> dict[str, Any]:
    # a round trip through JSON, so that a tuple equals the list that is read back
    plain = json.loads(json.dumps(dict(parameters)))
    return {"twin_of": twin_of, "version": version, "parameters": plain, "finished": finished}


def _refuse_other(root: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    there = found.get("parameters", {})
    differing = [
        f"{key}: found {found.get(key)}, asked for {wanted[key]}"
        for key in ("twin_of", "version")
        if found.get(key) != wanted[key]
    ] + [
        f"{key}: found {there.get(key)}, asked for {value}"
        for key, value in wanted["parameters"].items()
        if there.get(key) != value
    ]
    if differing:
        raise ValueError(
            f"{root} holds a twin of other parameters ({'; '.join(differing)}); "
            "choose another folder, or delete this one"
        )


@contextmanager
def _pool(num_workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Start processes with one thread each: many small arrays gain nothing from more."""
    if num_workers == 0:
        yield None
        return
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
            yield pool
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
