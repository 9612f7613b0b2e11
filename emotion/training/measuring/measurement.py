"""Everything that a report tells about a model on one split; no Keras, no files."""

from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from emotion.model.runtime import EmotionModel
from emotion.training.data.datasets import Dataset
from emotion.training.measuring.evaluation import Evaluation, evaluate_model
from emotion.training.measuring.robustness import measure_robustness

SAMPLE_COUNT = 24


@dataclass(frozen=True)
class SplitResult:
    """What was measured on one split of N images."""

    evaluation: Evaluation  # as photos are answered
    one_crop: Evaluation | None  # without the mirror image; None if photos are answered so
    robustness: tuple[dict, ...]  # a row a corruption and level; empty if it was not measured
    images: np.ndarray  # (N, 48, 48) uint8, in the order of the evaluation
    names: np.ndarray | None  # (N,) str, where each image comes from; None if not known

    def summary(self) -> dict:
        """Return every figure of the evaluation, and those of one crop, as plain types for JSON."""
        one_crop = self.one_crop.figures() if self.one_crop else None
        return self.evaluation.summary() | {"one_crop": one_crop}

    def report(self) -> dict:
        """Return the content of the report's `evaluation.json`: the summary and the robustness."""
        return self.summary() | {"robustness": list(self.robustness)}


@dataclass(frozen=True)
class Sample:
    """One image with its answer."""

    position: int  # in the split, from 0
    name: str  # where it comes from, "" if not known
    true_class: str  # the dataset's label
    answer: str  # the model's most probable class
    probability: float  # of the answer
    votes: dict[str, float]  # class -> share of the votes, the most first; empty without votes
    image: np.ndarray  # (48, 48) uint8

    def row(self) -> dict:
        """Return the sample as a row of a table, without its image."""
        row = {"row": self.position, "true_class": self.true_class, "answer": self.answer}
        row |= {"probability": round(self.probability, 4), "name": self.name}
        return row | {"votes": " ".join(f"{name}:{vote:.2f}" for name, vote in self.votes.items())}


def measure_split(model: EmotionModel, split: Dataset, robustness: bool = True) -> SplitResult:
    """Measure a model on one split, answered as photos are; `robustness` takes the longest.

    Raises DatasetError.
    """
    return SplitResult(
        evaluation=evaluate_model(model, split),
        one_crop=evaluate_model(model, split, one_crop=True) if model.serving.mirrored else None,
        robustness=measure_robustness(model, split) if robustness else (),
        images=split.images,
        names=split.names,
    )


def wrong_samples(result: SplitResult) -> list[Sample]:
    """Return the mistakes the model is surest of, at most `SAMPLE_COUNT`."""
    return _samples(result, _surest_first(result.evaluation, ~result.evaluation.right))


def right_samples(result: SplitResult) -> list[Sample]:
    """Return right answers the model is surest of, the classes taking turns, at most as many."""
    evaluation = result.evaluation
    queues = [
        _surest_first(evaluation, evaluation.right & (evaluation.labels == label))[:SAMPLE_COUNT]
        for label in range(len(evaluation.class_names))
    ]
    return _samples(result, [at for at in chain(*zip_longest(*queues)) if at is not None])


def _surest_first(evaluation: Evaluation, mask: np.ndarray) -> list[int]:
    """Return the positions where `mask` holds, the most confident answer first."""
    order = np.argsort(-evaluation.confidence, kind="stable")
    return order[mask[order]].tolist()


def _samples(result: SplitResult, positions: list[int]) -> list[Sample]:
    evaluation, samples = result.evaluation, []
    classes, answers = evaluation.class_names, evaluation.predictions
    for position in positions[:SAMPLE_COUNT]:
        votes = () if evaluation.votes is None else evaluation.votes[position].tolist()
        ranked = sorted(zip(classes, votes, strict=False), key=lambda vote: -vote[1])
        samples.append(
            Sample(
                position=position,
                name="" if result.names is None else str(result.names[position]),
                true_class=classes[evaluation.labels[position]],
                answer=classes[answers[position]],
                probability=float(evaluation.probabilities[position].max()),
                votes={name: part for name, part in ranked if part},
                image=result.images[position],
            )
        )
    return samples
