"""What a process that decodes strangers' bytes gives up before it begins; standard library only."""

import contextlib
import ctypes
import os
from pathlib import Path

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h


def limit_process(
    memory_bytes: int, cpu_s: int | None = None, file_bytes: int | None = None, niceness: int = 0
) -> None:
    """Limit what this process may take; what it writes is for the app's user alone."""
    os.umask(0o077)
    if not resource:
        return
    os.nice(niceness)
    for limit, most in {
        # unlike the address space, this leaves out what threads and allocators set aside unused
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_CORE: 0,
    }.items():
        if most is not None:
            with contextlib.suppress(ValueError, OSError):  # one that is lower already stays
                resource.setrlimit(limit, (most, most))


def drop_network() -> bool:
    """Leave the network, where the system allows it; True if it is left, sockets and all.

    Call it while the process has one thread: before NumPy or OpenCV is imported.
    """
    try:
        unshare, ids = ctypes.CDLL(None).unshare, (os.getuid(), os.getgid())
    except (AttributeError, TypeError, OSError):  # no Linux
        return False
    # who may do so needs no user namespace; anybody may in one of their own, if the system has them
    if unshare(CLONE_NEWNET) == 0:
        return True
    if unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return False
    with contextlib.suppress(OSError):  # without these lines the user is called "nobody"
        Path("/proc/self/setgroups").write_text("deny")
        for kind, number in zip(("uid", "gid"), ids, strict=True):
            Path(f"/proc/self/{kind}_map").write_text(f"{number} {number} 1")
    return True
