"""How good the answers are: metrics from (labels, probabilities); no Keras, no files."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import rel_entr
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from emotion.errors import DatasetError
from emotion.model.figures import wilson_interval
from emotion.model.runtime import EmotionModel, apply_temperature
from emotion.training.data.datasets import Dataset

CALIBRATION_BINS = 15
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)
"""Shares of the images, the surest first, at which the accuracy is given."""

SMALLEST_PROBABILITY = 1e-12
"""Stands for a probability of exactly 0 where a logarithm is taken."""


@dataclass(frozen=True)
class VoteAgreement:
    """How the answers stand to the votes of several people on each image.

    The votes are those of FER+ (Barsoum et al. 2016, "Training deep networks for facial expression
    recognition with crowd-sourced label distribution"), as shares of the votes that fell on one
    of the classes.

    Attributes:
        images: how many images have votes.
        mean_share: mean share of the voters who gave the model's answer, 0 to 1.
        label_mean_share: the same for the dataset's own label.
        best_mean_share: the same for the answer most voters gave, the most that can be reached.
        majority_images: how many images have one class with the most votes, without a tie.
        majority_accuracy: share of those on which the model gives that class, the measure of
            Barsoum et al.; None if there are none.
        label_majority_accuracy: the same for the dataset's own label.
        cross_entropy: mean of -sum(votes * log(probabilities)) in nats, the training loss of
            Barsoum et al.; at least `vote_entropy`.
        vote_entropy: mean entropy of the votes in nats: how much people disagree.
        jensen_shannon_divergence: mean divergence of votes and probabilities (Lin 1991,
            "Divergence measures based on the Shannon entropy"), 0 (equal) to 1 (nothing in common).
    """

    images: int
    mean_share: float
    label_mean_share: float
    best_mean_share: float
    majority_images: int
    majority_accuracy: float | None
    label_majority_accuracy: float | None
    cross_entropy: float
    vote_entropy: float
    jensen_shannon_divergence: float


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on one split.

    Attributes:
        class_names: the classes in output order.
        labels: (N,) int, the true classes.
        probabilities: (N, classes) float.
        votes: (N, classes) float32, the share of the votes for each class, a row of zeros where
            nobody voted for one of the classes; None without votes.
        twins: (N,) bool, images that also stand in the training data; None if not known.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    votes: np.ndarray | None = None
    twins: np.ndarray | None = None

    def __post_init__(self) -> None:
        expected = (len(self.labels), len(self.class_names))
        if self.probabilities.shape != expected or not len(self.labels):
            raise ValueError(
                f"expected a row a label and a column a class, {expected}; "
                f"received {self.probabilities.shape}"
            )
        if self.votes is not None and self.votes.shape != expected:
            raise ValueError(f"expected votes of shape {expected}; received {self.votes.shape}")
        if self.twins is not None and self.twins.shape != expected[:1]:
            raise ValueError(f"expected twins of shape {expected[:1]}; received {self.twins.shape}")

    @property
    def predictions(self) -> np.ndarray:
        return self.probabilities.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """Return the probability of each answer, (N,) float."""
        return self.probabilities.max(axis=1)

    @property
    def right(self) -> np.ndarray:
        """Return which answers equal the label, (N,) bool."""
        return self.labels == self.predictions

    @property
    def accuracy(self) -> float:
        return float(accuracy_score(self.labels, self.predictions))

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Return the 95% interval of the accuracy (Wilson 1927)."""
        return wilson_interval(int(self.right.sum()), len(self.labels))

    @property
    def top_2_accuracy(self) -> float:
        """Return how often the label is among the two most probable classes; always with two."""
        ranked = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :2]
        return float((ranked == self.labels[:, None]).any(axis=1).mean())

    @property
    def macro_f1(self) -> float:
        """Return the mean F1 of the classes that stand among the labels."""
        present = np.unique(self.labels)
        how = {"labels": present, "average": "macro", "zero_division": 0}
        return float(f1_score(self.labels, self.predictions, **how))

    @property
    def log_loss(self) -> float:
        classes = np.arange(len(self.class_names))
        return float(log_loss(self.labels, _normalised(self.probabilities), labels=classes))

    @property
    def expected_calibration_error(self) -> float:
        """Return how far confidence and accuracy lie apart (Guo et al. 2017), 0 to 1."""
        return sum(
            abs(row["confidence"] - row["accuracy"]) * row["images"] / len(self.labels)
            for row in self.reliability()
            if row["images"]
        )

    @property
    def confusion(self) -> np.ndarray:
        """Return counts, (classes, classes) int: a row a true class, a column an answer."""
        classes = np.arange(len(self.class_names))
        return confusion_matrix(self.labels, self.predictions, labels=classes)

    @property
    def confusion_normalised(self) -> np.ndarray:
        """Return shares of each true class, (classes, classes); NaN if it has none."""
        counts = self.confusion
        totals = counts.sum(axis=1, keepdims=True)
        blank = np.full(counts.shape, np.nan)
        return np.divide(counts, totals, out=blank, where=totals > 0)

    @property
    def area_under_risk_coverage(self) -> float:
        """Return the mean risk over all coverages (AURC), 0 to 1, low is good.

        Geifman, Uziel & El-Yaniv 2019, "Bias-reduced uncertainty estimation for deep neural
        classifiers".
        """
        return float(self.risk_coverage()[1].mean())

    def per_class(self) -> tuple[dict, ...]:
        """Return class, precision, recall, F1 and support (images) of each class.

        A figure that is not defined is None: precision of a class that is never the answer, recall
        of one without images, F1 of one that is both.
        """
        classes = np.arange(len(self.class_names))
        columns = precision_recall_fscore_support(
            self.labels, self.predictions, labels=classes, zero_division=np.nan
        )
        return tuple(
            {
                "class": name,
                "precision": _number(precision),
                "recall": _number(recall),
                "f1": _number(f1),
                "support": int(support),
            }
            for name, precision, recall, f1, support in zip(self.class_names, *columns, strict=True)
        )

    def reliability(self) -> tuple[dict, ...]:
        """Return lower, upper, confidence, accuracy and images of each bin of confidence.

        The bins are of equal width (Guo et al. 2017); confidence and accuracy are means, None in a
        bin without images.
        """
        bins = np.minimum((self.confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        return tuple(
            {
                "lower": number / CALIBRATION_BINS,
                "upper": (number + 1) / CALIBRATION_BINS,
                "confidence": _mean(self.confidence[bins == number]),
                "accuracy": _mean(self.right[bins == number]),
                "images": int((bins == number).sum()),
            }
            for number in range(CALIBRATION_BINS)
        )

    def risk_coverage(self) -> tuple[np.ndarray, np.ndarray]:
        """Return coverage and risk, (N,) each: the share of errors when the unsure are left out.

        Geifman & El-Yaniv 2017, "Selective classification for deep neural networks". Answers that
        are equally sure cannot be told apart, so their errors are spread evenly among them.
        """
        _, group, sizes = np.unique(-self.confidence, return_inverse=True, return_counts=True)
        errors = np.bincount(group, weights=~self.right)
        kept = np.arange(1, len(self.labels) + 1)
        return kept / len(self.labels), np.repeat(errors / sizes, sizes).cumsum() / kept

    def accuracy_by_coverage(self) -> tuple[dict, ...]:
        """Return coverage, threshold, images and accuracy at each of `COVERAGES`."""
        return tuple(self.coverage_row(coverage) for coverage in COVERAGES)

    def coverage_row(self, coverage: float) -> dict:
        """Return the accuracy if only a share of the images, the surest, is answered.

        Returns:
            coverage: that share, above 0 to 1; threshold: the confidence from which an answer
            counts, so that at least that share remains; images: how many remain; accuracy: theirs.
        """
        least_images = int(np.ceil(coverage * len(self.labels)))
        threshold = np.sort(self.confidence)[-least_images]
        kept = self.confidence >= threshold
        return {
            "coverage": coverage,
            "threshold": float(threshold),
            "images": int(kept.sum()),
            "accuracy": float(self.right[kept].mean()),
        }

    def vote_agreement(self) -> VoteAgreement | None:
        """Return how the answers stand to the votes, None if no image has any."""
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
        return VoteAgreement(
            images=len(votes),
            mean_share=float(votes[rows, answers].mean()),
            label_mean_share=float(votes[rows, labels].mean()),
            best_mean_share=float(votes.max(axis=1).mean()),
            majority_images=int(clear.sum()),
            majority_accuracy=_mean((answers == majority)[clear]),
            label_majority_accuracy=_mean((labels == majority)[clear]),
            cross_entropy=_cross_entropy(votes, probabilities),
            vote_entropy=_cross_entropy(votes, votes),
            jensen_shannon_divergence=float((nats.clip(min=0) / np.log(2)).mean()),
        )

    def leak_free(self) -> "Evaluation | None":
        """Return the evaluation of the images that do not also stand in the training data.

        None where that is not known or no image is left.
        """
        if self.twins is None or self.twins.all():
            return None
        kept = ~self.twins
        return replace(
            self,
            labels=self.labels[kept],
            probabilities=self.probabilities[kept],
            votes=None if self.votes is None else self.votes[kept],
            twins=None,
        )

    def figures(self) -> dict:
        """Return the figures that are one number each, as plain types for JSON."""
        return {
            "images": len(self.labels),
            "accuracy": self.accuracy,
            "accuracy_interval_95": list(self.accuracy_interval),
            "top_2_accuracy": self.top_2_accuracy,
            "macro_f1": self.macro_f1,
            "log_loss": self.log_loss,
            "expected_calibration_error": self.expected_calibration_error,
            "area_under_risk_coverage": self.area_under_risk_coverage,
        }

    def summary(self) -> dict:
        """Return every figure as plain types for JSON; None if one is not defined."""
        agreement, leak_free = self.vote_agreement(), self.leak_free()
        return self.figures() | {
            "per_class": list(self.per_class()),
            "confusion_matrix": self.confusion.tolist(),
            "confusion_matrix_normalised": [
                [_number(share) for share in row] for row in self.confusion_normalised
            ],
            "reliability": list(self.reliability()),
            "accuracy_by_coverage": list(self.accuracy_by_coverage()),
            "vote_agreement": asdict(agreement) if agreement else None,
            "images_also_in_training": None if self.twins is None else int(self.twins.sum()),
            "leak_free": leak_free.figures() if leak_free else None,
        }


def evaluate_model(model: EmotionModel, dataset: Dataset, one_crop: bool = False) -> Evaluation:
    """Evaluate a loaded model on all images of a dataset, answered as photos are.

    Args:
        model: the model, as it is served.
        dataset: the images; its votes and twins are taken over.
        one_crop: leave the mirror image out, even if the model's card asks for it.

    Raises:
        DatasetError: the dataset has no images, or a class that the model does not know.
    """
    unknown = sorted(set(dataset.class_names) - set(model.class_names))
    if unknown:
        raise DatasetError(
            f"expected classes that {model.name} knows ({', '.join(model.class_names)}); "
            f"the dataset also has {', '.join(unknown)}"
        )
    if not len(dataset):
        raise DatasetError("expected images to evaluate the model on; received none")
    positions = np.array([model.class_names.index(name) for name in dataset.class_names])
    votes = None
    if dataset.votes is not None:
        votes = np.zeros((len(dataset), len(model.class_names)), np.float32)
        votes[:, positions] = dataset.votes
    return Evaluation(
        class_names=model.class_names,
        labels=positions[dataset.labels],
        probabilities=predict_images(model.predict if one_crop else model.answer, dataset.images),
        votes=votes,
        twins=dataset.twins,
    )


def predict_images(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, at_once: int = 512
) -> np.ndarray:
    """Return the probabilities of (N, 48, 48) uint8 images, (N, classes), N above 0.

    `predict` takes batches of at most `at_once` faces, (N, 48, 48, 1) float32 in [0, 1].
    """
    batches = [
        predict(images[start : start + at_once, ..., None].astype(np.float32) / 255)
        for start in range(0, len(images), at_once)
    ]
    return np.concatenate(batches)


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


def _cross_entropy(targets: np.ndarray, probabilities: np.ndarray) -> float:
    logarithms = np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
    return float(-(targets * logarithms).sum(axis=1).mean())


def _normalised(rows: np.ndarray) -> np.ndarray:
    exact = rows.astype(np.float64)
    return exact / exact.sum(axis=1, keepdims=True)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
