"""One function that spreads training over several devices or machines.

Keras' own distribution works on JAX; on TensorFlow its strategies do. This is the one file that may
touch them.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import keras

from emotion.errors import TrainingError

DEPTHWISE_NETWORKS = ("mini_xception", "mobilenetv2")
JAX_VARIABLES = (
    "KERAS_DISTRIBUTION_JOB_ADDRESSES",
    "KERAS_DISTRIBUTION_NUM_PROCESSES",
    "KERAS_DISTRIBUTION_PROCESS_ID",
)


@dataclass(frozen=True)
class Devices:
    """What a run is trained on.

    Attributes:
        count: devices that share each batch, those of other hosts included.
        host: number of this host among several; 0 for the first or the only one.
        share: (which, of how many): the part of each batch that this process brings along; where
            the framework parts the batches itself, all of it.
    """

    count: int = 1
    host: int = 0
    share: tuple[int, int] = (0, 1)


def is_first_host(devices: str) -> bool:
    """Tell whether this process is the one that saves the model: the first of several hosts."""
    return devices != "hosts" or os.environ.get(JAX_VARIABLES[2], "0") == "0"


def threads_to_feed_alike(architecture: str) -> int:
    """Return what the size of a training batch must divide by, 1 where it does not matter.

    TensorFlow 2.21 on processors writes past its memory in the gradient of a depthwise convolution
    whose batch does not part evenly among its threads, and the whole process dies.
    """
    is_safe = keras.backend.backend() != "tensorflow" or keras.distribution.list_devices("gpu")
    if is_safe or architecture not in DEPTHWISE_NETWORKS:
        return 1
    wanted = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


@contextlib.contextmanager
def use_devices(devices: str) -> Iterator[Devices]:
    """Let the model that is built and trained inside share each batch among devices.

    Args:
        devices: "one" (the backend's first), "all" (every GPU of this machine, else its logical
            CPUs) or "hosts" (this machine and those that the environment names; JAX alone).

    Raises:
        TrainingError: the backend cannot do it, or the environment does not name the hosts.
    """
    backend = keras.backend.backend()
    if devices == "one":
        yield Devices()
    elif backend == "jax":
        with _jax_devices(devices) as used:
            yield used
    elif backend == "tensorflow" and devices == "all":
        with _tensorflow_devices() as used:
            yield used
    else:
        able = "jax backend" if devices == "hosts" else "tensorflow or jax backend"
        raise TrainingError(
            f"expected the {able} for --devices {devices}; received {backend}: "
            "set KERAS_BACKEND=jax, or give --devices one"
        )


@contextlib.contextmanager
def _tensorflow_devices() -> Iterator[Devices]:
    """Share batches through TensorFlow's strategy for one machine.

    Its strategy for several machines is no use: what it deals out, Keras 3's `fit` cannot read.
    """
    import tensorflow

    logical = tensorflow.config.list_logical_devices
    names = [device.name for device in logical("GPU") or logical("CPU")]
    strategy = tensorflow.distribute.MirroredStrategy(names)
    with strategy.scope():
        yield Devices(strategy.num_replicas_in_sync)


@contextlib.contextmanager
def _jax_devices(devices: str) -> Iterator[Devices]:
    """Share batches through Keras' distribution."""
    host, hosts = 0, 1
    if devices == "hosts":
        _require_hosts()
        keras.distribution.initialize()
        hosts, host = (int(os.environ[name]) for name in JAX_VARIABLES[1:])
    before = keras.distribution.distribution()
    distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(distribution)
    try:
        yield Devices(distribution.device_mesh.devices.size, host, (host, hosts))
    finally:
        keras.distribution.set_distribution(before)


def _require_hosts() -> None:
    """Raise where the environment does not name the hosts."""
    missing = [name for name in JAX_VARIABLES if not os.environ.get(name)]
    if missing:
        raise TrainingError(
            f"expected the hosts in {', '.join(JAX_VARIABLES)} for --devices hosts; received none "
            f"in {', '.join(missing)}: set them on each host, or give --devices all"
        )
