"""What the twins of chest CTs share: sessions to paint, `twin.json`, the facts of every session."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from medvlp.data.choices import check_choice
from medvlp.phantom.chest_truth import write_truth
from medvlp.phantom.ct_rate_plan import HARD_KINDS, Session, plan_sessions, prevalence_of
from medvlp.phantom.finding import LABELS
from medvlp.phantom.twin import TwinWriter
from medvlp.phantom.twin_parameters import TwinParameters

Written = TypeVar("Written")


def chest_writer(
    title: str,
    version: int,
    *,
    write: Callable[[Path, TwinParameters, Session], Written],
    write_tables: Callable[[Path, list[Written]], Mapping[str, Any]],
    hard_kinds: Sequence[str] = HARD_KINDS,
) -> TwinWriter[Session, Written]:
    """Plan sessions as CT-RATE has them.

    Args:
        title: Name of the real data set.
        version: Of what is written; count up whenever content changes.
        write: Writes a session; importable by name.
        write_tables: Writes what comes last, and returns `chest_facts`.
        hard_kinds: Hard cases of the training split, if hard cases are wanted.
    """
    plan = partial(plan_sessions, hard_kinds=hard_kinds)
    return TwinWriter(title, version, plan, write, write_tables, state_chest, takes_kinds=True)


def state_chest(parameters: TwinParameters) -> dict[str, Any]:
    """State the parameters as the `twin.json` of chest twins has them.

    Raises:
        ValueError: If a finding is unknown.
    """
    stated = {
        "num_train": parameters.num_train,
        "num_valid": parameters.num_test,
        "seed": parameters.seed,
        "shape": list(parameters.shape),
        "prevalence": prevalence_of(parameters),
        "hard_cases": parameters.hard_cases,
    }
    if parameters.kinds is None:
        return stated
    check_choice("kinds", parameters.kinds, LABELS)
    return stated | {"kinds": list(parameters.kinds)}


def chest_facts(
    root: Path, sessions: Sequence[Session], truth: dict[str, Any], num_volumes: int
) -> dict[str, Any]:
    """Write what is true of the findings, and return what `twin.json` states.

    Args:
        root: Of the twin.
        sessions: As they were painted.
        truth: Facts by the name that the session has in the data set, in the same order.
        num_volumes: In the data set.
    """
    write_truth(root, truth)
    hard = [
        {"kind": session.hard_case, "session": name}
        for session, name in zip(sessions, truth, strict=True)
        if session.hard_case
    ]
    return {"num_volumes": num_volumes, "hard_cases": hard}
