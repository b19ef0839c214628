import subprocess
import sys
from importlib.util import find_spec

import pytest

from medvlp.phantom.__main__ import main
from medvlp.phantom.registry import TWINS

SIZE = ["--shape", "20", "24", "24", "--workers", "0", "--studies", "2"]


def test_the_verb_writes_a_twin_and_says_where(tmp_path, capsys):
    folder = tmp_path / "twin"
    main(["ct_rate", str(folder), "--valid-studies", "1", *SIZE])
    assert (folder / "dataset/metadata/train_metadata.csv").is_file()
    assert str(folder) in capsys.readouterr().out


def test_every_twin_takes_the_same_options(tmp_path, capsys):
    main(["rad_chestct", str(tmp_path / "twin"), "--test-studies", "1", "--seed", "4", *SIZE])
    assert len(list((tmp_path / "twin").glob("*.npz"))) == 3
    assert "Rad-ChestCT twin" in capsys.readouterr().out


@pytest.mark.parametrize("name", TWINS)
def test_every_registered_twin_has_a_writer(name):
    assert find_spec(TWINS[name].writer.partition(":")[0]), name
    assert callable(TWINS[name].load())


def test_a_wrong_size_is_an_error_with_advice(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["ct_rate", str(tmp_path), "--studies", "0"])
    assert "at least one training study" in capsys.readouterr().err


def test_an_option_that_a_twin_has_not_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["autopet", str(tmp_path), "--prevalence", "0.5"])
    assert "takes no --prevalence" in capsys.readouterr().err


def test_an_unknown_twin_is_refused_with_the_known_ones(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["ct-rate", str(tmp_path)])
    assert "'rad_chestct'" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from medvlp.phantom.__main__ import build_parser; build_parser();"
        "assert not {'torch', 'nibabel', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
