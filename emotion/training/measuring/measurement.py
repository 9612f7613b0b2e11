"""Everything that a report tells about a model on one split; no Keras, no files."""

from dataclasses import asdict, dataclass
from itertools import chain, zip_longest

import numpy as np

from emotion.model.runtime import EmotionModel
from emotion.training.data.datasets import Dataset
from emotion.training.measuring.evaluation import Evaluation, evaluate_model
from emotion.training.measuring.robustness import RobustnessRow, measure_robustness

SAMPLE_COUNT = 24


@dataclass(frozen=True)
class SplitResult:
    """What was measured on one split.

    Attributes:
        evaluation: the metrics of the model as photos are answered.
        one_crop: the metrics without the mirror image; None if photos are answered so.
        robustness: the accuracy under each corruption; empty if it was not measured.
        images: (N, 48, 48) uint8, in the order of the evaluation.
        names: (N,) str, where each image comes from; None if not known.
    """

    evaluation: Evaluation
    one_crop: Evaluation | None
    robustness: tuple[RobustnessRow, ...]
    images: np.ndarray
    names: np.ndarray | None

    def summary(self) -> dict:
        """Return every figure of the evaluation, and those of one crop, as plain types for JSON."""
        one_crop = self.one_crop.figures() if self.one_crop else None
        return self.evaluation.summary() | {"one_crop": one_crop}

    def report(self) -> dict:
        """Return the content of the report's `evaluation.json`: the summary and the robustness."""
        return self.summary() | {"robustness": [asdict(row) for row in self.robustness]}


@dataclass(frozen=True)
class Sample:
    """One image with its answer.

    Attributes:
        position: its place in the split, from 0.
        name: where it comes from, "" if not known.
        true_class: the dataset's label.
        answer: the model's most probable class.
        probability: of the answer.
        votes: class -> share of the votes, the most first; empty without votes.
        image: (48, 48) uint8.
    """

    position: int
    name: str
    true_class: str
    answer: str
    probability: float
    votes: dict[str, float]
    image: np.ndarray

    def row(self) -> dict:
        """Return the sample as a row of a table, without its image."""
        row = {"row": self.position, "true_class": self.true_class, "answer": self.answer}
        row |= {"probability": round(self.probability, 4), "name": self.name}
        return row | {"votes": " ".join(f"{name}:{vote:.2f}" for name, vote in self.votes.items())}


def measure_split(model: EmotionModel, split: Dataset, robustness: bool = True) -> SplitResult:
    """Measure a model on one split, answered as photos are.

    Args:
        model: the model.
        split: the images, with votes, twins and names where they are known.
        robustness: measure the accuracy under corruptions too, which takes the longest.

    Raises:
        DatasetError: the split has no images, or a class that the model does not know.
    """
    is_mirrored = model.serving.mirrored
    return SplitResult(
        evaluation=evaluate_model(model, split),
        one_crop=evaluate_model(model, split, one_crop=True) if is_mirrored else None,
        robustness=measure_robustness(model, split) if robustness else (),
        images=split.images,
        names=split.names,
    )


def wrong_samples(result: SplitResult) -> list[Sample]:
    """Return the mistakes the model is surest of, at most `SAMPLE_COUNT`."""
    wrong = _surest_first(result.evaluation, ~result.evaluation.right)
    return [_sample(result, position) for position in wrong[:SAMPLE_COUNT]]


def right_samples(result: SplitResult) -> list[Sample]:
    """Return right answers the model is surest of, the classes taking turns, at most as many."""
    evaluation = result.evaluation
    queues = [
        _surest_first(evaluation, evaluation.right & (evaluation.labels == label))[:SAMPLE_COUNT]
        for label in range(len(evaluation.class_names))
    ]
    turns = [place for place in chain(*zip_longest(*queues)) if place is not None]
    return [_sample(result, position) for position in turns[:SAMPLE_COUNT]]


def _surest_first(evaluation: Evaluation, mask: np.ndarray) -> list[int]:
    """Return the positions where `mask` holds, the most confident answer first."""
    order = np.argsort(-evaluation.confidence, kind="stable")
    return order[mask[order]].tolist()


def _sample(result: SplitResult, position: int) -> Sample:
    """Return one image of a split with its answer."""
    evaluation = result.evaluation
    names, votes = evaluation.class_names, {}
    if evaluation.votes is not None:
        shares = zip(names, evaluation.votes[position].tolist(), strict=True)
        votes = dict(sorted((pair for pair in shares if pair[1]), key=lambda pair: -pair[1]))
    return Sample(
        position=position,
        name="" if result.names is None else str(result.names[position]),
        true_class=names[evaluation.labels[position]],
        answer=names[evaluation.predictions[position]],
        probability=float(evaluation.confidence[position]),
        votes=votes,
        image=result.images[position],
    )
