"""How good the answers are: metrics from (labels, probabilities); no Keras, no files."""

import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import rel_entr
from sklearn.metrics import confusion_matrix, f1_score, log_loss, precision_recall_fscore_support

from emotion.errors import DatasetError
from emotion.model.card import Serving
from emotion.model.figures import wilson_interval
from emotion.model.runtime import EmotionModel, apply_temperature
from emotion.progress import progress_bar
from emotion.training.data.datasets import Dataset

CALIBRATION_BINS = 15
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)  # shares of the images, the surest first
SMALLEST_PROBABILITY = 1e-12  # stands for exactly 0 where a logarithm is taken
BATCH_SIZE = 512


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on N images of one split, N above 0."""

    class_names: tuple[str, ...]  # in output order
    labels: np.ndarray  # (N,) int, the true classes
    probabilities: np.ndarray  # (N, classes) float
    votes: np.ndarray | None = None  # (N, classes) shares; a row of zeros where nobody voted
    twins: np.ndarray | None = None  # (N,) bool, images that also stand in the training data

    @property
    def predictions(self) -> np.ndarray:
        return self.probabilities.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        return self.probabilities.max(axis=1)

    @property
    def right(self) -> np.ndarray:
        return self.labels == self.predictions

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def macro_f1(self) -> float:
        """Return the mean F1 of the classes that stand among the labels."""
        how = {"labels": np.unique(self.labels), "average": "macro", "zero_division": 0}
        return float(f1_score(self.labels, self.predictions, **how))

    @property
    def confusion(self) -> np.ndarray:
        """Return counts, (classes, classes) int: a row a true class, a column an answer."""
        classes = np.arange(len(self.class_names))
        return confusion_matrix(self.labels, self.predictions, labels=classes)

    @property
    def confusion_normalised(self) -> np.ndarray:
        """Return shares of each true class, (classes, classes); NaN if it has no images."""
        with np.errstate(invalid="ignore"):
            return self.confusion / self.confusion.sum(axis=1, keepdims=True)

    def per_class(self) -> tuple[dict, ...]:
        """Return class, precision, recall, F1 (None if not defined) and support of each class."""
        how = {"labels": np.arange(len(self.class_names)), "zero_division": np.nan}
        columns = precision_recall_fscore_support(self.labels, self.predictions, **how)
        return tuple(
            {"class": name}
            | dict(zip(("precision", "recall", "f1"), map(_number, shares), strict=True))
            | {"support": int(support)}
            for name, *shares, support in zip(self.class_names, *columns, strict=True)
        )

    def reliability(self) -> tuple[dict, ...]:
        """Return what lies in each bin of confidence, of equal width (Guo et al. 2017)."""
        bins = np.minimum((self.confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        return tuple(
            {
                "lower": number / CALIBRATION_BINS,
                "upper": (number + 1) / CALIBRATION_BINS,
                "confidence": mean_of(self.confidence[bins == number]),
                "accuracy": mean_of(self.right[bins == number]),
                "images": int((bins == number).sum()),
            }
            for number in range(CALIBRATION_BINS)
        )

    def risk_coverage(self) -> tuple[np.ndarray, np.ndarray]:
        """Return coverage, (N,), and risk: the share of errors among the surest answers."""
        # equally sure ones share their errors evenly (Geifman & El-Yaniv 2017)
        _, group, sizes = np.unique(-self.confidence, return_inverse=True, return_counts=True)
        errors = np.bincount(group, weights=~self.right)
        kept = np.arange(1, len(self.labels) + 1)
        return kept / len(self.labels), np.repeat(errors / sizes, sizes).cumsum() / kept

    def accuracy_by_coverage(self) -> tuple[dict, ...]:
        return tuple(map(self.coverage_row, COVERAGES))

    def coverage_row(self, coverage: float) -> dict:
        """Return the accuracy if only the surest answers count, at least this share of all."""
        threshold = np.sort(self.confidence)[-math.ceil(coverage * len(self.labels))]
        kept = self.confidence >= threshold
        row = {"coverage": coverage, "threshold": float(threshold), "images": int(kept.sum())}
        return row | {"accuracy": float(self.right[kept].mean())}

    def vote_agreement(self) -> dict | None:
        """Return how the answers stand to the votes, None if no image has any.

        Majority (one class, no tie) and cross-entropy (nats) are the measures of Barsoum et al.
        2016, "Training deep networks for facial expression recognition with crowd-sourced label
        distribution"; divergence: Lin 1991, "Divergence measures based on the Shannon entropy".
        """
        voted = np.zeros(len(self.labels), bool) if self.votes is None else self.votes.sum(1) > 0
        if not voted.any():
            return None
        votes = _normalised(self.votes[voted])
        probabilities = _normalised(self.probabilities[voted])
        answers, labels = self.predictions[voted], self.labels[voted]
        rows, majority = np.arange(len(votes)), votes.argmax(axis=1)
        middle = (votes + probabilities) / 2
        # SciPy's `jensenshannon` is the root, and NaN if rounding makes this negative
        nats = (rel_entr(votes, middle) + rel_entr(probabilities, middle)).sum(axis=1) / 2
        clear = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) == 1
        return {
            "images": len(votes),
            "mean_share": float(votes[rows, answers].mean()),
            "label_mean_share": float(votes[rows, labels].mean()),
            "best_mean_share": float(votes.max(axis=1).mean()),
            "majority_images": int(clear.sum()),
            "majority_accuracy": mean_of((answers == majority)[clear]),
            "label_majority_accuracy": mean_of((labels == majority)[clear]),
            "cross_entropy": _cross_entropy(votes, probabilities),
            "vote_entropy": _cross_entropy(votes, votes),
            "jensen_shannon_divergence": float((nats.clip(min=0) / np.log(2)).mean()),
        }

    def leak_free(self) -> "Evaluation | None":
        """Return the evaluation of the images without `twins`; None if unknown or none is left."""
        if self.twins is None or self.twins.all():
            return None
        return replace(self.where(~self.twins), twins=None)

    def where(self, mask: np.ndarray) -> "Evaluation":
        """Return the evaluation of the images for which `mask` (bool, (N,)) holds."""
        columns = vars(self).items()
        return replace(self, **{k: v[mask] for k, v in columns if isinstance(v, np.ndarray)})

    def figures(self) -> dict:
        """Return the figures that are one number each, as plain types for JSON."""
        best_2 = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :2]
        classes = np.arange(len(self.class_names))
        loss = log_loss(self.labels, _normalised(self.probabilities), labels=classes)
        # how far confidence and accuracy lie apart (Guo et al. 2017)
        used = [row for row in self.reliability() if row["images"]]
        gaps = [abs(row["confidence"] - row["accuracy"]) * row["images"] for row in used]
        return {
            "images": len(self.labels),
            "accuracy": self.accuracy,
            "accuracy_interval_95": list(wilson_interval(int(self.right.sum()), len(self.labels))),
            "top_2_accuracy": float((best_2 == self.labels[:, None]).any(axis=1).mean()),
            "macro_f1": self.macro_f1,
            "log_loss": float(loss),
            "expected_calibration_error": sum(gaps) / len(self.labels),
            # Geifman, Uziel & El-Yaniv 2019, "Bias-reduced uncertainty estimation"
            "area_under_risk_coverage": float(self.risk_coverage()[1].mean()),
        }

    def summary(self) -> dict:
        """Return every figure as plain types for JSON; None if one is not defined."""
        leak_free, shares = self.leak_free(), self.confusion_normalised
        return self.figures() | {
            "per_class": list(self.per_class()),
            "confusion_matrix": self.confusion.tolist(),
            "confusion_matrix_normalised": [[_number(share) for share in row] for row in shares],
            "reliability": list(self.reliability()),
            "accuracy_by_coverage": list(self.accuracy_by_coverage()),
            "vote_agreement": self.vote_agreement(),
            "images_also_in_training": None if self.twins is None else int(self.twins.sum()),
            "leak_free": leak_free.figures() if leak_free else None,
        }


def evaluate_model(model: EmotionModel, dataset: Dataset, one_crop: bool = False) -> Evaluation:
    """Evaluate a model, answered as photos are, or without the mirror; raises DatasetError."""
    unknown = sorted(set(dataset.class_names) - set(model.class_names))
    if unknown:
        expected = f"expected classes that {model.name} knows ({', '.join(model.class_names)})"
        raise DatasetError(f"{expected}; the dataset also has {', '.join(unknown)}")
    if not len(dataset):
        raise DatasetError("expected images to evaluate the model on; received none")
    positions = np.array([model.class_names.index(name) for name in dataset.class_names])
    votes = None
    if dataset.votes is not None:
        votes = np.zeros((len(dataset), len(model.class_names)), np.float32)
        votes[:, positions] = dataset.votes
    answers = predict_images(model.predict if one_crop else model.answer, dataset.images)
    return Evaluation(model.class_names, positions[dataset.labels], answers, votes, dataset.twins)


def mirrored(model: EmotionModel) -> EmotionModel:
    """Return a model that answers with the mirror image too, also if its card does not ask."""
    if model.serving.mirrored:
        return model
    return replace(model, card={**(model.card or {}), "serving": asdict(Serving(True))})


def predict_images(predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Return what `predict` answers to batches of (N, 48, 48) uint8 images, N above 0."""
    batches = []
    with progress_bar("images", len(images), sys.stderr) as show:  # large networks take minutes
        for start in range(0, len(images), BATCH_SIZE):
            show(start)
            faces = images[start : start + BATCH_SIZE, ..., None].astype(np.float32) / 255
            batches.append(predict(faces))
    return np.concatenate(batches)


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature for `apply_temperature` with the least log loss (Guo et al. 2017)."""
    at = np.arange(len(labels)), labels
    return best_fit(probabilities, lambda scaled: -np.log(scaled[at] + 1e-12).mean())


def best_fit(probabilities: np.ndarray, loss: Callable[[np.ndarray], float]) -> float:
    """Return the temperature for `apply_temperature` with which the loss is least."""

    def loss_at(log_temperature: float) -> float:
        return float(loss(apply_temperature(probabilities, float(np.exp(log_temperature)))))

    return float(np.exp(minimize_scalar(loss_at, bounds=(-2, 2), method="bounded").x))


def mean_of(values: np.ndarray) -> float | None:
    """Return the mean of (N,) values, None of none."""
    return float(values.mean()) if len(values) else None


def _cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> float:
    logarithms = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    return float(-(targets * logarithms).sum(axis=1).mean())


def _normalised(rows: np.ndarray) -> np.ndarray:
    exact = rows.astype(np.float64)
    return exact / exact.sum(axis=1, keepdims=True)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
