"""How many processors this process may use, which libraries that start threads do not ask."""

import math
import os
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def available_cpus(groups: Path = CONTROL_GROUPS, own_groups: Path = OWN_GROUPS) -> int:
    """Return how many processors this process may use, at least 1.

    That is what its affinity allows (`taskset`, a scheduler of jobs), and in a container no more
    than its share (`docker run --cpus`), rounded up.

    Args:
        groups: where Linux shows control groups (version 2).
        own_groups: where it names the one of this process.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, min(allowed, math.ceil(_share(groups, own_groups))))


def _share(groups: Path, own_groups: Path) -> float:
    """Return how many processors' time the control groups of this process may use."""
    try:
        lines = own_groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return os.cpu_count() or 1
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = groups / own.lstrip("/")
    # a group never has more than those that hold it
    return min(_quota(level / "cpu.max") for level in (folder, *folder.parents))


def _quota(path: Path) -> float:
    """Return the processors that a `cpu.max` ("QUOTA PERIOD" or "max PERIOD") grants."""
    try:
        quota, period = path.read_text(encoding="utf-8").split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return os.cpu_count() or 1  # no such file, or no limit
