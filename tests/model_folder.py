"""Folders of models for tests: pairs that run, with cards and reports of generated figures."""

import json

import numpy as np

from emotion.files import sha256_of
from emotion.labels import EMOTIONS
from emotion.model.keras import ModelFiles

IMAGES = 700
VERDICT = {
    **{"sure_from": 0.51, "clear_margin": 0.12, "accuracy_when_unsure": 0.43, "coverage": 0.83},
    **{"accuracy_when_sure": 0.93, "named_when_unsure": 0.87, "split": "validation", "images": 321},
}
AGREEMENT = {
    **{"images": 42, "mean_absolute_error": 1.5, "mean_error": -0.3},
    "said": [{"said": 7, "named": 7.2, "images": 12}, {"said": 8, "named": 8.5, "images": 30}],
    **{"split_images": 5, "split_first": 3.7, "split_named": 7.4},
}
DATASET = {
    **{"name": "fer2013.csv", "votes": "fer2013new.csv", "fingerprint": "cd" * 32},
    "images": {"train": 4321, "validation": 321, "test": IMAGES},
    "removed_because_also_in_test": 17,
    "notes": ["a remark on the data"],
}


def write_pair(stem, seed=0, weights=None):
    """Write a pair with a fast form that runs, although its Keras files are no model at all.

    Pairs of different seeds differ in their weights' file.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    stem.parent.mkdir(parents=True, exist_ok=True)
    if weights is None:
        weights = np.random.default_rng(1).normal(size=(48 * 48, 7)).astype(np.float32) / 10
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["faces"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["N", 48, 48, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 7])],
        [numpy_helper.from_array(weights, "weights")],
    )
    opset, files = helper.make_opsetid("", 17), ModelFiles(stem)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), files.fast_form)
    files.architecture.write_text("{}")
    files.weights.write_bytes(b"weights %d" % seed)
    seal = {"sha256": sha256_of(files.fast_form)} | files.hashes()
    files.fast_form_seal.write_text(json.dumps(seal))
    return files


def write_card(files, **facts):
    """Write a card that fits a pair; facts are put over what it says."""
    card = {"class_names": EMOTIONS, "input_shape": (48, 48, 1), **files.hashes(), **facts}
    files.card.write_text(json.dumps(card))
    return card


def evaluation(seed=0):
    """Return the evaluation of made-up answers: most are right, disgust is rare."""
    from emotion.training.measuring.evaluation import Evaluation

    random = np.random.default_rng(seed)
    others = [place for place, name in enumerate(EMOTIONS) if name != "disgust"]
    labels = random.choice(others, IMAGES)
    labels[:5] = EMOTIONS.index("disgust")
    scores = random.normal(size=(IMAGES, len(EMOTIONS)))
    scores[np.arange(IMAGES), labels] += 2
    powers = np.exp(scores)
    twins = random.random(IMAGES) < 0.1
    return Evaluation(EMOTIONS, labels, powers / powers.sum(axis=1, keepdims=True), None, twins)


def report_content(result, seed=0):
    kinds = [(name, level) for name in ("blur", "noise") for level in ("mild", "medium", "strong")]
    rows = [
        {"corruption": name, "level": level, "accuracy": accuracy, "images": 40}
        for name, level, accuracy in [("none", "", 0.75), *((*k, 0.5 + seed / 100) for k in kinds)]
    ]
    one_crop = result.figures() | {"accuracy": 0.71 + seed / 100}
    said = None if seed else AGREEMENT
    return result.summary() | {"one_crop": one_crop, "robustness": rows, "agreement": said}


def write_measured(stem, seed=0, **facts):
    """Write a pair with a card and its report; return the content of both."""
    files, summary = write_pair(stem, seed), report_content(evaluation(seed), seed)
    folder = stem.with_name(f"{stem.name}_report") / "test"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(summary))
    left_out = ("confusion_matrix", "confusion_matrix_normalised", "reliability", "robustness")
    figures = {name: value for name, value in summary.items() if name not in left_out}
    told = {"metrics": {"test": figures}, "answers": "labels", "verdict": VERDICT}
    told |= {"serving": {"mirrored": True, "temperature": 1.1}, "dataset": DATASET}
    return write_card(files, **(told | facts)), summary
