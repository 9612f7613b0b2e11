"""A Keras model as a pair of files, `NAME.json` and `NAME.h5`; Keras is imported only when used.

Run as `python -m emotion.model.keras models/NAME` it writes the fast form beside the pair; a
serving process starts that as a process of its own, so that it never imports TensorFlow itself.
"""

import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emotion.errors import ModelError
from emotion.files import sha256_of, whole_file, write_json
from emotion.model.keras_2 import in_keras_3_form

MODEL_SUFFIXES = (".card.json", ".onnx.json", ".json", ".h5", ".onnx")
PREVIOUS_SUFFIX = ".previous"  # of the name of a model that another one has replaced
LARGEST_GAP = 1e-3  # between probabilities of the fast form and of Keras that is mere rounding

HOW_TO_CONVERT = "to use another: emotion_model_training.py convert FILE --classes NAMES"

# what Keras and h5py were seen to raise for files that are damaged or not theirs
LOAD_ERRORS = (OSError, ValueError, TypeError, LookupError, AttributeError)
LOAD_ERRORS += (RuntimeError, ImportError)


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model: `models/detection_model` stands for all of them."""

    stem: Path

    name = property(lambda self: self.stem.name)
    architecture = property(lambda self: self._with(".json"))
    weights = property(lambda self: self._with(".h5"))
    card = property(lambda self: self._with(".card.json"))
    fast_form = property(lambda self: self._with(".onnx"))
    fast_form_seal = property(lambda self: self._with(".onnx.json"))
    previous = property(lambda self: ModelFiles(self._with(PREVIOUS_SUFFIX)))

    def _with(self, suffix: str) -> Path:
        return self.stem.with_name(self.stem.name + suffix)

    def require_pair(self) -> None:
        """Raise a ModelError unless both files of the pair are there."""
        for path in (self.architecture, self.weights):
            if not path.is_file():
                raise ModelError(
                    f"expected a model as {self.architecture.name} and {self.weights.name} in "
                    f"{self.stem.parent}; {path.name} is missing; {HOW_TO_CONVERT}"
                )

    def hashes(self) -> dict[str, str]:
        pair = ("architecture", "weights")
        return {f"{name}_sha256": sha256_of(getattr(self, name)) for name in pair}


def stem_of(model: str | Path) -> Path:
    """Return folder and name of a model's files from these or from the path of any of them."""
    path = Path(model)
    ends = [suffix for suffix in MODEL_SUFFIXES if path.name.endswith(suffix)]
    return path.with_name(path.name.removesuffix(ends[0])) if ends else path


def load_keras_model(files: ModelFiles):
    """Return the `keras.Model` of a pair, running no code that it brings; raises ModelError."""
    files.require_pair()
    try:
        model = build_model(read_architecture(files.architecture))
        load_weights(model, files.weights)
    except LOAD_ERRORS as error:
        version = keras_version(files.architecture)
        is_old = version.startswith(("1.", "2."))
        age = f"written by Keras {version}, which Keras 3 reads in part: " if is_old else ""
        raise ModelError(
            f"expected a Keras architecture in {files.architecture.name} and its weights in "
            f"{files.weights.name}; they cannot be loaded ({age}{reason_of(error)})"
        ) from error
    return model


def build_model(content: Mapping):
    """Return the `keras.Model` of an architecture, without its weights; raises `LOAD_ERRORS`."""
    keras = import_keras()
    if str(content.get("keras_version")).startswith("2.") or "module" not in content:
        content = in_keras_3_form(content)
    with warnings.catch_warnings():  # of arguments that have new names
        warnings.simplefilter("ignore", UserWarning)
        model = keras.models.model_from_json(json.dumps(content))
    if not isinstance(model, keras.Model):
        raise ValueError("the architecture is not that of a model")
    return model


def load_weights(model, path: Path) -> None:
    """Give a model the weights of an .h5 of either style; raises `LOAD_ERRORS`."""
    import h5py

    with h5py.File(path, "r") as file:
        is_new_style = "layer_names" not in file.attrs and "model_weights" not in file
    if is_new_style:
        # Keras knows files of `save_weights` by this suffix alone
        with tempfile.TemporaryDirectory() as folder:
            model.load_weights(shutil.copy(path, Path(folder) / "model.weights.h5"))
    else:
        model.load_weights(path)


