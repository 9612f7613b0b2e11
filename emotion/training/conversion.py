"""Models of other forms: read, wrapped into one that is served, checked; and a model's way out."""

import argparse
import contextlib
import json
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from emotion.errors import ModelError
from emotion.files import user_path, whole_file, write_json
from emotion.labels import EMOTIONS, FER2013_CODES, common_name
from emotion.model.keras import (
    LARGEST_GAP,
    LOAD_ERRORS,
    ModelFiles,
    build_model,
    import_keras,
    load_keras_model,
    load_weights,
    read_architecture,
    reason_of,
    save_keras_model,
    write_fast_form,
)
from emotion.model.keras_2 import MODELS
from emotion.model.runtime import INPUT_SHAPE, NO_CARD, load_model
from emotion.training.settings import settings_from

ORDERS = {"fer2013": FER2013_CODES, "alphabetical": EMOTIONS}
PIXELS = ("auto", "0-1", "0-255", "centred", "imagenet")  # how a network wants them
SMALLEST_SHARE = 1e-7
SUFFIXES = (".json", ".h5", ".hdf5", ".keras")


def convert(options: argparse.Namespace) -> None:
    """Make a model of another form one that is served; without --classes: write its fast form."""
    paths = [user_path(path) for path in options.files]
    source, is_pair = ModelFiles(paths[0]), len(paths) == 1 and not paths[0].exists()
    if is_pair and not options.classes:
        load_model(source.stem, keras_alone=True)  # it may need more than a fast form
        write_fast_form(source)
        print(f"Wrote {source.fast_form}")
        return
    name = paths[0].stem if paths[0].suffix in SUFFIXES else paths[0].name
    settings = settings_from(options, {"name": name})
    target = ModelFiles(Path(settings.models) / settings.name)
    own = {path.resolve() for path in (target.stem, target.architecture, target.weights)}
    if target.weights.exists() and not (settings.overwrite or own & {p.resolve() for p in paths}):
        raise ModelError(
            f"expected a --name that is free, or --overwrite, which keeps the present model as "
            f"{target.previous.name}; {target.stem} exists"
        )
    from emotion.training.publishing import move_into_place

    with tempfile.TemporaryDirectory() as folder:
        finished = ModelFiles(Path(folder) / target.name)
        print(*convert_model(paths, finished, options.classes, options.pixels), sep="\n")
        try:
            write_fast_form(finished)
        except ModelError as error:
            print(f"Note: {error}, so Keras runs the pair, more slowly")
        load_model(finished.stem, keras_alone=not finished.fast_form.exists())
        move_into_place([(finished, target)])
    print(f"Wrote {target.stem}.json, .h5 and its card")


def member_as_pair(path: Path, folder: Path, options: argparse.Namespace) -> Path:
    """Return the stem of the pair that a model is or, converted into a folder, becomes."""
    files = ModelFiles(path)
    if files.card.is_file():
        return path
    if not (path.exists() or options.classes):
        print(f"Note: {path}: {NO_CARD}")
        return path
    pair = ModelFiles(Path(tempfile.mkdtemp(dir=folder)) / path.stem)
    print(f"{path}:", *convert_model([path], pair, options.classes, options.pixels), sep="\n")
    return pair.stem


def convert_model(paths: Sequence[Path], files: ModelFiles, classes: str, pixels: str) -> list[str]:
    """Write a model of any form that can be read as a pair with a card; say what was done to it.

    `paths`: one file, a folder (SavedModel), a pair without suffix, or architecture and weights.
    Raises ModelError, also where what was written does not answer as the original.
    """
    forms = ".keras, .h5, a SavedModel, or an architecture as .json and its weights"
    with _refusing(f"expected a model of Keras' own layers ({forms}) in {paths[0]}"):
        served, expected, lines = _as_served(*_read_network(paths), pixels)
        names = _class_names(classes, expected.shape[1])
        save_keras_model(served, files)
        answers = load_keras_model(files).predict_on_batch(_faces())
        if not (gap := np.abs(answers - expected).max()) < LARGEST_GAP:
            raise ValueError(f"its answers differ by up to {gap:g}")
    card = {
        "card": 1,
        "name": files.name,
        "created": datetime.now(UTC).date().isoformat(),
        "class_names": names,
        "input_shape": INPUT_SHAPE,
        **files.hashes(),
        "converted_from": {"name": " + ".join(path.name for path in paths)},
        "versions": {name: version(name) for name in ("keras", "numpy")},
    }
    write_json(files.card, card)
    return [*lines, f"Classes: {', '.join(names)}", f"It answers as the original, to {gap:.0e}"]


