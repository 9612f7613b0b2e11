"""How good the answers are: metrics from (labels, probabilities); no Keras, no files."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from emotion.errors import DatasetError
from emotion.model import EmotionModel
from emotion.training.datasets import Dataset

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on one split.

    Attributes:
        class_names: the classes in output order.
        labels: (N,) int, the true classes.
        probabilities: (N, classes) float.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        expected = (len(self.labels), len(self.class_names))
        if self.probabilities.shape != expected or not len(self.labels):
            raise ValueError(
                f"expected a row a label and a column a class, {expected}; "
                f"received {self.probabilities.shape}"
            )

    @property
    def predictions(self) -> np.ndarray:
        """Return the most probable class of each image, (N,) int."""
        return self.probabilities.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        return float(accuracy_score(self.labels, self.predictions))

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the accuracy (Wilson 1927)."""
        right = int((self.labels == self.predictions).sum())
        interval = binomtest(right, len(self.labels)).proportion_ci(method="wilson")
        return float(interval.low), float(interval.high)

    @property
    def macro_f1(self) -> float:
        return float(
            f1_score(
                self.labels,
                self.predictions,
                labels=self._present(),
                average="macro",
                zero_division=0,
            )
        )

    @property
    def log_loss(self) -> float:
        every_class = np.arange(len(self.class_names))
        return float(log_loss(self.labels, _normalised(self.probabilities), labels=every_class))

    @property
    def expected_calibration_error(self) -> float:
        """Return how far confidence and accuracy lie apart (Guo et al. 2017), 0 to 1."""
        confidence = self.probabilities.max(axis=1)
        right = self.labels == self.predictions
        bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        gaps = [
            abs(confidence[bins == number].mean() - right[bins == number].mean())
            * (bins == number).mean()
            for number in np.unique(bins)
        ]
        return float(sum(gaps))

    @property
    def confusion(self) -> np.ndarray:
        """Return counts, (classes, classes) int: a row a true class, a column an answer."""
        every_class = np.arange(len(self.class_names))
        return confusion_matrix(self.labels, self.predictions, labels=every_class)

    def per_class(self) -> tuple[dict, ...]:
        """Return class, precision, recall, F1 and support (images) of each class."""
        columns = precision_recall_fscore_support(
            self.labels,
            self.predictions,
            labels=np.arange(len(self.class_names)),
            zero_division=0,
        )
        return tuple(
            {
                "class": name,
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "support": int(support),
            }
            for name, precision, recall, f1, support in zip(self.class_names, *columns, strict=True)
        )

    def summary(self) -> dict:
        """Return every figure as plain types for JSON."""
        return {
            "images": len(self.labels),
            "accuracy": self.accuracy,
            "accuracy_interval_95": list(self.accuracy_interval),
            "macro_f1": self.macro_f1,
            "log_loss": self.log_loss,
            "expected_calibration_error": self.expected_calibration_error,
            "per_class": list(self.per_class()),
            "confusion_matrix": self.confusion.tolist(),
        }

    def _present(self) -> np.ndarray:
        """Return the classes that stand among the labels."""
        return np.unique(self.labels)


def evaluate_model(model: EmotionModel, dataset: Dataset) -> Evaluation:
    """Evaluate a loaded model, as it is served, on all images of a dataset.

    Raises:
        DatasetError: the dataset has a class that the model does not know.
    """
    unknown = sorted(set(dataset.class_names) - set(model.class_names))
    if unknown:
        raise DatasetError(
            f"expected classes that {model.name} knows ({', '.join(model.class_names)}); "
            f"the dataset also has {', '.join(unknown)}"
        )
    positions = np.array([model.class_names.index(name) for name in dataset.class_names])
    return Evaluation(
        class_names=model.class_names,
        labels=positions[dataset.labels],
        probabilities=model.predict(dataset.images[..., None].astype(np.float32) / 255),
    )


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature that makes probabilities honest (Guo et al. 2017).

    Args:
        labels: (N,) int, from images the network was not trained on.
        probabilities: (N, classes), the softmax output.

    Returns:
        T > 0 such that softmax(log(probabilities) / T) has the least log loss; above 1 where the
        network is too sure of itself.
    """

    def loss(log_temperature: float) -> float:
        scaled = apply_temperature(probabilities, float(np.exp(log_temperature)))
        return -float(np.log(scaled[np.arange(len(labels)), labels] + 1e-12).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(log(probabilities) / temperature), (N, classes)."""
    logits = np.log(np.clip(probabilities.astype(np.float64), 1e-12, 1)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _normalised(probabilities: np.ndarray) -> np.ndarray:
    """Return rows that sum to 1 in double precision."""
    exact = probabilities.astype(np.float64)
    return exact / exact.sum(axis=1, keepdims=True)
