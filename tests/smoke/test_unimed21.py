"""The evaluation over 21 labelled sets, from the command line to the tables."""

import json
from pathlib import Path

import pytest

from medvlp import evaluate
from medvlp.data.catalogue_sets import Registry
from medvlp.user_errors import one_line_errors
from tests.data.catalogue_files import write_catalogue

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:::lightning"),  # remarks on runs as tiny as these
]
TINY = [
    "model=unimed_clip_vit_b16",
    "model.vision.image_size=32",
    "model.vision.width=32",
    "model.vision.depth=1",
    "model.vision.num_heads=2",
    "model.text.config.hidden_size=32",
    "model.text.config.num_hidden_layers=1",
    "model.text.config.num_attention_heads=2",
    "model.text.config.intermediate_size=32",
    "model.image_projection.in_features=32",
    "model.image_projection.out_features=16",
    "model.text_projection.in_features=32",
    "model.text_projection.hidden_features=24",
    "model.text_projection.out_features=16",
    "~tokenizer",
    "+tokenizer={_target_: medvlp.text.tokenizers.WordPieceTokenizer, vocab: phantom, "
    "context_length: 256}",
    "data.recipe.size=32",
    "data.batch_size=16",
    "data.num_workers=0",
    "trainer.enable_progress_bar=false",
    "evaluation.unimed21.num_resamples=10",
    "callbacks.results.published_model=tiny",
]


def test_tables_of_the_sets_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    write_catalogue(raw, Registry.load(), leave_out=("PCAM", "acl_mri", "meniscal_mri"))
    (raw / "BACH" / "BACH" / "microscopy_ground_truth.csv").unlink()
    where = [f"paths.raw={raw}", f"paths.data={tmp_path / 'data'}", f"paths.run={tmp_path}"]
    with one_line_errors():
        evaluate.run(
            [
                *("test", "--experiment=phantom/hlip_ctrate"),
                *("--data=unimed21", "--evaluation=unimed21"),
                *where,
                *TINY,
            ]
        )
    tree = json.loads((tmp_path / "unimed21/results.json").read_text())
    assert set(tree["skipped"]) == {"PCAM", "acl_mri", "meniscal_mri", "BACH"}
    assert "microscopy_ground_truth.csv is not there" in tree["skipped"]["BACH"]
    assert "does not name it; add its path" in tree["skipped"]["PCAM"]
    rows = {macro["name"]: macro["figures"] for macro in tree["macros"]}
    assert rows["mean"]["n_sets"]["value"] == 17
    assert rows["mri"]["acc"]["value"] is None
    assert rows["CT_axial"]["n"]["value"] == 11
    text = capsys.readouterr().out
    assert "mean over" in text and "missing: meniscal_mri, acl_mri, PCAM, BACH" in text
    for name in ("sets.png", "table.md", "predictions.csv"):
        assert (tmp_path / "unimed21" / name).is_file()
    assert (tmp_path / "results/unimed21/tiny/slip.txt").read_text().count('"task"') == 17
