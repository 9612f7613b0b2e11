"""One function that spreads training over several devices or machines.

Keras' own distribution works on JAX; on TensorFlow its strategies do. This is the one file that may
touch them.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import keras

from emotion.errors import TrainingError

JAX_VARIABLES = (
    "KERAS_DISTRIBUTION_JOB_ADDRESSES",
    "KERAS_DISTRIBUTION_NUM_PROCESSES",
    "KERAS_DISTRIBUTION_PROCESS_ID",
)
TENSORFLOW_VARIABLE = "TF_CONFIG"


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


@contextlib.contextmanager
def use_devices(devices: str) -> Iterator[Devices]:
    """Let the model that is built and trained inside share each batch among devices.

    Args:
        devices: "one" (the backend's first), "all" (every GPU of this machine, else its logical
            CPUs) or "hosts" (this machine and those that the environment names).

    Raises:
        TrainingError: the backend cannot do it, or the environment does not name the hosts.
    """
    backend = keras.backend.backend()
    if devices == "one":
        yield Devices()
    elif backend == "tensorflow":
        with _tensorflow_devices(devices) as used:
            yield used
    elif backend == "jax":
        with _jax_devices(devices) as used:
            yield used
    else:
        raise TrainingError(
            f"expected the tensorflow or jax backend for --devices {devices}; received {backend}: "
            "set KERAS_BACKEND=tensorflow or KERAS_BACKEND=jax, or give --devices one"
        )


@contextlib.contextmanager
def _tensorflow_devices(devices: str) -> Iterator[Devices]:
    """Share batches through TensorFlow's strategies."""
    import tensorflow

    if devices == "hosts":
        _require_environment((TENSORFLOW_VARIABLE,))
        strategy = tensorflow.distribute.MultiWorkerMirroredStrategy()
        host = int(json.loads(os.environ[TENSORFLOW_VARIABLE])["task"]["index"])
    else:
        logical = tensorflow.config.list_logical_devices
        names = [device.name for device in logical("GPU") or logical("CPU")]
        strategy, host = tensorflow.distribute.MirroredStrategy(names), 0
    with strategy.scope():
        yield Devices(strategy.num_replicas_in_sync, host)


@contextlib.contextmanager
def _jax_devices(devices: str) -> Iterator[Devices]:
    """Share batches through Keras' distribution."""
    host, hosts = 0, 1
    if devices == "hosts":
        _require_environment(JAX_VARIABLES)
        keras.distribution.initialize()
        hosts, host = (int(os.environ[name]) for name in JAX_VARIABLES[1:])
    before = keras.distribution.distribution()
    distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
    keras.distribution.set_distribution(distribution)
    try:
        yield Devices(distribution.device_mesh.devices.size, host, (host, hosts))
    finally:
        keras.distribution.set_distribution(before)


def _require_environment(names: tuple[str, ...]) -> None:
    """Raise where the environment does not name the hosts."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise TrainingError(
            f"expected the hosts in {', '.join(names)} for --devices hosts; received none in "
            f"{', '.join(missing)}: set them on each host, or give --devices all"
        )
