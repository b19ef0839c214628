import csv
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medvlp.data.cache import VolumeCache, require_writable
from medvlp.data.ct_rate import CTRate
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.engine import Engine, LocalEngine, PreparationError
from medvlp.data.manifest import Manifest, is_prepared
from medvlp.data.preparation import Outcome, prepare_dataset
from medvlp.data.quality import write_montage
from medvlp.data.recipe import Prepared
from medvlp.data.scan import Scan
from medvlp.data.summary import label_prevalence, summarise

from .conftest import CTRateTree, raw_chest


def prepare(tree: CTRateTree, recipe: CTRecipe, **options: object) -> Manifest:
    source = CTRate(str(tree.root))
    cache_dir = tree.root.parent / "cache"
    fields = {"engine": LocalEngine(1), "cache_dir": cache_dir, **options}
    return prepare_dataset(source, recipe, **fields)


def quarantine(manifest_or_folder: Path) -> dict[str, str]:
    with (manifest_or_folder / "quarantine.csv").open(newline="") as file:
        return {row["path"]: row["reason"] for row in csv.DictReader(file)}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_prepared_volume_is_what_the_recipe_makes(tree: CTRateTree, recipe: CTRecipe) -> None:
    tree.write()
    manifest = prepare(tree, recipe)
    assert manifest.counts == {
        "studies": 8, "scans": 16, "patients": 8, "train": 6, "val": 0, "test": 2,
    }  # fmt: skip
    assert manifest.folder.parent.name == "ct_rate" and manifest.folder.name == recipe.hash
    study = manifest[0]
    assert study["scans"][0]["shape"] == [5, 15, 12]  # int(8*2/3), int(10*1.5), int(12*1)
    stored = manifest.cache.read("train_1_a_1")
    assert stored.shape == (5, 15, 12) and stored.dtype == np.float16
    assert stored.max() == pytest.approx(50, abs=15) and stored.min() < -980
    part = manifest.cache.read("train_1_a_1", np.s_[1:3, 2:9, 4:5])
    np.testing.assert_array_equal(part, stored[1:3, 2:9, 4:5])
    assert not quarantine(manifest.folder)
    assert raw_chest(0).shape == (12, 10, 8)


def test_resuming_rewrites_nothing_and_equals_an_uninterrupted_run(
    tree: CTRateTree, recipe: CTRecipe
) -> None:
    tree.write()

    class Killed(Engine):
        def run(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
            yield from map(function, items[:5])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tree, recipe, engine=Killed())
    half = tree.root.parent / "cache" / "ct_rate" / recipe.hash
    assert not is_prepared(half)
    leftover = half / "volumes" / "00" / "x.b2nd.1.tmp"
    leftover.parent.mkdir(exist_ok=True)
    leftover.write_bytes(b"half a file")
    times = {path: path.stat().st_mtime_ns for path in half.rglob("*.b2nd")}
    outcomes: list[Outcome] = []
    resumed = prepare(tree, recipe, on_scan=lambda outcome, total: outcomes.append(outcome))
    assert sum(outcome.reused for outcome in outcomes) == 5 == len(times)
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    whole = prepare(tree, recipe, cache_dir=tree.root.parent / "other")
    assert not leftover.exists()
    assert contents(resumed.folder) == contents(whole.folder)


SLOW_RUN = """
import sys
import time
from pathlib import Path

from medvlp.data import engine
from medvlp.data.ct_rate import CTRate
from medvlp.data.ct_recipe import CTRecipe
from medvlp.data.preparation import prepare_dataset


class SlowRecipe(CTRecipe):
    def prepare(self, scan, *, device="cpu"):
        time.sleep(0.3)
        return super().prepare(scan, device=device)


if __name__ == "__main__":
    root, cache_dir = sys.argv[1:]
    engine._RECENT, engine._WORTH_A_POOL_SECONDS = 1, 0.0
    numbers = dict(window_hu=(-1150.0, 350.0), mean=0.449, std=0.226)
    recipe = SlowRecipe((6, 8, 8), (3.0, 1.0, 1.0), **numbers)
    prepare_dataset(CTRate(root), recipe, cache_dir=Path(cache_dir), engine=engine.LocalEngine(2))
"""


