"""Load a model and predict: (N, 48, 48, 1) grey faces -> (N, classes) probabilities.

The fast form (ONNX) is served when it fits the pair; otherwise it is made in a process of its own,
and where that fails the pair is run by Keras.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotion.errors import ModelError
from emotion.files import available_cpus, sha256_of
from emotion.labels import EMOTIONS
from emotion.model.card import Serving, load_card
from emotion.model.keras import (
    HOW_TO_CONVERT,
    ModelFiles,
    import_keras,
    keras_version,
    load_keras_model,
)

# From this probability on, an answer is given without looking at the mirror image. That holds for
# 45% of the faces of FER2013's PublicTest, and would change no answer (`models/EXPERIMENTS.md`).
BEYOND_DOUBT = 0.95

INPUT_SHAPE = (48, 48, 1)
NO_CARD = (
    "no card: the seven FER2013 class names in alphabetical order; a model made from fer2013.csv "
    "ends in sad, surprise, neutral: emotion_model_training.py convert FILE --classes fer2013"
)
BATCH_SIZE = 32  # more are no faster, and ONNX Runtime keeps the memory that it once took
CONVERSION_TIMEOUT_S = 300

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EmotionModel:
    """A loaded model; one may be shared by any number of threads."""

    name: str  # of its files
    sha256: str  # of the weights file, in hexadecimal
    class_names: tuple[str, ...]  # in output order
    runtime: str  # what computes: "ONNX Runtime" or "Keras"
    card: dict | None  # its content, None where the model came without one
    notes: tuple[str, ...]  # what a user should know about how the model was loaded
    run: Run  # one batch: (N, 48, 48, 1) float32 -> (N, classes) float32

    def predict(self, faces: np.ndarray) -> np.ndarray:
        """Return the probabilities, (N, classes), of (N, 48, 48, 1) faces, float32 in [0, 1]."""
        if faces.ndim != 4 or faces.shape[1:] != INPUT_SHAPE:
            raise ValueError(f"expected faces of shape (N, 48, 48, 1); received {faces.shape}")
        faces = np.ascontiguousarray(faces, dtype=np.float32)
        starts = range(0, len(faces), BATCH_SIZE)
        batches = [self.run(faces[start : start + BATCH_SIZE]) for start in starts]
        empty = np.zeros((0, len(self.class_names)), np.float32)
        return np.concatenate(batches) if batches else empty

    def answer(self, faces: np.ndarray) -> np.ndarray:
        """Return the probabilities that a user sees, for faces as in `predict`.

        If the card says so, each face is also shown mirrored, unless its answer is beyond doubt.
        """
        probabilities = self.predict(faces)
        if not self.serving.mirrored:
            return probabilities
        doubtful = probabilities.max(axis=1) < BEYOND_DOUBT
        mean = (probabilities[doubtful] + self.predict(faces[doubtful][:, :, ::-1])) / 2
        answers = probabilities.astype(np.float64)
        # a mean is less sure than what it is the mean of, so it has a temperature of its own
        answers[doubtful] = apply_temperature(mean, self.serving.temperature)
        return answers

    @property
    def serving(self) -> Serving:
        return Serving.of(self.card)


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(log(probabilities) / temperature), (N, classes)."""
    logits = np.log(np.clip(probabilities.astype(np.float64), 1e-12, 1)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class StoredModel:
    """A model as its files hold it, checked but not running: it can be sent to another process."""

    stem: Path  # folder and name of its files
    sha256: str
    class_names: tuple[str, ...]
    card: dict | None
    notes: tuple[str, ...]
    fast_form: bytes | None  # None: Keras runs the pair
    is_new: bool = False  # whether the fast form was just made

    @property
    def name(self) -> str:
        return self.stem.name

    @property
    def runtime(self) -> str:
        return "Keras" if self.fast_form is None else "ONNX Runtime"

    def drop_new_form(self) -> None:
        """Remove a fast form that was just made: it is as large as the pair, and of no use."""
        files = ModelFiles(self.stem)
        for path in (files.fast_form, files.fast_form_seal) if self.is_new else ():
            path.unlink(missing_ok=True)


def load_model(stem: Path, keras_alone: bool = False, threads: int | None = None) -> EmotionModel:
    """Load a model by the stem of its files, or the pair itself; raises ModelError."""
    stored = read_model(stem, keras_alone)
    try:
        return run_model(stored, threads)
    except ModelError:
        stored.drop_new_form()
        raise


def read_model(stem: Path, keras_alone: bool = False) -> StoredModel:
    """Return a model as its files hold it; a fast form that does not fit is made anew."""
    files = ModelFiles(Path(stem))
    files.require_pair()
    hashes = files.hashes()
    card = load_card(files.card, hashes["weights_sha256"], INPUT_SHAPE)
    notes = [NO_CARD] if card is None else []
    version = keras_version(files.architecture)
    if version.startswith("2."):
        notes.append(f"a model of Keras {version}, read by Keras 3")
    is_fast, is_new = not keras_alone, False
    if is_fast and (reason := _why_not_fast(files, hashes)):
        failure = _convert(files)
        is_fast = is_new = failure is None
        slower = f"not made anew ({failure}), so Keras runs the pair, more slowly"
        notes.append(f"{reason}; {'made anew from the pair' if is_fast else slower}")
    names = EMOTIONS if card is None else tuple(card["class_names"])
    try:
        fast_form = files.fast_form.read_bytes() if is_fast else None
    except OSError as error:
        raise ModelError(f"expected {files.fast_form}; received: {error.strerror}") from error
    sha256 = hashes["weights_sha256"]
    return StoredModel(files.stem, sha256, names, card, tuple(notes), fast_form, is_new)


def run_model(stored: StoredModel, threads: int | None = None) -> EmotionModel:
    """Return a model that answers; raises ModelError unless it takes faces and gives classes."""
    name, names = stored.name, stored.class_names
    if stored.fast_form is None:
        network, ops = load_keras_model(ModelFiles(stored.stem)), import_keras().ops
        shape = network.input_shape[1:]

        def run(faces: np.ndarray) -> np.ndarray:
            return ops.convert_to_numpy(network.predict_on_batch(faces))

    else:
        shape, run = _in_onnx_runtime(name, stored.fast_form, threads)
    if shape != INPUT_SHAPE:
        raise ModelError(
            f"expected a model with input (N, 48, 48, 1); received (N, {shape}); {HOW_TO_CONVERT}"
        )
    output = run(np.linspace(0, 1, 2 * 48 * 48, dtype=np.float32).reshape(2, *INPUT_SHAPE))
    if output.shape != (2, len(names)):
        raise ModelError(
            f"expected {len(names)} outputs for the classes {', '.join(names)}; {name} has "
            f"outputs of shape {output.shape[1:]}; {HOW_TO_CONVERT}"
        )
    if not np.isfinite(output).all() or (output < 0).any() or abs(output.sum(1) - 1).max() > 1e-3:
        raise ModelError(
            f"expected {name} to answer with probabilities that sum to 1 (a softmax at its "
            f"end); received {np.round(output[0], 3).tolist()}; {HOW_TO_CONVERT}"
        )
    return EmotionModel(name, stored.sha256, names, stored.runtime, stored.card, stored.notes, run)


def _why_not_fast(files: ModelFiles, hashes: dict[str, str]) -> str | None:
    if not files.fast_form.exists() or not files.fast_form_seal.exists():
        return "no fast form"
    try:
        seal = json.loads(files.fast_form_seal.read_text(encoding="utf-8"))
        came_from, sha256 = {key: seal[key] for key in hashes}, seal["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{files.fast_form_seal.name} cannot be read"
    if came_from != hashes:
        return f"{files.fast_form.name} is stale: it came from another pair"
    if sha256 != sha256_of(files.fast_form):
        return f"{files.fast_form.name} is damaged"
    return None


def _convert(files: ModelFiles) -> str | None:
    """Write the fast form in another process; return why that failed, None where it did not."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "emotion.model.keras", str(files.stem.resolve())],
            env=os.environ | {"KERAS_BACKEND": "tensorflow"},  # no other backend writes ONNX
            cwd=Path(__file__).resolve().parents[2],
            capture_output=True,
            text=True,
            timeout=CONVERSION_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return type(error).__name__
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1]


def _in_onnx_runtime(name: str, network: bytes, threads: int | None) -> tuple[tuple, Run]:
    """Return the shape of a face, and a function that many threads may call."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    # threads that spin while they wait take the processor from the search for faces and from other
    # requests: a single face then costs twice the processor time
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        source = session.get_inputs()[0]
    except Exception as error:  # its errors share no base below Exception
        raise ModelError(f"expected an ONNX model in {name}.onnx; received {error}") from error
    return tuple(source.shape[1:]), lambda faces: session.run(None, {source.name: faces})[0]
