"""README's commands are the ones that CI runs and that the verbs understand."""

import re
from pathlib import Path

import pytest

from medvlp import __main__, config

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_ci_calls_the_test_command_of_the_readme():
    (command,) = re.findall(r"^python3 -m venv.*pytest.*$", README, re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_verb_that_the_readme_names_is_there():
    named = set(re.findall(r"python -m medvlp\.([a-z_]+)", README))
    assert named <= set(__main__.VERBS)


@pytest.mark.parametrize(
    "command", re.findall(r"-m medvlp\.train((?: +[\w/.]+=(?!NAME)[^ \n`#\\]+)+)", README)
)
def test_the_overrides_of_training_commands_compose(command):
    config.check_command_line(command.split(), "train")


def test_experiments_have_a_folder_with_a_readme():
    for file in (config.config_dir() / "experiment").rglob("*.yaml"):
        name = file.relative_to(config.config_dir() / "experiment").with_suffix("")
        assert (ROOT / "experiments" / name / "README.md").is_file(), name
