"""Golden cases and the handlers that run them.

A handler is a function `(case: Case) -> None` that builds what `case.config` says, feeds
`case.inputs` and compares with `case.outputs`. It is found by (system, kind), so that new cases
of a known kind need no new code. Any module `tests/parity/<system>_*.py` is imported on its own.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

REPOSITORY = Path(__file__).parents[2]
SHIPPED = REPOSITORY / "tests" / "goldens"
RELATIVE_TOLERANCE = 1e-5


@dataclass
class Case:
    """One golden folder."""

    path: Path
    config: Mapping[str, Any]
    compared: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def system(self) -> str:
        return str(self.config["system"])

    @property
    def kind(self) -> str:
        return str(self.config["kind"])

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return self._tensors("inputs")

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        return self._tensors("outputs")

    @cached_property
    def state_dict(self) -> dict[str, Tensor]:
        return self._tensors("state_dict")

    def assert_close(
        self, name: str, actual: Tensor, expected: Tensor, atol: float | None = None
    ) -> None:
        """Compare with 1e-5 * max(1, largest golden value), or `atol` if the README gives one.

        Integers and booleans must be equal exactly.
        """
        self.compared.add(name)
        what = f"{self.name}: {name}"
        assert actual.shape == expected.shape, (
            f"{what} has shape {tuple(actual.shape)}, the golden has {tuple(expected.shape)}"
        )
        if not expected.is_floating_point():
            assert torch.equal(actual.to(expected.dtype), expected), f"{what} differs"
            return
        if expected.numel() == 0:
            return
        wanted, got = expected.detach().double(), actual.detach().double().cpu()
        largest = float(wanted.abs().max())
        tolerance = RELATIVE_TOLERANCE * max(1.0, largest) if atol is None else atol
        error = float((got - wanted).abs().max())
        assert error <= tolerance, f"{what}: largest error {error:.3e} > {tolerance:.3e}"

    def assert_all_compared(self) -> None:
        """Fail if the golden holds an output that the handler did not look at."""
        left = sorted(set(self.outputs) - self.compared)
        assert not left, f"{self.name}: outputs never compared: {', '.join(left)}"

    def _tensors(self, name: str) -> dict[str, Tensor]:
        path = self.path / f"{name}.safetensors"
        return load_file(path) if path.is_file() else {}


Handler = Callable[[Case], None]
_HANDLERS: dict[tuple[str, str], Handler] = {}


def handles(system: str, kind: str) -> Callable[[Handler], Handler]:
    """Register the decorated function for all cases of this system and kind."""

    def register(handler: Handler) -> Handler:
        _HANDLERS[system, kind] = handler
        return handler

    return register


def handler_of(case: Case) -> Handler | None:
    """Look up the handler of a case; None where its kind is not covered yet."""
    return _HANDLERS.get((case.system, case.kind))


def external_folder() -> Path:
    """Say where the full set of goldens lies: $MEDVLP_GOLDENS, or beside the repository."""
    configured = os.environ.get("MEDVLP_GOLDENS")
    folder = Path(configured) if configured else REPOSITORY.parent / "shared" / "goldens"
    return folder.expanduser().resolve()


def find_cases(*folders: Path) -> dict[str, Case]:
    """Walk `<folder>/<system>/<case>/config.json`; a later folder replaces cases of an earlier."""
    cases: dict[str, Case] = {}
    for folder in folders:
        for path in sorted(folder.glob("*/*/config.json")):
            case = Case(path.parent, json.loads(path.read_text(encoding="utf-8")))
            cases[case.name] = case
    return dict(sorted(cases.items()))
