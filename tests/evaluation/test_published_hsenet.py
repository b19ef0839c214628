import pytest

from medvlp.evaluation.published_hsenet import main, score_table
from medvlp.evaluation.results import Results


def test_a_table_of_reports(tmp_path, capsys):
    table = tmp_path / "reports.csv"
    table.write_text("Ground Truth,pred\nNo pleural effusion.,No pleural effusion.\nEmphysema.,\n")
    main([str(table), "--out", str(tmp_path), "--resamples", "10"])
    metrics = Results.from_json(tmp_path / "results.json").metrics()
    assert metrics["text_rougeL"] == 0.5
    assert metrics["report_labels_f1_micro"] == 0
    assert "report_generation" in capsys.readouterr().out


def test_a_table_of_answers(tmp_path):
    table = tmp_path / "answers.csv"
    table.write_text("Question,Ground Truth,pred\nWhere?,Lung/Left lung,lung\nWhere?,Heart,Heart\n")
    metrics = score_table(table, num_resamples=10).metrics()
    assert metrics["place_micro_acc_class"] == 1
    assert metrics["place_micro_acc_text"] == 0.5
    with pytest.raises(SystemExit, match="not there"):
        main([str(tmp_path / "none.csv")])
