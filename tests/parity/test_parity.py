"""One test per golden case: those that the repository carries and those of $MEDVLP_GOLDENS."""

import pytest

from .registry import SHIPPED, Case, external_folder, find_cases, handler_of

EXTERNAL = external_folder()
CASES = find_cases(SHIPPED, EXTERNAL)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_golden(case: Case) -> None:
    handler = handler_of(case)
    if handler is None:
        pytest.skip(f"not yet: {case.name} ({case.kind})")
    handler(case)


def test_the_full_set_of_goldens_is_there() -> None:
    if not EXTERNAL.is_dir():
        pytest.skip(f"no goldens at {EXTERNAL}: set MEDVLP_GOLDENS to run the full set")
    assert CASES
