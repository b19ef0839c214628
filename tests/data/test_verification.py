"""Damage that `cache verify` must find, and that the next preparation must mend."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medvlp import cache as verb
from medvlp.data.ct_rate import CTRate
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.engine import LocalEngine
from medvlp.data.manifest import Manifest, is_prepared
from medvlp.data.preparation import prepare_dataset
from medvlp.data.verification import Finding, repair, verify_dataset

from .conftest import CTRateTree

SCAN = "train_2_a_1"


@pytest.fixture
def manifest(tree: CTRateTree, recipe: CTRecipe) -> Manifest:
    tree.write()
    return prepare(tree, recipe)


def prepare(tree: CTRateTree, recipe: CTRecipe) -> Manifest:
    cache_dir = tree.root.parent / "cache"
    source = CTRate(str(tree.root))
    return prepare_dataset(source, recipe, cache_dir=cache_dir, engine=LocalEngine(1))


def verify(manifest: Manifest) -> list[Finding]:
    return verify_dataset(manifest.folder, LocalEngine(1))


def flip_a_bit(path: Path, manifest: Manifest) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def cut(path: Path, manifest: Manifest) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def empty(path: Path, manifest: Manifest) -> None:
    path.write_bytes(b"")


def exchange(path: Path, manifest: Manifest) -> None:
    path.write_bytes(manifest.cache.path_of("train_1_a_1").read_bytes())


def other_shape(path: Path, manifest: Manifest) -> None:
    manifest.cache.write(SCAN, np.zeros((2, 3, 4), np.float16), {})


def not_finite(path: Path, manifest: Manifest) -> None:
    array = manifest.cache.read(SCAN)
    array[0, 0, 0] = np.nan
    manifest.cache.write(SCAN, array, {})


def other_facts(path: Path, manifest: Manifest) -> None:
    facts = manifest.cache.facts(SCAN) or {}
    facts["affine"] = np.eye(4).tolist()
    manifest.cache.write(SCAN, manifest.cache.read(SCAN), facts)


def delete(path: Path, manifest: Manifest) -> None:
    path.unlink()


def test_sound_data_have_no_findings(manifest: Manifest) -> None:
    counted: list[int] = []
    assert verify_dataset(manifest.folder, LocalEngine(1), counted.append) == []
    assert counted == [16] * 16


@pytest.mark.parametrize(
    ("spoil", "kind", "reason"),
    [
        (flip_a_bit, "damaged", "is damaged"),
        (cut, "damaged", "is damaged"),
        (empty, "damaged", "is damaged"),
        (exchange, "damaged", "holds another scan"),
        (other_shape, "damaged", r"\[2, 3, 4\] voxels, the manifest says \[5, 15, 12\]"),
        (not_finite, "damaged", "not finite"),
        (other_facts, "damaged", "not what the manifest says"),
        (delete, "missing", f"image of {SCAN}"),
    ],
)
def test_each_damage_is_found_and_mended(
    spoil: Callable[[Path, Manifest], None],
    kind: str,
    reason: str,
    manifest: Manifest,
    tree: CTRateTree,
    recipe: CTRecipe,
) -> None:
    path = manifest.cache.path_of(SCAN)
    whole = path.read_bytes()
    spoil(path, manifest)
    (finding,) = verify(manifest)
    assert (finding.kind, finding.path) == (kind, path)
    assert re.search(reason, finding.reason)
    repair(manifest.folder, [finding])
    assert not path.exists() and not is_prepared(manifest.folder)
    assert verify(prepare(tree, recipe)) == [] and path.read_bytes() == whole


def test_damage_anywhere_in_a_file_breaks_nothing(
    manifest: Manifest, tree: CTRateTree, recipe: CTRecipe
) -> None:
    path = manifest.cache.path_of(SCAN)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for place in generator.choice(len(whole), 60, replace=False):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(bytes(spoilt))
        findings = verify(manifest)
        assert {finding.path for finding in findings} <= {path}
        for finding in findings[:1]:
            repair(manifest.folder, [finding])
            prepare(tree, recipe)
        assert not findings or path.read_bytes() == whole


def test_waste_is_told_and_taken_away_when_asked(manifest: Manifest) -> None:
    manifest.cache.write("no such scan", np.zeros((2, 2, 2), np.int16), {})
    orphan = manifest.cache.path_of("no such scan")
    leftover = manifest.folder / "studies.parquet.0.tmp"
    leftover.touch()
    findings = verify(manifest)
    assert [(f.kind, f.path) for f in findings] == [("orphan", orphan), ("leftover", leftover)]
    assert repair(manifest.folder, findings) == 1 and orphan.exists()
    assert repair(manifest.folder, findings, prune=True) == 1 and not orphan.exists()
    assert is_prepared(manifest.folder) and verify(manifest) == []


def test_a_manifest_that_does_not_match_is_told(manifest: Manifest) -> None:
    studies = manifest.folder / "studies.parquet"
    studies.write_bytes(studies.read_bytes() + b" ")
    (finding,) = verify(manifest)
    assert finding.kind == "incomplete" and "prepare again" in finding.reason


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str | int | None:
    monkeypatch.setattr(sys, "argv", ["cache", *arguments])
    try:
        verb.main()
    except SystemExit as end:
        return end.code
    return 0


def test_the_verb(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    where = f"--cache={manifest.folder.parents[1]}"
    assert run(monkeypatch, "list", where) == 0
    told = capsys.readouterr().out
    assert "ct_rate" in told and manifest.recipe_hash in told and "16" in told
    assert run(monkeypatch, "verify", where) == 0
    assert f"ct_rate/{manifest.recipe_hash}: sound" in capsys.readouterr().out
    manifest.cache.path_of(SCAN).write_bytes(b"")
    assert run(monkeypatch, "verify", "ct_rate", where, "--repair") == 1
    told = capsys.readouterr().out
    assert "damaged" in told and "2 files deleted" in told
    assert run(monkeypatch, "verify", where) == 1
    assert "not complete" in (run(monkeypatch, "list", where), capsys.readouterr().out)[1]
    told = run(monkeypatch, "verify", "ct_rat", where)
    assert isinstance(told, str) and "did you mean 'ct_rate'" in told
    told = run(monkeypatch, "list", "--cache=absent")
    assert isinstance(told, str) and "there is no cache at absent" in told
