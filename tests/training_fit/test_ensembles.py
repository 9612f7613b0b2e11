import numpy as np
import pytest
from narrow_networks import build_narrow, build_tiny_network, make_faces, save, settle
from training_data import make_dataset

from emotion.errors import ModelError
from emotion.labels import EMOTIONS
from emotion.model.keras import LARGEST_GAP, ModelFiles, load_keras_model
from emotion.model.runtime import apply_temperature, load_model
from emotion.training.networks.architectures import build_network
from emotion.training.networks.ensembles import average_models, teacher_answers

FACES = make_faces(4)
VIEWS = (FACES, FACES[:, :, ::-1])


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> ModelFiles:
    """Return one of our networks, which has a network inside, with its classes in reverse."""
    network = build_narrow(build_network, "mobilenetv2", len(EMOTIONS))
    settle(network, FACES)
    return save(network, tmp_path_factory.mktemp("ours") / "ours", list(EMOTIONS[::-1]))


def mean_of(stems, views, class_names=EMOTIONS) -> np.ndarray:
    """Return the mean answer in the order of `class_names`, from each model as it is served."""
    answers = []
    for model in map(load_model, stems):
        order = [model.class_names.index(name) for name in class_names]
        answers += [model.predict(view)[:, order] for view in views]
    return np.mean(answers, axis=0)


def test_mean_of_unlike_members_is_served_also_nested(tiny_model, ours, tmp_path):
    inner, class_names = average_models([ours.stem], mirrored=True)
    assert class_names == EMOTIONS[::-1]
    mirrored = save(inner, tmp_path / "mirrored", list(class_names)).stem
    for faces in VIEWS:
        expected = mean_of([ours.stem], VIEWS, class_names)
        np.testing.assert_allclose(load_model(mirrored).predict(faces), expected, atol=LARGEST_GAP)
    stems = [tiny_model, mirrored, tiny_model]
    network, class_names = average_models(stems)
    assert class_names == EMOTIONS
    assert len({layer.name for layer in network.layers}) == len(network.layers)
    expected = mean_of(stems, [FACES])
    files = save(network, tmp_path / "ensemble")
    served = load_model(files.stem)
    assert served.runtime == "ONNX Runtime"
    loaded = load_keras_model(files)
    for answers in (network.predict_on_batch, loaded.predict_on_batch, served.predict):
        np.testing.assert_allclose(answers(FACES), expected, atol=LARGEST_GAP)
    last = network.layers[-1]  # it takes a temperature
    last.set_weights([weights / 2.5 for weights in last.get_weights()])
    expected = apply_temperature(expected, 2.5)
    np.testing.assert_allclose(network.predict_on_batch(FACES), expected, atol=LARGEST_GAP)


def test_impossible_probabilities_stay_finite(tmp_path):
    network = build_tiny_network()
    kernel, _ = network.layers[-1].get_weights()
    network.layers[-1].set_weights([kernel * 0, np.eye(7, dtype=np.float32)[0] * 200])
    stem = save(network, tmp_path / "certain").stem
    answers = average_models([stem, stem])[0].predict_on_batch(FACES)
    np.testing.assert_allclose(answers, np.tile(np.eye(7)[0], (4, 1)), atol=1e-5)


def test_members_and_teachers_fit_under_any_name_of_a_class_or_are_refused(tiny_model, tmp_path):
    three = save(build_tiny_network(3), tmp_path / "three", ["happy", "sad", "tired"]).stem
    for stems, message in (
        ([], "--mirrored; received 0"),
        ([tiny_model], "--mirrored; received 1"),
        ([tiny_model, three], "three has happy, sad, tired, tiny has angry, disgust"),
        ([tiny_model, tmp_path / "none_such"], "none_such"),
    ):
        with pytest.raises(ModelError, match=message):
            average_models(stems)
    with pytest.raises(ModelError, match=r"tiny has angry.*the dataset has happy, sad"):
        teacher_answers([tiny_model], FACES, ("happy", "sad"))
    same = save(build_tiny_network(3), tmp_path / "same", ["sadness", "tired", "happiness"]).stem
    network, class_names = average_models([three, same])
    assert class_names == ("happy", "sad", "tired")
    alone = load_model(three).predict(FACES)
    expected = (alone + alone[:, [2, 0, 1]]) / 2
    np.testing.assert_allclose(network.predict_on_batch(FACES), expected, atol=LARGEST_GAP)


def test_teachers_answers_are_their_mean_and_that_of_the_mirrored_faces(tiny_model, ours):
    class_names = ("sad", *(name for name in EMOTIONS if name != "sad"))
    images = make_dataset(train=600, validation=0, test=0).images  # more than are asked at once
    answers = teacher_answers([tiny_model, ours.stem], images, class_names)
    faces = images[[0, 599], ..., None].astype(np.float32) / 255
    mean = mean_of([tiny_model, ours.stem], (faces, faces[:, :, ::-1]), class_names)
    np.testing.assert_allclose(answers[[0, 599]], mean, atol=1e-6)
    assert answers.dtype == np.float32
