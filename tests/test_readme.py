"""The README names every command, flag and setting, with the defaults that the code has."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

import emotion_detector
import run
from emotion.training.settings import TrainingSettings
from emotion.web.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines()]


def row_of(flag: str) -> list[str]:
    """Return the cells of the one table row that explains a flag."""
    rows = [row for row in ROWS if any(f"`{flag}`" in cell for cell in row[:2])]
    assert rows, f"README.md explains no {flag}"
    return rows[0]


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@pytest.mark.parametrize("setting", fields(TrainingSettings), ids=lambda setting: setting.name)
def test_training_flags(setting):
    rows = [row for row in ROWS if row[0] == f"`{flag_of(setting.name)}`"]
    defaults = {row[1] for row in rows}
    shown = f"{setting.default:g}" if isinstance(setting.default, float) else str(setting.default)
    assert shown in defaults


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name)
def test_web_settings(setting):
    rows = [row for row in ROWS if row[1:2] == [f"`{flag_of(setting.name)}`"]]
    (row,) = rows
    assert row[0] in (f"`{setting.name.upper()}`", "(flag only)")
    default = setting.default
    shown = default.relative_to(ROOT).as_posix() if isinstance(default, Path) else str(default)
    assert row[2] == shown


def test_detector_flags(capsys):
    with pytest.raises(SystemExit):
        emotion_detector.parse(["--help"])
    flags = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert len(flags) >= 7
    for flag in flags:
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
