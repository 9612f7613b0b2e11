"""A Keras model as a pair of files, `NAME.json` and `NAME.h5`; Keras is imported only when used.

Run as `python -m emotion.model.keras models/NAME` it writes the fast form beside the pair; a
serving process starts that as a process of its own, so that it never imports TensorFlow itself.
"""

import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emotion.errors import ModelError
from emotion.files import sha256_of, whole_file, write_json
from emotion.model.keras_2 import in_keras_3_form

LOAD_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    ImportError,
)
"""What Keras and h5py were seen to raise for files that are damaged or not theirs."""


PREVIOUS_SUFFIX = ".previous"
"""What is added to the name of a model that another one has replaced."""

LARGE_WEIGHTS_BYTES = 4096
"""Weights of fewer bytes are not worth halving."""

LARGEST_GAP = 1e-3
"""Largest difference between a probability of the fast form and of Keras that is rounding: its
weights are kept in half precision."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model: `models/detection_model` stands for all of them."""

    stem: Path

    @property
    def name(self) -> str:
        return self.stem.name

    @property
    def architecture(self) -> Path:
        return self._with(".json")

    @property
    def weights(self) -> Path:
        return self._with(".h5")

    @property
    def card(self) -> Path:
        return self._with(".card.json")

    @property
    def fast_form(self) -> Path:
        return self._with(".onnx")

    @property
    def fast_form_seal(self) -> Path:
        return self._with(".onnx.json")

    @property
    def previous(self) -> "ModelFiles":
        """Return the files of the model that this one replaced."""
        return ModelFiles(self._with(PREVIOUS_SUFFIX))

    def _with(self, suffix: str) -> Path:
        return self.stem.with_name(self.stem.name + suffix)

    def require_pair(self) -> None:
        """Raise `ModelError` unless both files of the pair are there."""
        for path in (self.architecture, self.weights):
            if not path.is_file():
                raise ModelError(
                    f"expected a model as {self.architecture.name} and {self.weights.name} in "
                    f"{self.stem.parent}; {path.name} is missing"
                )

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of both files of the pair."""
        return {
            "architecture_sha256": sha256_of(self.architecture),
            "weights_sha256": sha256_of(self.weights),
        }


def load_keras_model(files: ModelFiles):
    """Return the `keras.Model` of a pair, without running any code that the files bring.

    Raises:
        ModelError: Keras is not installed, or a file is missing, damaged or refused.
    """
    files.require_pair()
    keras = import_keras()
    version = keras_version(files.architecture)
    try:
        content = read_architecture(files.architecture)
        if version.startswith("2."):
            content = in_keras_3_form(content)
        with warnings.catch_warnings():  # of arguments that have new names
            warnings.simplefilter("ignore", UserWarning)
            model = keras.models.model_from_json(json.dumps(content))
        if not isinstance(model, keras.Model):
            raise ValueError(f"{files.architecture.name} does not describe a model")
        _load_weights(model, files.weights)
    except LOAD_ERRORS as error:
        is_old = version.startswith(("1.", "2."))
        age = f"written by Keras {version}, which Keras 3 reads in part: " if is_old else ""
        raise ModelError(
            f"expected a Keras architecture in {files.architecture.name} and its weights in "
            f"{files.weights.name}; they cannot be loaded ({age}{_first_line(error)})"
        ) from error
    return model


def read_architecture(path: Path) -> object:
    """Return the content of an architecture's file.

    `json.dump(model.to_json(), file)`, a frequent slip, encodes it twice.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    return json.loads(content) if isinstance(content, str) else content


def keras_version(path: Path) -> str:
    """Return the version of Keras that wrote an architecture, "" where it does not say."""
    try:
        return str(read_architecture(path).get("keras_version", ""))
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""


def save_keras_model(model, files: ModelFiles) -> None:
    """Write the pair, each file whole or not at all."""
    files.stem.parent.mkdir(parents=True, exist_ok=True)
    write_json(files.architecture, json.loads(model.to_json()))
    with whole_file(files.weights) as part, tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model.h5"
        model.save(saved, include_optimizer=False)
        _compress(saved, part)


def _compress(saved: Path, compressed: Path) -> None:
    """Copy an HDF5 file with its arrays compressed, which every reader of HDF5 unpacks unasked."""
    import h5py

    with h5py.File(saved, "r") as source, h5py.File(compressed, "w") as target:
        _copy_compressed(source, target)


