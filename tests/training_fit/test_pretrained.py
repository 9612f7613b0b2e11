import socket
from functools import partial

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from narrow_networks import build_narrow, make_faces, require_equal, settle

from emotion.errors import ModelError, TrainingError
from emotion.model.keras import ModelFiles, load_keras_model, save_keras_model
from emotion.training.networks import architectures
from emotion.training.networks.architectures import APPLICATIONS, backbone_of, build_network
from emotion.training.networks.normalisation import use_fast_normalisation
from emotion.training.settings import TRANSFER_NETWORKS, TrainingSettings


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    for name in APPLICATIONS.values():
        narrow = partial(build_narrow, getattr(keras.applications, name))
        monkeypatch.setattr(keras.applications, name, narrow)


def start(network, weights="auto") -> None:
    settings = TrainingSettings(architecture=network.name, weights=str(weights))
    architectures.start_from(network, settings)


def imagenet_file(path, architecture: str):
    """Write random weights of a backbone as Keras' applications are published; return it too."""
    backbone = backbone_of(build_network(architecture, 5))
    random = np.random.default_rng(0)
    backbone.set_weights([random.random(weights.shape) for weights in backbone.get_weights()])
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, backbone)
    return backbone


@pytest.mark.parametrize("architecture", TRANSFER_NETWORKS)
def test_backbone_from_a_file_given_or_fetched(architecture, tmp_path, monkeypatch):
    path, keras_3, asked = tmp_path / "notop.h5", tmp_path / "own.weights.h5", []
    backbone = imagenet_file(path, architecture)
    backbone.save_weights(keras_3)
    expected = backbone.get_weights()
    fetch = "keras.src.utils.file_utils.get_file"
    monkeypatch.setattr(fetch, lambda name, *_, **__: asked.append(name) or str(path))
    network = build_network(architecture, 7, second_head=True)
    before = network.get_weights()
    start(network, "none")
    require_equal(network.get_weights(), before)
    start(network, path)
    require_equal(backbone_of(network).get_weights(), expected)
    require_equal(network.get_weights()[-4:], before[-4:])
    in_training = use_fast_normalisation(build_network(architecture, 7))
    start(in_training, keras_3)
    require_equal(backbone_of(in_training).get_weights(), expected)
    assert asked == []
    network.set_weights(before)
    start(network)
    require_equal(backbone_of(network).get_weights(), expected)
    assert asked == [architectures.IMAGENET_FILES[architecture]]


def test_offline_is_a_sentence(tmp_path, monkeypatch):
    asked = []

    def fail(host, *_, **__):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    timeout = socket.getdefaulttimeout()
    words = (
        f"^.*not known.*--weights none.*--weights PATH/{architectures.IMAGENET_FILES['vgg16']}.*$"
    )
    with pytest.raises(TrainingError, match=words):
        start(build_network("vgg16", 7))
    assert len(asked) == 1, "one attempt, no retries"
    assert socket.getdefaulttimeout() == timeout
    assert list((tmp_path / "models").iterdir()) == []


def test_files_that_are_not_theirs(tmp_path):
    path = tmp_path / "some.h5"
    network = build_network("mobilenetv2", 7)

    def cut_short():
        imagenet_file(path, "mobilenetv2")
        path.write_bytes(path.read_bytes()[:20_000])

    for write, message in (
        (lambda: None, "no such file"),
        (cut_short, "cannot be used"),
        (lambda: imagenet_file(path, "vgg16"), "Layer count mismatch"),
        (lambda: network.save(path, include_optimizer=False), "Layer count mismatch"),
        (lambda: path.unlink() or path.mkdir(), "no such file"),
    ):
        write()
        with pytest.raises(TrainingError, match=f"^.*mobilenetv2.*{message}.*$"):
            start(network, path)
    for weights in ("imagenet", "some.h5"):
        with pytest.raises(TrainingError, match="vgg16, resnet50, mobilenetv2"):
            start(build_network("mini_xception", 7), weights)


def test_starts_from_a_saved_model(tmp_path):
    network = build_network("mini_xception", 7)
    settle(network, make_faces())
    saved = ModelFiles(tmp_path / "earlier.v2")
    save_keras_model(network, saved)
    theirs = load_keras_model(saved).get_weights()
    for second_head, more in ((False, []), (True, theirs[-2:])):
        network = build_network("mini_xception", 7, second_head)
        start(network, saved.stem)
        require_equal(network.get_weights(), theirs + more)
    for architecture, class_count in (("cnn", 7), ("mini_xception", 8)):
        with pytest.raises(TrainingError, match="same architecture"):
            start(build_network(architecture, class_count), saved.stem)
    with pytest.raises(ModelError, match=r"none_such.json is missing"):
        start(network, tmp_path / "none_such")
