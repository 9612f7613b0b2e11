"""The README names every command, flag and setting, with the defaults that the code has."""

import argparse
import re
from dataclasses import fields
from pathlib import Path

import pytest

import emotion_detector
import emotion_model_training
import run
from emotion.training.settings import TrainingSettings, flag_of, shown
from emotion.web.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = [
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("training.md", "shell.md")
]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in "\n".join((README, *GUIDES)).splitlines()
]


def row_of(flag: str) -> list[str]:
    """Return the cells of the one table row that explains a flag."""
    rows = [row for row in ROWS if any(f"`{flag}`" in cell for cell in row[:2])]
    assert rows, f"no guide explains {flag}"
    return rows[0]


@pytest.mark.parametrize("setting", fields(TrainingSettings), ids=lambda setting: setting.name)
def test_training_flags(setting):
    (row,) = [row for row in ROWS if row[0] == f"`{flag_of(setting.name)}`"]
    assert row[1] == shown(setting.default)
    for choice in setting.metadata["choices"]:
        assert choice in row[2]


def shown_default(value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Path):
        return value.relative_to(ROOT).as_posix()
    return "none" if value is None else str(value)


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name)
def test_web_settings(setting):
    rows = [row for row in ROWS if row[1:2] == [f"`{flag_of(setting.name)}`"]]
    (row,) = rows
    assert row[0] in (f"`{setting.name.upper()}`", "(flag only)")
    assert row[2] == shown_default(setting.default)


def test_detector_flags(capsys):
    with pytest.raises(SystemExit):
        emotion_detector.parse(["--help"])
    flags = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert len(flags) >= 7
    for flag in flags:
        row_of(flag)


def training_parsers() -> dict[str, argparse.ArgumentParser]:
    parser = emotion_model_training.build_parser()
    (commands,) = [action for action in parser._actions if action.choices]
    return commands.choices


@pytest.mark.parametrize("command", training_parsers())
def test_training_commands(command):
    row_of_command = [row for row in ROWS if row[0] == f"`{command}`"]
    assert len(row_of_command) == 1
    for action in training_parsers()[command]._actions:
        for flag in set(action.option_strings) - {"-h", "--help"}:
            row_of(flag)


@pytest.mark.parametrize("command", ["app", "test", "train", "detect", "setup", "lint"])
def test_commands(command):
    assert command in run.COMMANDS
    assert f"python3 run.py {command}" in README


def test_every_link_to_a_file_leads_somewhere():
    targets = re.findall(r"\]\((?!http|#)([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
