"""What processes that decode strangers' bytes know and may take; standard library only."""

import contextlib
import ctypes
import errno
import os
import re
from pathlib import Path

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None

# what the process may know of the app's environment, which may hold passwords
ENVIRONMENT = "PATH LANG LC_ALL TZ TMPDIR LD_LIBRARY_PATH PYTHONPATH OMP_NUM_THREADS".split()
# what OpenCV, ONNX Runtime, the system, C++ and its loader say
SIGNS_OF_NO_MEMORY = re.compile(
    "Insufficient memory|Failed to allocate|allocate memory|bad_alloc|failed to map segment"
)

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
    """Leave the network if the system allows it, True then; before NumPy starts threads."""
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


def clean_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}


def memory_in_use() -> int:
    """Return the bytes that count against `limit_process`; 0 where they are not known."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) * 1024
    return 0


def lacks_memory(error: BaseException | None) -> bool:
    """True if an error, or one that led to it, came because memory ran out."""
    while error is not None:
        is_no_memory = getattr(error, "errno", None) == errno.ENOMEM
        if is_no_memory or isinstance(error, MemoryError) or SIGNS_OF_NO_MEMORY.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