@contextlib.contextmanager
def _refusing(expected: str) -> Iterator[None]:
    """Turn what Keras raises into a ModelError; its warnings are about its own future."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except LOAD_ERRORS as error:
        raise ModelError(f"{expected}; it cannot be done ({reason_of(error)})") from error


def _class_names(classes: str, count: int) -> list[str]:
    names = ORDERS.get(classes) or [common_name(name) for name in classes.split(",") if name]
    if len(names) != count or len(set(names)) < max(count, 2):
        orders = ": --classes fer2013 for a model made from fer2013.csv, alphabetical from folders"
        raise ModelError(
            f"expected --classes with {count} different names, as many as outputs and in their "
            f"order{orders * (count == len(EMOTIONS))}; received {', '.join(names) or 'none'}"
        )
    return list(names)


def _read_network(paths: Sequence[Path]) -> tuple:
    """Return the `keras.Model` of some files, and what answers as they do."""
    first, *others = sorted(paths, key=lambda path: path.suffix != ".json")
    last = others[-1] if others else first
    if last.is_dir():
        return _read_saved_model(last, read_architecture(first) if others else None)
    if not first.exists():
        if first.suffix in SUFFIXES:
            raise ModelError(f"expected a model's file at {first}; there is none")
        ModelFiles(first).require_pair()
        first, last = ModelFiles(first).architecture, ModelFiles(first).weights
    elif not others and first.suffix == ".json":
        last = first.with_suffix(".h5")
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        if zipfile.is_zipfile(last):
            with zipfile.ZipFile(last) as file:
                content, about = map(json.loads, map(file.read, ("config.json", "metadata.json")))
                last = Path(file.extract("model.weights.h5", folder))
            content |= {"keras_version": about["keras_version"], "compile_config": None}
        elif first.suffix == ".json":
            content = read_architecture(first)
        else:
            with h5py.File(last) as file:
                found, age = (file.attrs.get(name) for name in ("model_config", "keras_version"))
            content = json.loads(found) if found else read_architecture(last.with_suffix(".json"))
            content.setdefault("keras_version", age or "2")
        network = build_model(content)
        load_weights(network, last)
    return network, network.predict_on_batch


def _read_saved_model(folder: Path, content: Mapping | None) -> tuple:
    """Return the network of a SavedModel, whose graph is run; `content`: its architecture."""
    import tensorflow

    saved = tensorflow.saved_model.load(folder)
    network = build_model(content or _architecture_in(folder))
    network.set_weights([each.numpy() for each in saved.variables if each.dtype.is_floating])
    serve = saved.signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]

    def answer(faces: np.ndarray) -> np.ndarray:
        (answers,) = serve(**{name: tensorflow.constant(faces)}).values()
        return answers.numpy()

    return network, answer


def _architecture_in(folder: Path) -> dict:
    """Return the architecture that Keras 2 wrote into a SavedModel; what Keras 3 exports has none.

    It stands as JSON between bytes of another form: before TensorFlow 2.5 in the second file.
    """
    decoder = json.JSONDecoder(  # as Keras 2 wrote tuples there
        object_hook=lambda one: one["items"] if one.get("class_name") == "__tuple__" else one
    )
    for path in filter(Path.is_file, (folder / "keras_metadata.pb", folder / "saved_model.pb")):
        text = path.read_bytes().decode("utf-8", "ignore")
        for start in re.finditer(r'\{"', text):
            with contextlib.suppress(ValueError, AttributeError):
                content, _ = decoder.raw_decode(text, start.start())
                if content.get("class_name") in MODELS:
                    return {key: content[key] for key in ("class_name", "config")}
    raise ModelError(
        f"expected a SavedModel of Keras 2, with its architecture; {folder} has none: give it, as "
        f"model.to_json() writes it, before the folder: convert MODEL.json {folder.name}"
    )


def _as_served(network, answer: Callable, pixels: str) -> tuple:
    """Return a network for grey faces of 48x48 that answers with probabilities as another does,
    what that one answers to `_faces()`, and lines that say what was added.
    """
    keras = import_keras()
    from emotion.training.networks.architectures import IMAGENET_OFFSET

    shape, layers = network.input_shape, keras.layers
    if len(network.inputs) > 1 or len(network.outputs) > 1 or len(shape) != 4:
        raise ModelError(f"expected one picture in and one answer out; received input {shape}")
    height, width = (side or given for side, given in zip(shape[1:3], INPUT_SHAPE, strict=False))
    if shape[3] not in (1, 3):
        raise ModelError(f"expected (N, height, width, 1 or 3) as input; received {shape}")
    if pixels == "auto":
        scaling = (one for one in network._flatten_layers() if type(one) is layers.Rescaling)
        pixels = "0-255" if any(np.max(layer.scale) < 0.1 for layer in scaling) else "0-1"
    scales = {"0-1": (1, 0), "0-255": (255.0, 0), "centred": (2.0, -1.0)}
    factor, offset = (scales | {"imagenet": (255.0, IMAGENET_OFFSET)})[pixels]
    given = [cv2.resize(face, (width, height)) for face in _faces()]
    given = np.stack(given)[..., None].repeat(shape[3], axis=3) * factor + np.float32(offset)
    expected = np.asarray(answer(given.astype(np.float32)), dtype=np.float64)
    expected = expected.reshape(len(expected), -1)
    if not np.isfinite(expected).all():
        raise ModelError("expected numbers as answers; received some that are not finite")

    lines, plain = [f"Pixels: {pixels}"], {"dtype": "float32"}
    faces = seen = keras.Input(INPUT_SHAPE, name="faces")
    if (height, width) != INPUT_SHAPE[:2]:
        # as products with fixed matrices: ONNX's exporter is a pixel off in a `Resizing`
        seen = layers.Reshape(INPUT_SHAPE[:2])(seen)
        for side in (width, height):
            grid = cv2.resize(np.eye(INPUT_SHAPE[0], dtype=np.float32), (side, INPUT_SHAPE[0]))
            scale = layers.Dense(side, use_bias=False, trainable=False, **plain)
            scale.build((None, INPUT_SHAPE[0]))
            scale.set_weights([grid])
            seen = layers.Permute((2, 1))(scale(seen))
        seen = layers.Reshape((height, width, 1))(seen)
        lines.append(f"Added: faces are scaled to {width}x{height}")
    if shape[3] == 3:
        seen = layers.Concatenate(**plain)([seen] * 3)
        lines.append("Added: three equal channels")
    if pixels != "0-1":
        seen = layers.Rescaling(factor, offset, **plain)(seen)
    answers = network(seen)
    if len(answers.shape) > 2:
        answers = layers.Flatten()(answers)
    if (expected < 0).any() or abs(expected.sum(axis=1) - 1).max() > LARGEST_GAP:
        last = getattr(network.layers[-1], "activation", None)
        if last is keras.activations.sigmoid:  # shares that do not sum to 1
            expected = np.log(np.maximum(expected, SMALLEST_SHARE))
            answers = keras.ops.log(keras.ops.maximum(answers, SMALLEST_SHARE))
        answers = layers.Activation("softmax", **plain)(answers)
        powers = np.exp(expected - expected.max(axis=1, keepdims=True))
        expected = powers / powers.sum(axis=1, keepdims=True)
        lines.append("Added: a softmax")
    is_wrapped = len(lines) > 1 or pixels != "0-1" or len(network.output_shape) > 2
    return keras.Model(faces, answers) if is_wrapped else network, expected, lines


def _faces() -> np.ndarray:
    """Return noise to compare answers on, (4, 48, 48, 1) in [0, 1]."""
    return np.random.default_rng(0).random((4, *INPUT_SHAPE), dtype=np.float32)


def export(options: argparse.Namespace) -> None:
    """Write a model as .keras, as .tflite or as SavedModel (a folder), checked against its pair."""
    files, target = ModelFiles(user_path(options.model)), user_path(options.to)
    if target.exists() or target.suffix not in ("", ".keras", ".tflite"):
        expected = "expected a new file.keras, file.tflite or folder (SavedModel) as --to"
        raise ModelError(f"{expected}; received {target}")
    model, keras = load_model(files.stem, keras_alone=True), import_keras()
    network, faces = load_keras_model(files), _faces()
    expected = network.predict_on_batch(faces)  # it must be called once before it is exported
    with _refusing(f"expected {files.name} to be exported to {target}"), whole_file(target) as part:
        if target.suffix == ".keras":
            network.save(part)
            answers = keras.saving.load_model(part, compile=False).predict_on_batch(faces)
        elif target.suffix == ".tflite":
            import tensorflow

            network.export(part, format="litert", verbose=False)
            runtime = tensorflow.lite.Interpreter(str(part))
            (given,), (got,) = runtime.get_input_details(), runtime.get_output_details()
            runtime.resize_tensor_input(given["index"], faces.shape)
            runtime.allocate_tensors()
            runtime.set_tensor(given["index"], faces)
            runtime.invoke()
            answers = runtime.get_tensor(got["index"])
        else:
            network.export(part, format="tf_saved_model", verbose=False)
            answers = np.asarray(keras.layers.TFSMLayer(part, call_endpoint="serve")(faces))
        if not (gap := np.abs(answers - expected).max()) < LARGEST_GAP:
            raise ValueError(f"its answers differ by up to {gap:g}")
    print(f"Wrote {target}, which answers as {files.name}, to {gap:.0e}")
    print("In: (N, 48, 48, 1) grey faces, float32 from 0 to 1")
    print(f"Out: {', '.join(model.class_names)}")


def restore(options: argparse.Namespace) -> None:
    """Bring the model back that the present one of this name replaced; the two change places."""
    files = ModelFiles(user_path(options.model))
    if not files.previous.weights.is_file():
        raise ModelError(f"expected a model that {files.stem} replaced; there is none to restore")
    load_model(files.previous.stem)
    from emotion.training.publishing import move_into_place

    move_into_place([(files.previous, files)])
    print(f"Restored {files.stem}; what was there is {files.previous.name}")
