"""What the tables of published flags tell users to type exists in the configuration."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from medvlp import config, predict

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
README = EXPERIMENTS / "hlip_ctrate" / "README.md"
BASE = {
    "training": (["experiment=hlip_ctrate"], "train"),
    "preparation": (["data=ct_rate"], "prepare"),
    "evaluation": (["experiment=hlip_ctrate"], "train"),
}
PUBLISHED_COMMAND = (
    "json-root data-root train-data input-info zeroshot-ct-rate zeroshot-template "
    "zeroshot-frequency save-frequency report-to wandb-project-name warmup batch-size accum-batch "
    "lr wd epochs precision workers grad-checkpointing model use-cxr-bert lock-text"
)


def rows(section: str) -> list[tuple[str, str]]:
    text = README.read_text(encoding="utf-8").split(f"## Published flags: {section}\n")[1]
    table = re.findall(r"^\| (`--[^|]*) \| ([^|]*) \|", text.split("\n## ")[0], re.MULTILINE)
    assert table
    return table


def key_of(typed: str) -> str:
    return typed.partition("=")[0].lstrip("+")


def is_group(key: str) -> bool:
    return (config.config_dir() / key).is_dir()


def parts_of(typed: list[str]) -> tuple[set[str], set[str]]:
    """Return the top-level nodes that are touched, and those of which a group is chosen."""
    keys = [key_of(word) for word in typed]
    nodes = {re.split(r"[./]", key)[0] for key in keys}
    return nodes, {re.split(r"[./]", key)[0] for key in keys if is_group(key)}


def words_by_tree() -> list[tuple[str, list[str]]]:
    """List what is typed for the flags; flags that do not disturb each other share one tree."""
    trees: list[tuple[str, list[str]]] = []
    for section in BASE:
        for flag, here in rows(section):
            typed = re.findall(r"`([^`]+)`", here)
            assert typed or here == "left out", f"{flag}: neither a key nor left out"
            nodes, chosen = parts_of(typed)
            for name, words in trees:
                known, before = parts_of(words)
                if name == section and not chosen & known and not before & nodes:
                    words += [word for word in typed if word not in words]
                    break
            else:
                trees.append((section, list(typed)))
    return trees


@pytest.mark.parametrize(("section", "typed"), words_by_tree(), ids=lambda part: str(part)[:60])
def test_what_stands_for_a_flag_composes(section: str, typed: list[str]) -> None:
    overrides, name = BASE[section]
    cfg = config.compose([*overrides, "paths.raw=DIR", *typed], name)
    for key in map(key_of, typed):
        assert is_group(key) or OmegaConf.select(cfg, key) is not None, key
    config.check_keys(config.resolve(cfg))


def test_every_flag_of_the_published_command_is_in_the_table() -> None:
    named = {flag for flags, _ in rows("training") for flag in re.findall(r"--([\w-]+)", flags)}
    assert set(PUBLISHED_COMMAND.split()) <= named


def test_the_options_of_predict_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        predict.main(["--help"])
    printed = capsys.readouterr().out
    for _, here in rows("inference"):
        for option in re.findall(r"`([^`]+)`", here):
            assert option in printed, option


def commands() -> list[list[str]]:
    """List the arguments of every command line in the READMEs of HLIP's experiments."""
    lines = []
    for readme in sorted(EXPERIMENTS.glob("hlip_*/README.md")):
        blocks = re.findall(r"```bash\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
        for line in "".join(blocks).replace("\\\n", " ").splitlines():
            found = re.search(r"-m medvlp\.(?:train|evaluate test) ([^#]*)", line)
            lines += [found[1].split()] if found else []
    return lines


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_the_commands_of_the_experiments_compose(arguments: list[str]) -> None:
    plain = [word.replace("--experiment=", "experiment=") for word in arguments]
    overrides = [word for word in plain if not word.startswith("--")]
    config.check_keys(config.resolve(config.compose(overrides)))