def test_a_killed_run_is_finished_by_the_next(tree: CTRateTree, recipe: CTRecipe) -> None:
    tree.write()
    tree.path("train_2_a_1.nii.gz").write_bytes(b"damaged")
    script = tree.root.parent / "slow_run.py"
    script.write_text(SLOW_RUN)
    arguments = [sys.executable, str(script), str(tree.root), str(tree.root.parent / "cache")]
    run = subprocess.Popen(arguments, start_new_session=True, stderr=subprocess.DEVNULL)
    folder = tree.root.parent / "cache" / "ct_rate" / recipe.hash
    while len(list(folder.rglob("*.b2nd"))) < 6:
        assert run.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    run.kill()
    run.wait()
    # the next run waits for the lock, and that is free when the killed one's processes are gone
    assert not is_prepared(folder)
    before = {path: path.stat() for path in folder.rglob("*.b2nd")}
    assert 6 <= len(before) < 15
    options = {"max_quarantine_share": 0.1}
    resumed = prepare(tree, recipe, **options)
    for path, state in before.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (state.st_ino, state.st_mtime_ns)
    whole = prepare(tree, recipe, cache_dir=tree.root.parent / "other", **options)
    assert contents(resumed.folder) == contents(whole.folder)


def test_two_runs_take_turns(tree: CTRateTree, recipe: CTRecipe) -> None:
    tree.write()
    made: list[Outcome] = []
    runs = [
        threading.Thread(
            target=prepare, args=(tree, recipe), kwargs={"on_scan": lambda o, total: made.append(o)}
        )
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [outcome.reused for outcome in made] == [False] * 16 + [True] * 16


def test_a_scan_without_one_of_its_fields_is_made_again(tree: CTRateTree) -> None:
    class TwoFields(CTRecipe):
        fields = ("image", "halved")

        def prepare(self, scan: Scan, *, device: str = "cpu") -> Prepared:
            prepared = super().prepare(scan, device=device)
            halved = prepared.arrays["image"][::2]
            return Prepared({**prepared.arrays, "halved": halved}, prepared.facts)

    tree.write()
    recipe = TwoFields((6, 8, 8), (3.0, 1.0, 1.0), window_hu=(-1e3, 1e3), mean=0.0, std=1.0)
    first = prepare(tree, recipe)
    whole = contents(first.folder)
    first.cache.path_of("train_1_a_1", "halved").unlink()
    outcomes: list[Outcome] = []
    prepare(tree, recipe, on_scan=lambda outcome, total: outcomes.append(outcome))
    assert [o.scan_id for o in outcomes if not o.reused] == ["train_1_a_1"]
    assert contents(first.folder) == whole


def test_a_data_set_of_nothing_but_damage_is_still_accounted_for(
    tree: CTRateTree, recipe: CTRecipe, tmp_path: Path
) -> None:
    tree.write()
    for path in tree.root.rglob("*.nii.gz"):
        path.write_bytes(b"damaged")
    manifest = prepare(tree, recipe, max_quarantine_share=1.0)
    assert len(manifest) == 0 and len(quarantine(manifest.folder)) == 24
    assert dict(summarise(manifest))["scans"] == "0"
    write_montage(manifest, tmp_path / "quality.png")


def test_what_is_not_finite_is_refused(tree: CTRateTree, recipe: CTRecipe) -> None:
    class Dividing(CTRecipe):
        def prepare(self, scan: Scan, *, device: str = "cpu") -> Prepared:
            image = super().prepare(scan, device=device).arrays["image"].copy()
            image[0, 0, 0] = np.nan
            return Prepared({"image": image})

    tree.write()
    recipe = Dividing((6, 8, 8), (3.0, 1.0, 1.0), window_hu=(-1e3, 1e3), mean=0.0, std=1.0)
    with pytest.raises(PreparationError, match="16 x the prepared image has values that are not"):
        prepare(tree, recipe)


def test_a_changed_file_and_a_damaged_entry_are_made_again(
    tree: CTRateTree, recipe: CTRecipe
) -> None:
    tree.write()
    first = prepare(tree, recipe)
    whole = contents(first.folder)
    first.cache.path_of("train_1_a_1").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"train_1_a_1.*is damaged; delete it"):
        first.cache.read("train_1_a_1")
    tree.metadata["train"][2]["RescaleIntercept"] = -1000
    tree.write_tables()
    outcomes: list[Outcome] = []
    prepare(tree, recipe, on_scan=lambda outcome, total: outcomes.append(outcome))
    made = [outcome.scan_id for outcome in outcomes if not outcome.reused]
    assert sorted(made) == ["train_1_a_1", "train_2_a_1"]
    again = contents(first.folder)
    assert sum(whole[name] != again[name] for name in whole if name.endswith("b2nd")) == 1


