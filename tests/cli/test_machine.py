import os
from pathlib import Path

import pytest

from emotion.files import available_cpus


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)


def make_groups(folder: Path, own: str, **quotas: str) -> tuple[Path, Path]:
    """Write a tree of control groups; a quota's name is its path with "_" for "/"."""
    for name, content in quotas.items():
        path = folder / "groups" / name.replace("_", "/").strip("/")
        path.mkdir(parents=True, exist_ok=True)
        (path / "cpu.max").write_text(f"{content}\n")
    (folder / "cgroup").write_text(f"3:cpuset:/elsewhere\n{own}\n")
    return folder / "groups", folder / "cgroup"


@pytest.mark.parametrize(
    ("own", "quotas", "expected"),
    [
        ("0::/", {}, 6),
        ("0::/", {"_": "max 100000"}, 6),
        ("0::/", {"_": "200000 100000"}, 2),
        ("0::/", {"_": "150000 100000"}, 2),
        ("0::/", {"_": "10000 100000"}, 1),
        ("0::/", {"_": "nonsense"}, 6),
        ("0::/", {"_": "100000 0"}, 6),
        ("0::/a/b", {"a": "300000 100000", "a_b": "max 100000"}, 3),
        ("0::/a/b", {"a": "max 100000", "a_b": "400000 100000"}, 4),
        ("0::/a", {"other": "100000 100000"}, 6),
        ("1:name=systemd:/", {"_": "500000 100000"}, 5),
    ],
)
def test_share_of_control_groups(tmp_path, own, quotas, expected):
    assert available_cpus(*make_groups(tmp_path, own, **quotas)) == expected


def test_without_control_groups_affinity_counts(tmp_path):
    assert available_cpus(tmp_path / "none", tmp_path / "missing") == 6


def test_without_affinity_all_count(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cpus(tmp_path / "none", tmp_path / "missing") == 8
