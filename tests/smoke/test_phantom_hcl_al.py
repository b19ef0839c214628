"""HCL-AL's stages go the whole way on their twin."""

import json
from pathlib import Path

from medvlp.data.tables import read_table

from .test_phantom_experiments import run_verb

SMALL = [
    "data.source.num_train=24",
    "data.source.num_test=6",
    "data.source.shape=[48,32,32]",
    "data.batch_size=8",
    "engine.num_workers=0",
    "trainer.max_steps=2",
    "trainer.log_every_n_steps=1",
    "trainer.limit_train_batches=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.enable_progress_bar=false",
]


def test_both_stages_from_nothing_to_the_table_of_the_cascade(tmp_path: Path) -> None:
    run = tmp_path / "run"
    name = "experiment=phantom/hcl_al"
    printed = run_verb("train", name, *SMALL, f"paths.run={run}", folder=tmp_path)
    assert "all 3 stages have ended" in printed and "generated" not in printed
    for table in ("coarse/coarse", "answers/coarse", "fine/fine", "fine/cascade"):
        assert json.loads((run / table / "results.json").read_text())["macros"], table
    assert len([*(tmp_path / "data/cache/phantom_autopet").iterdir()]) == 1  # prepared once
    held_out, answered, named = (
        read_table(run / table / "predictions.csv", ("sample_id", "coarse_labels"))
        for table in ("coarse/coarse", "answers/coarse", "fine/cascade")
    )
    assert len(answered) > len(held_out) == len(named) > 0
    assert all(row["coarse_labels"].count(",") == 2 for row in answered)
    assert [r["coarse_labels"] for r in named] == [r["coarse_labels"] for r in held_out]