def _copy_compressed(source, target) -> None:
    """Copy the attributes and the members of an HDF5 group into another."""
    for name, value in source.attrs.items():
        target.attrs[name] = value
    for name, member in source.items():
        if hasattr(member, "shape"):
            options = {"compression": "gzip", "shuffle": True} if member.shape else {}
            copy = target.create_dataset(name, data=member[()], **options)
            for key, value in member.attrs.items():
                copy.attrs[key] = value
        else:
            _copy_compressed(member, target.create_group(name))


def write_fast_form(files: ModelFiles) -> None:
    """Write the pair as ONNX with a seal that names the files it came from and its own hash.

    Its large weights are kept in half precision, but not where the answers would tell.
    """
    model = load_keras_model(files)
    hashes = files.hashes()
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
            whole = part.read_bytes()
            _halve_weights(part)
            if not _largest_gap(model, part) <= LARGEST_GAP / 2:
                part.write_bytes(whole)
            write_json(seal, {"sha256": sha256_of(part)} | hashes)
    except OSError as error:
        raise ModelError(
            f"expected to write {files.fast_form}; received: {error.strerror or error}"
        ) from error
    except LOAD_ERRORS as error:
        raise ModelError(
            f"expected {files.name} to be convertible to ONNX; it is not ({_first_line(error)})"
        ) from error


def _halve_weights(fast_form: Path) -> None:
    """Keep an ONNX file's large weights in half precision, half the size; it computes in single.

    ONNX Runtime widens them once, when it loads the file.
    """
    import numpy as np
    import onnx

    network = onnx.load(fast_form)
    graph, widened = network.graph, []
    for weights in [one for one in graph.initializer if len(one.raw_data) > LARGE_WEIGHTS_BYTES]:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        half = onnx.numpy_helper.from_array(values.astype(np.float16), f"{weights.name}_half")
        graph.initializer.remove(weights)
        graph.initializer.append(half)
        single = onnx.TensorProto.FLOAT
        widened.append(onnx.helper.make_node("Cast", [half.name], [weights.name], to=single))
    nodes = [*widened, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(network, fast_form)


def _require_same_answers(model, fast_form: Path) -> None:
    """Raise unless the ONNX file answers as the Keras model does.

    Some layers (random ones, for instance) are exported with an error in the log alone.
    """
    gap = _largest_gap(model, fast_form)
    if not gap < LARGEST_GAP:
        raise ValueError(f"its answers differ by up to {gap:g}")


def _largest_gap(model, fast_form: Path) -> float:
    """Return the largest difference between the answers of an ONNX file and of the Keras model.

    Raises:
        ValueError: ONNX Runtime refuses the file.
    """
    import numpy as np
    import onnxruntime

    faces = np.random.default_rng(0).random((3, *model.input_shape[1:]), dtype=np.float32)
    try:
        session = onnxruntime.InferenceSession(fast_form, providers=["CPUExecutionProvider"])
        answers = session.run(None, {session.get_inputs()[0].name: faces})[0]
    except Exception as error:  # its errors share no base below Exception
        raise ValueError(f"ONNX Runtime refuses it: {error}") from error
    return float(np.abs(answers - np.asarray(model.predict_on_batch(faces))).max())


def import_keras():
    """Return the keras module, or raise a `ModelError` that says how to get it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _quieten()
    try:
        with _native_stderr_silenced():
            import keras
    except ImportError as error:
        raise ModelError(
            "expected Keras and TensorFlow, which this model needs because it has no fast form "
            "(.onnx) that fits it; they are not installed: pip install -r requirements.txt"
        ) from error
    _quieten()  # again, because the import sets the levels anew
    return keras


def _quieten() -> None:
    """Drop what these libraries log to users that is meant for their authors."""
    for name in ("absl", "tf2onnx", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def _native_stderr_silenced() -> Iterator[None]:
    """Drop what TensorFlow's C++ prints about itself while it is imported."""
    sys.stderr.flush()
    with Path(os.devnull).open("wb") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _load_weights(model, path: Path) -> None:
    """Load an .h5 of `model.save` or of `save_weights`, old or new."""
    import h5py

    with h5py.File(path, "r") as file:
        is_new_style = "layer_names" not in file.attrs and "model_weights" not in file
    if not is_new_style:
        model.load_weights(path)
        return
    # Keras tells the two apart by the name alone, and this kind must end in .weights.h5
    with tempfile.TemporaryDirectory() as folder:
        renamed = Path(folder) / "model.weights.h5"
        shutil.copyfile(path, renamed)
        model.load_weights(renamed)


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or of its cause's, shortened, with its kind."""
    lines = str(error).rpartition("Exception encountered:")[2].strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}".rstrip(": ")


def main(arguments: list[str]) -> int:
    """Write the fast form of the model named on the command line."""
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