def test_bad_scans_are_quarantined_with_path_and_reason(tree: CTRateTree, recipe: CTRecipe) -> None:
    tree.write()
    for name in ("train_1_a_1.nii.gz", "train_1_a_2.nii.gz"):
        path = tree.path(name)
        path.write_bytes(path.read_bytes()[:60])
    tree.metadata["train"][4]["RescaleIntercept"] = 0
    tree.write_tables()
    manifest = prepare(tree, recipe, max_quarantine_share=0.5)
    reasons = quarantine(manifest.folder)
    assert "truncated" in reasons[str(tree.path("train_1_a_1.nii.gz"))]
    assert "intercept is missing" in reasons[str(tree.path("train_3_a_1.nii.gz"))]
    assert reasons["train_1_a"] == "none of its scans could be prepared"
    assert manifest.counts["studies"] == 7 and len(reasons) == 4
    assert sum(manifest.skips.values()) == 4
    with pytest.raises(PreparationError, match=r"3 of 16 scans were refused.*quarantine\.csv") as e:
        prepare(tree, recipe, max_quarantine_share=0.1)
    assert "allowed: 2 x " in str(e.value) and "; 1 x " in str(e.value)  # most frequent first


def test_processes_give_what_one_process_gives(
    tree: CTRateTree, recipe: CTRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.write()
    one = prepare(tree, recipe)
    monkeypatch.setattr("medvlp.data.engine._WORTH_A_POOL_SECONDS", 0.0)
    two = prepare(tree, recipe, engine=LocalEngine(2), cache_dir=tree.root.parent / "two")
    assert contents(one.folder) == contents(two.folder)


def test_no_permission_is_said_before_any_work(tree: CTRateTree, recipe: CTRecipe) -> None:
    blocked = tree.root.parent / "file"
    blocked.touch()
    with pytest.raises(PermissionError, match=r"cannot write to .*paths\.cache"):
        prepare(tree, recipe, cache_dir=blocked / "cache")  # the raw data are not even there
    require_writable(tree.root.parent / "new" / "folder")


def test_a_manifest_whose_parts_do_not_match_is_not_complete(
    tree: CTRateTree, recipe: CTRecipe
) -> None:
    tree.write()
    manifest = prepare(tree, recipe)
    studies = manifest.folder / "studies.parquet"
    studies.write_bytes(studies.read_bytes() + b" ")
    assert not is_prepared(manifest.folder)
    with pytest.raises(FileNotFoundError, match=r"no complete manifest; run: python -m medvlp"):
        Manifest(manifest.folder)


def test_ids_never_become_paths(tmp_path: Path) -> None:
    cache = VolumeCache(tmp_path / "cache")
    cache.write("../../../etc/x", np.zeros((2, 2, 2), np.int16), {})
    assert cache.read("../../../etc/x").shape == (2, 2, 2)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [cache.path_of("../../../etc/x")]
    with pytest.raises(FileNotFoundError, match="is not in the cache"):
        cache.read("another")


def test_summary_and_picture(tree: CTRateTree, recipe: CTRecipe, tmp_path: Path) -> None:
    tree.write()
    manifest = prepare(tree, recipe)
    rows = dict(summarise(manifest))
    assert rows["studies"] == "8 (train 6, test 2)"
    assert rows["raw spacing, mm"] == "2 x 1.5 x 1 (from 2 x 1.5 x 1 to 2 x 1.5 x 1)"
    assert rows["raw orientation"] == "SPL 16"
    prevalence = dict(label_prevalence(manifest))
    assert prevalence["Lung nodule"] == "train 100.0 % of 6, test 100.0 % of 2"
    write_montage(manifest, tmp_path / "quality.png", num_scans=2)
    assert (tmp_path / "quality.png").read_bytes()[:4] == b"\x89PNG"
