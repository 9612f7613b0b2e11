"""The same training on each further backend that is installed, in a process of its own."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from test_devices import run_python

from emotion.model.keras import ModelFiles, load_keras_model

TRAIN_AND_SAVE = """
import json, sys
from pathlib import Path
import keras
import numpy as np
from training_data import make_dataset
from emotion.model.keras import ModelFiles, save_keras_model
from emotion.training.networks.architectures import ARCHITECTURES
from emotion.training.fitting.fitting import fit
from emotion.training.settings import TrainingSettings

def build(faces):
    features = keras.layers.Conv2D(8, 5, strides=4)(faces)
    features = keras.layers.BatchNormalization()(features)
    return keras.layers.Dropout(0.1)(keras.layers.Flatten()(features))

ARCHITECTURES["cnn"] = build
folder = Path(sys.argv[1])
settings = TrainingSettings(
    epochs=1, batch_size=20, mixup=0.2, averaging=0.9, runs=str(folder), augmentation="strong",
)
votes = np.eye(7, dtype=np.float32)[np.arange(110) % 7]
data = make_dataset(train=75, validation=35, test=0, votes=votes)
result = fit(data, settings, verbose=0)
resumed = fit(data, settings, verbose=0)
save_keras_model(result.network, ModelFiles(folder / "saved"))
faces = data.images[:8, ..., None].astype("float32") / 255
answers = keras.ops.convert_to_numpy(result.network.predict_on_batch(faces))
again = keras.ops.convert_to_numpy(resumed.network.predict_on_batch(faces))
print("TOLD", json.dumps({
    "backend": keras.backend.backend(),
    "history": result.history,
    "faces": faces.tolist(),
    "answers": answers.tolist(),
    "again": again.tolist(),
}))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_trains_on_another_backend_and_answers_alike_on_tensorflow(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    told = run_python(TRAIN_AND_SAVE, tmp_path, KERAS_BACKEND=backend)
    assert told["backend"] == backend
    figures = [value for row in told["history"] for value in row.values()]
    assert np.isfinite(figures).all()
    np.testing.assert_array_equal(told["again"], told["answers"])
    network = load_keras_model(ModelFiles(Path(tmp_path) / "saved"))
    answers = network.predict_on_batch(np.array(told["faces"], np.float32))
    np.testing.assert_allclose(np.asarray(answers), told["answers"], atol=1e-5)