def read_architecture(path: Path) -> object:
    """Return what a file of JSON holds; raises OSError, ValueError."""
    content = json.loads(path.read_text(encoding="utf-8"))
    # `json.dump(model.to_json(), file)`, a frequent slip, encodes it twice
    return json.loads(content) if isinstance(content, str) else content


def keras_version(path: Path) -> str:
    """Return the version of Keras that wrote an architecture, "" where it does not say."""
    try:
        return str(read_architecture(path).get("keras_version", ""))
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""


def save_keras_model(model, files: ModelFiles) -> None:
    """Write the pair, each file whole or not at all, the weights compressed."""
    import h5py

    def copy(name, member) -> None:
        if isinstance(member, h5py.Group):
            written = target.create_group(name)
        else:
            # every reader of HDF5 unpacks this unasked; single numbers cannot be compressed
            whole = {"compression": "gzip", "shuffle": True, "chunks": member.shape}
            options = whole if member.shape else {}
            written = target.create_dataset(name, data=member[()], **options)
        written.attrs.update(member.attrs)

    files.stem.parent.mkdir(parents=True, exist_ok=True)
    write_json(files.architecture, json.loads(model.to_json()))
    with whole_file(files.weights) as part, tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model.h5"
        model.save(saved, include_optimizer=False)
        with h5py.File(saved, "r") as source, h5py.File(part, "w") as target:
            target.attrs.update(source.attrs)
            source.visititems(copy)


def write_fast_form(files: ModelFiles) -> None:
    """Write the pair as ONNX, sealed with its hash and those of the pair; raises ModelError."""
    model, hashes = load_keras_model(files), files.hashes()
    # a model rebuilt from JSON must be called once before it is exported
    model(import_keras().ops.zeros((1, *model.input_shape[1:])))
    try:
        with (
            whole_file(files.fast_form_seal) as seal,
            whole_file(files.fast_form) as part,
            warnings.catch_warnings(),
        ):
            # Keras' own exporter touches a NumPy name that is going away
            warnings.simplefilter("ignore", FutureWarning)
            model.export(part, format="onnx", verbose=False)
            _require_same_answers(model, part)
            write_json(seal, {"sha256": sha256_of(part)} | hashes)
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"expected to write {files.fast_form}; received: {reason}") from error
    except LOAD_ERRORS as error:
        raise ModelError(
            f"expected {files.name} to be convertible to ONNX; it is not ({reason_of(error)})"
        ) from error


def _require_same_answers(model, fast_form: Path) -> None:
    """Raise a ValueError where Keras exported a layer wrongly, which its log alone may tell."""
    import numpy as np
    import onnxruntime

    faces = np.random.default_rng(0).random((3, *model.input_shape[1:]), dtype=np.float32)
    try:
        session = onnxruntime.InferenceSession(fast_form, providers=["CPUExecutionProvider"])
        answers = session.run(None, {session.get_inputs()[0].name: faces})[0]
    except Exception as error:  # its errors share no base below Exception
        raise ValueError(f"ONNX Runtime refuses it: {error}") from error
    gap = float(np.abs(answers - np.asarray(model.predict_on_batch(faces))).max())
    if not gap < LARGEST_GAP:
        raise ValueError(f"its answers differ by up to {gap:g}")


def import_keras():
    """Return the keras module; raises ModelError, which says how to get it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        # TensorFlow's C++ prints about itself
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import keras
    except ImportError as error:
        raise ModelError(
            "expected Keras and TensorFlow, which this model needs because it has no fast form "
            "(.onnx) that fits it; they are not installed: pip install -r requirements.txt"
        ) from error
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    # what these log is meant for their authors; the import sets the levels anew
    for name in ("absl", "tf2onnx", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return keras


def reason_of(error: BaseException) -> str:
    """Return the kind of an error and the first line of its message, or of its cause's."""
    cause = str(error).rpartition("Exception encountered:")[2].strip().partition("\n")[0]
    return f"{type(error).__name__}: {cause[:200]}".rstrip(": ")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m emotion.model.keras models/NAME\n")
        return 2
    try:
        write_fast_form(ModelFiles(Path(arguments[0])))
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
