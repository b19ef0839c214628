"""The findings of an MR-RATE twin can be chosen; those of the other twins cannot."""

from pathlib import Path

import pytest

from medvlp.phantom.mr_rate import PhantomMRRate
from medvlp.phantom.mr_rate_plan import KINDS, plan_studies
from medvlp.phantom.pub_brain_5 import write_pub_brain_5_twin
from medvlp.phantom.twin_parameters import TwinParameters


def test_chosen_findings_come_in_turn():
    wanted = TwinParameters(7, 3, kinds=("stroke", "normal", "glioma"))
    kinds = [study.kinds for study in plan_studies(wanted)]
    turn = [("stroke",), (), ("glioma",)]
    assert kinds == [*turn, *turn, ("stroke",), *turn]


def test_hard_cases_show_chosen_findings_only():
    wanted = TwinParameters(2, 1, hard_cases=True, kinds=("glioma",))
    assert {study.kinds for study in plan_studies(wanted)} == {("glioma",)}


def test_without_a_choice_all_findings_come_and_the_record_does_not_change():
    wanted = TwinParameters(9, 0)
    assert tuple(study.kinds for study in plan_studies(wanted)) == KINDS
    assert "kinds" not in wanted.as_json()


def test_the_source_states_and_checks_the_choice(tmp_path: Path):
    source = PhantomMRRate(str(tmp_path), kinds=["stroke", "glioma"])
    assert source.describe()["kinds"] == ["stroke", "glioma"]
    with pytest.raises(ValueError, match=r"kinds is \['strok'\], expected a choice of \['normal'"):
        PhantomMRRate(str(tmp_path), kinds=["strok"])


def test_twins_of_fixed_findings_refuse_a_choice(tmp_path: Path):
    with pytest.raises(ValueError, match="Pub-Brain-5 does not let you choose its kinds"):
        write_pub_brain_5_twin(tmp_path / "twin", TwinParameters(1, 0, kinds=("glioma",)))
