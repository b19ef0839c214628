import subprocess
import sys

import pytest

from medvlp.phantom.__main__ import main


def test_the_verb_writes_a_twin_and_says_where(tmp_path, capsys):
    folder = tmp_path / "twin"
    size = ["--shape", "20", "24", "24", "--workers", "0"]
    main(["ct_rate", str(folder), "--studies", "2", "--valid-studies", "1", *size])
    assert (folder / "dataset/metadata/train_metadata.csv").is_file()
    assert str(folder) in capsys.readouterr().out


def test_a_wrong_size_is_an_error_with_advice(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["ct_rate", str(tmp_path), "--studies", "0"])
    assert "at least one training study" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from medvlp.phantom.__main__ import build_parser; build_parser();"
        "assert not {'torch', 'nibabel', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
