import json
import subprocess
import sys

import pytest
import torch

from medvlp.bench.__main__ import BENCHMARKS, main
from medvlp.bench.record import bf16_units, machine, peak_memory_mib, publish
from medvlp.bench.timing import interleaved


def test_help_lists_all_benchmarks_and_imports_no_torch():
    code = (
        "import sys; from medvlp.bench.__main__ import build_parser, main; main(['--help']); "
        "build_parser('trunk', '').format_help(); assert 'torch' not in sys.modules"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert all(name in answer.stdout for name in BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_an_unknown_benchmark_is_an_error():
    with pytest.raises(SystemExit, match="no benchmark 'trunks'"):
        main(["trunks"])


def test_a_misspelt_model_or_override_is_one_line():
    with pytest.raises(SystemExit, match="no model 'tiny' in conf/model"):
        main(["trunk", "--models", "tiny", "--scans", "1"])
    with pytest.raises(SystemExit, match=r"did you mean data\.batch_size"):
        main(["step", "--overrides", "data.batchsize=2"])


def test_generator_benchmark_runs_and_writes_json(tmp_path, capsys):
    path = tmp_path / "phantom.json"
    main(["phantom", "--sizes", "16", "--studies", "1", "--json", str(path)])
    record = json.loads(path.read_text())
    assert record["rows"][0]["grid"] == "16^3"
    assert record["rows"][0]["volumes/s"] > 0
    assert record["machine"]["torch"] == torch.__version__
    assert "volumes/s" in capsys.readouterr().out


def test_timing_counts_all_rounds_but_the_first():
    calls = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = interleaved(works, 2, torch.device("cpu"))
    assert calls == ["a", "b"] * 3
    assert times["a"].repeats == 2 and times["a"].wall >= 0


def test_machine_facts_and_missing_values(capsys):
    publish("title", [{"name": "x", "value": None, "seconds": 0.123456}], ["a note"], None)
    output = capsys.readouterr().out
    assert "0.123" in output and "a note" in output and machine()["torch"] in output
    assert peak_memory_mib() > 10
    assert isinstance(bf16_units(), str)
