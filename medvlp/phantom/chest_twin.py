"""The course of writing a twin of chest CTs: plan the sessions, paint each, state what is true."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from medvlp.phantom.chest_truth import write_truth
from medvlp.phantom.ct_rate_plan import HARD_KINDS, Session, TwinParameters, plan_sessions
from medvlp.phantom.twin import check_sizes, finish, paint_all, prepare_root

Written = TypeVar("Written")


@dataclass(frozen=True)
class ChestTwin:
    """Which twin is written, and where.

    Attributes:
        root: Gets the data set, `ground_truth/` and `twin.json`.
        title: Name of the real data set.
        version: Of what is written; count up whenever bytes change.
        parameters: All that decides the content.
        hard_kinds: Hard cases of the training split, if hard cases are wanted.
    """

    root: Path
    title: str
    version: int
    parameters: TwinParameters
    hard_kinds: Sequence[str] = HARD_KINDS

    def begin(self) -> bool:
        """Check the parameters and the folder; return True if the twin is finished already.

        Raises:
            ValueError: If a parameter is out of range, or the folder holds something else.
        """
        wanted = self.parameters
        check_sizes(wanted.num_train, wanted.num_valid, wanted.shape)
        if not 0 <= wanted.prevalence <= 1:
            raise ValueError(f"prevalence {wanted.prevalence} is not between 0 and 1")
        return prepare_root(self.root, self.title, version=self.version, parameters=asdict(wanted))

    def paint(self, write: Callable[[Session], Written], num_workers: int) -> list[Written]:
        """Write every session; `write` must be importable by name if there are workers."""
        sessions = plan_sessions(self.parameters, self.hard_kinds)
        return paint_all(write, sessions, num_workers, f"Painting {self.title} twin")

    def finish(self, sessions: Sequence[Session], truth: dict[str, Any], num_volumes: int) -> None:
        """Write what is true of the findings, and mark the twin as complete.

        Args:
            sessions: As they were painted.
            truth: Facts by the name that the session has in the data set, in the same order.
            num_volumes: In the data set.
        """
        write_truth(self.root, truth)
        hard = [
            {"kind": session.hard_case, "session": name}
            for session, name in zip(sessions, truth, strict=True)
            if session.hard_case
        ]
        finish(
            self.root,
            self.title,
            version=self.version,
            parameters=asdict(self.parameters),
            facts={"num_volumes": num_volumes, "hard_cases": hard},
        )
