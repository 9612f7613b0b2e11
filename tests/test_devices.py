"""Two logical CPU devices stand for two GPUs; each backend runs in a process of its own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emotion.errors import TrainingError
from emotion.training.fitting import devices
from emotion.training.fitting.devices import Devices, use_devices

ROOT = Path(__file__).resolve().parent.parent
TWO_CPUS = {
    "tensorflow": """
import tensorflow
cpu = tensorflow.config.list_physical_devices("CPU")[0]
two = [tensorflow.config.LogicalDeviceConfiguration()] * 2
tensorflow.config.set_logical_device_configuration(cpu, two)
def devices_of(variable):
    return {value.device for value in variable.value.values}
""",
    "jax": """
def devices_of(variable):
    return set(map(str, variable.value.devices()))
""",
}
TRAIN_ON_BOTH = """
import json, sys
from dataclasses import replace
import keras
from training_data import make_dataset
from emotion.training import fitting
from emotion.training.networks.architectures import ARCHITECTURES
from emotion.training.settings import TrainingSettings

def build(faces):
    return keras.layers.Flatten()(keras.layers.Conv2D(4, 5, strides=4)(faces))

class WatchedRun(fitting.Run):
    def train_epoch(self, progress):
        used.append(sorted(devices_of(self.network.weights[0])) if self.devices.count > 1 else [])
        return super().train_epoch(progress)

ARCHITECTURES["cnn"] = build
fitting.Run = WatchedRun
settings = TrainingSettings(
    epochs=2, batch_size=20, warmup_epochs=0, learning_rate=0.02, augmentation="light",
    precision="float32", runs=sys.argv[1], averaging=0.5,
)
data = make_dataset(train=80, validation=35, test=0)
told = {}
for devices in ("one", "all"):
    used = []
    one_epoch = replace(settings, epochs=1, schedule="constant", name=devices, devices=devices)
    result = fitting.fit(data, one_epoch, verbose=0)
    told[devices] = {
        "history": result.history,
        "weights": [weights.tolist() for weights in result.network.get_weights()],
        "used": used,
    }
print("TOLD", json.dumps(told))
"""


def run_python(code: str, folder: Path, **environment: str) -> dict:
    """Run code in a process of its own and return what it tells."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.split("TOLD ")[1])


@pytest.mark.parametrize("backend", TWO_CPUS)
def test_two_devices_learn_what_one_does(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    code = TWO_CPUS[backend] + TRAIN_ON_BOTH
    told = run_python(code, tmp_path, KERAS_BACKEND=backend, **flags)
    one, both = told["one"], told["all"]
    assert all(len(set(used)) == 2 for used in both["used"])
    assert both["used"]
    for key, value in one["history"][0].items():
        assert both["history"][0][key] == pytest.approx(value, rel=1e-3), key
    for ours, theirs in zip(both["weights"], one["weights"], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_one_device_is_left_as_it_is():
    with use_devices("one") as used:
        assert used == Devices(1, 0)


@pytest.mark.parametrize(
    ("backend", "asked", "message"),
    [
        ("torch", "all", "tensorflow or jax backend for --devices all; received torch"),
        ("tensorflow", "hosts", "the jax backend for --devices hosts; received tensorflow"),
    ],
)
def test_backend_that_cannot_share_is_a_sentence(monkeypatch, backend, asked, message):
    monkeypatch.setattr(devices.keras.backend, "backend", lambda: backend)
    with pytest.raises(TrainingError, match=message), use_devices(asked):
        pass


def test_hosts_that_nobody_names_are_a_sentence(monkeypatch):
    monkeypatch.setattr(devices.keras.backend, "backend", lambda: "jax")
    for name in devices.JAX_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrainingError, match="set them on each host"), use_devices("hosts"):
        pass


@pytest.mark.parametrize(
    ("architecture", "threads", "expected"),
    [("mini_xception", "3", 3), ("mobilenetv2", "5", 5), ("cnn", "3", 1)],
)
def test_batches_of_depthwise_networks_part_evenly(architecture, threads, expected, monkeypatch):
    from emotion.training.fitting.devices import threads_to_feed_alike

    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", threads)
    assert threads_to_feed_alike(architecture) == expected


def test_depthwise_networks_are_those_with_such_a_layer():
    import keras

    from emotion.training.fitting.devices import DEPTHWISE_NETWORKS
    from emotion.training.networks.architectures import ARCHITECTURES, build_network

    kinds = (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)

    def has_such(network) -> bool:
        parts = [layer for layer in network.layers if isinstance(layer, keras.Model)]
        return any(isinstance(layer, kinds) for layer in network.layers) or any(
            map(has_such, parts)
        )

    found = {name for name in ARCHITECTURES if has_such(build_network(name, 2))}
    assert found == set(DEPTHWISE_NETWORKS)


@pytest.mark.parametrize(
    ("devices", "process", "expected"),
    [("one", "1", True), ("hosts", "0", True), ("hosts", "1", False)],
)
def test_the_first_host_saves(devices, process, expected, monkeypatch):
    from emotion.training.fitting.devices import is_first_host

    monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", process)
    assert is_first_host(devices) == expected
