"""Figures of how the app is used, whether the faces have drifted, and when to train again.

They come from the statistics of the database, which know days, not people.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from emotion.web.database import (
    BUCKETS,
    Counts,
    FaceCount,
    OpinionCount,
    PhotoCount,
    VideoCount,
    day_of,
)

RECENT_DAYS = 30
LEAST_FACES = 200
"""Fewer recent faces cannot tell a drift: with seven classes and as many as this, chance alone
lifts the index above 0.1 less than one time in twenty (its scale is 1 / faces, Yurdakul 2018)."""

SOME_DRIFT = 0.1
LARGE_DRIFT = 0.25
"""Rules of thumb for the population stability index (Siddiqi 2006, Credit Risk Scorecards)."""

LEAST_OPINIONS = 30
DISAGREED_DUE = 0.5
"""Those who disagree speak up more often than the others, so a smaller share would say little.
The lower end of its 95% interval must lie above this."""

UNSURE_TIMES_DUE = 2
"""As many times as on the model's own labelled faces may be unsure: beyond, the faces are of a
kind that it does not know. Needs no labels (average confidence, Guillory et al. 2021)."""

KEPT_SHARE_DUE = 0.05
"""Faces given since the model was made, as a share of what it learned from: fewer weigh little."""

KEPT_DUE = 500
"""The same where the card does not say how many it learned from."""

Z_95 = 1.959964


@dataclass
class Use:
    """What was read in some time: one day, one month or all of it."""

    photos: int = 0
    without_face: int = 0
    faces: int = 0
    unsure: int = 0
    confidence_sum: float = 0.0
    emotions: Counter = field(default_factory=Counter)

    def add_photos(self, row: PhotoCount) -> None:
        """Add photos."""
        self.photos += row.photos
        self.without_face += row.without_face

    def add_faces(self, row: FaceCount) -> None:
        """Add faces."""
        self.faces += row.faces
        self.unsure += 0 if row.sure else row.faces
        self.confidence_sum += row.confidence_sum
        self.emotions[row.emotion] += row.faces

    def as_dict(self) -> dict:
        """Return it as plain types; a share of nothing is None."""
        return {
            "photos": self.photos,
            "without_face": self.without_face,
            "faces": self.faces,
            "unsure_share": share(self.unsure, self.faces),
            "mean_confidence": share(self.confidence_sum, self.faces),
            "emotions": dict(sorted(self.emotions.items())),
        }


@dataclass(frozen=True)
class Expected:
    """What the card of a model says about its data and its answers there.

    Attributes:
        sha256: of its weights, "" without a card.
        name: of the model.
        labels: class -> labelled images of its data that it did not learn from.
        answers: class -> how often it was the model's own answer on `split`.
        split: on which answers were counted.
        unsure_share: of the answers on labelled images, or None.
        learned_from: how many images, or None.
        created: day on which it was made, or "".
    """

    sha256: str
    name: str
    labels: Mapping[str, float] = field(default_factory=dict)
    answers: Mapping[str, float] = field(default_factory=dict)
    split: str = ""
    unsure_share: float | None = None
    learned_from: int | None = None
    created: str = ""


def usage_facts(
    counts: Counts, model_card: Mapping | None, feedback: Path | None, now_s: float
) -> dict:
    """Return all figures as plain types.

    Args:
        counts: the statistics.
        model_card: card of the model that is served, which tells what to compare with.
        feedback: folder of the faces that visitors gave; None leaves them out.
        now_s: seconds since 1970.
    """
    expected = read_expected(model_card)
    days = _last_days(now_s)
    recent = _use(counts, lambda row: row.day in days)
    of_model = _use(
        counts, lambda row: row.day in days and expected.sha256 in ("", row.model_sha256)
    )
    opinions = _opinion_facts(counts.opinions, expected)
    drift = _drift_facts(of_model, expected)
    kept = _kept_faces(feedback, expected)
    return {
        "as_of": datetime.fromtimestamp(now_s, UTC).isoformat(timespec="seconds"),
        "recent_days": RECENT_DAYS,
        "model": {"name": expected.name, "sha256": expected.sha256} if expected.sha256 else None,
        "since": min((row.day for row in (*counts.photos, *counts.videos)), default=None),
        "total": _use(counts, lambda row: True).as_dict(),
        "recent": recent.as_dict(),
        "videos": _video_facts(counts.videos),
        "days": _by_day(counts, days),
        "months": _by_month(counts),
        "emotions": _emotion_facts(of_model, expected),
        "confidence": _confidence_facts(counts, days),
        "unsure_expected": expected.unsure_share,
        "opinions": opinions,
        "kept": kept,
        "drift": drift,
        "retraining": _retraining_facts(of_model, expected, opinions, drift, kept),
    }


def read_expected(card: Mapping | None) -> Expected:
    """Return what a card says; what it does not say is empty or None.

    A card comes from outside: of one that is made in another way, only name and hash are used.
    """
    card = card or {}
    known = {"sha256": card.get("weights_sha256", ""), "name": card.get("name", "")}
    try:
        return Expected(**known, **_figures_of(card))
    except (AttributeError, KeyError, TypeError, ValueError):
        return Expected(**known)


def _figures_of(card: Mapping) -> dict:
    """Return what a card says about data and answers, by the attributes of `Expected`."""
    metrics = card.get("metrics") or {}
    split = next((name for name in ("test", "validation") if name in metrics), "")
    coverage = (card.get("verdict") or {}).get("coverage")
    return {
        "labels": _labels(metrics.values()),
        "answers": _answers((metrics.get(split) or {}).get("per_class", ())),
        "split": split,
        "unsure_share": None if coverage is None else 1 - coverage,
        "learned_from": ((card.get("dataset") or {}).get("images") or {}).get("train"),
        "created": card.get("created", ""),
    }


def stability_index(found: Mapping[str, float], expected: Mapping[str, float]) -> float:
    """Return the population stability index of two mixes of classes, 0 where they are the same.

    Half a face is added to each class on both sides, so that one without faces counts, finitely.

    Args:
        found: class -> number of faces.
        expected: class -> number of faces, of any total.
    """
    names = sorted({*found, *expected})
    totals = [sum(mix.values()) + len(names) / 2 for mix in (found, expected)]
    pairs = [
        ((found.get(name, 0) + 0.5) / totals[0], (expected.get(name, 0) + 0.5) / totals[1])
        for name in names
    ]
    return sum((now - before) * math.log(now / before) for now, before in pairs)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson 1927)."""
    centre = (successes + Z_95**2 / 2) / (trials + Z_95**2)
    spread = successes * (trials - successes) / trials + Z_95**2 / 4
    half = Z_95 * math.sqrt(spread) / (trials + Z_95**2)
    return max(0.0, centre - half), min(1.0, centre + half)


def share(part: float, whole: float) -> float | None:
    """Return a part of a whole, 0 to 1; None of nothing."""
    return part / whole if whole else None


def percentage(value: float | None) -> str:
    """Return a share as words: "12%", "0.4%", or "–" where there is none."""
    if value is None:
        return "–"
    return f"{value * 100:.1f}%" if 0 < value < 0.01 else f"{value * 100:.0f}%"


def _labels(measurements: Iterable[Mapping]) -> Counter:
    """Return how many labelled images of each class a model was measured on, all splits."""
    rows = [row for measured in measurements for row in measured.get("per_class", ())]
    labels: Counter = Counter()
    for row in rows:
        labels[row["class"]] += row["support"]
    return labels


def _answers(per_class: Sequence[Mapping]) -> dict[str, float]:
    """Return how often each class was the answer, from recall, precision and support.

    Right answers are recall times support, and all answers are these by precision. Where no answer
    was right that is not known: such classes share what is left of the images.
    """
    right = {row["class"]: row["recall"] * row["support"] for row in per_class}
    known = {
        row["class"]: right[row["class"]] / row["precision"]
        for row in per_class
        if row["precision"] > 0
    }
    left = max(0.0, sum(row["support"] for row in per_class) - sum(known.values()))
    unknown = [name for name in right if name not in known]
    return {name: known.get(name, left / max(1, len(unknown))) for name in right}


def _last_days(now_s: float) -> tuple[str, ...]:
    """Return the recent days, oldest first; today is the last."""
    today = datetime.fromtimestamp(now_s, UTC).date()
    return tuple((today - timedelta(days=ago)).isoformat() for ago in reversed(range(RECENT_DAYS)))


def _use(counts: Counts, is_meant) -> Use:
    """Return what was read, of the rows that are meant."""
    use = Use()
    for row in filter(is_meant, counts.photos):
        use.add_photos(row)
    for row in filter(is_meant, counts.faces):
        use.add_faces(row)
    return use


def _video_facts(rows: Iterable[VideoCount]) -> dict:
    """Return how many videos were read since the start; their faces are people, not frames."""
    rows = tuple(rows)
    return {
        "videos": sum(row.videos for row in rows),
        "without_face": sum(row.without_face for row in rows),
        "faces": sum(row.faces for row in rows),
        "seconds": round(sum(row.seconds for row in rows), 1),
    }


def _by_day(counts: Counts, days: Sequence[str]) -> list[dict]:
    """Return what was read on each of some days."""
    uses = _grouped(counts, lambda row: row.day)
    return [{"day": day} | uses.get(day, Use()).as_dict() for day in days]


def _by_month(counts: Counts) -> list[dict]:
    """Return what was read in each month that had photos, oldest first."""
    uses = _grouped(counts, lambda row: row.day[:7])
    return [{"month": month} | use.as_dict() for month, use in sorted(uses.items())]


def _grouped(counts: Counts, key_of) -> dict[str, Use]:
    """Return what was read, by a key of each row."""
    uses: dict[str, Use] = {}
    for row in counts.photos:
        uses.setdefault(key_of(row), Use()).add_photos(row)
    for row in counts.faces:
        uses.setdefault(key_of(row), Use()).add_faces(row)
    return uses


def _emotion_facts(use: Use, expected: Expected) -> list[dict]:
    """Return for each emotion how often it was read, and how often that was to be expected."""
    names = list(dict.fromkeys([*expected.answers, *sorted(use.emotions)]))
    return [
        {
            "emotion": name,
            "faces": use.emotions[name],
            "share": share(use.emotions[name], use.faces),
            "expected_share": share(expected.answers.get(name, 0), sum(expected.answers.values())),
            "label_share": share(expected.labels.get(name, 0), sum(expected.labels.values())),
        }
        for name in names
    ]


def _confidence_facts(counts: Counts, days: Sequence[str]) -> list[dict]:
    """Return how many recent faces there are in each tenth of confidence."""
    faces: Counter = Counter()
    for row in counts.faces:
        if row.day in days:
            faces[row.bucket] += row.faces
    return [
        {"from": bucket / BUCKETS, "to": (bucket + 1) / BUCKETS, "faces": faces[bucket]}
        for bucket in range(BUCKETS)
    ]


def _opinion_facts(rows: Iterable[OpinionCount], expected: Expected) -> dict:
    """Return how often people disagreed with the model that is served."""
    pairs: Counter = Counter()
    for row in rows:
        if expected.sha256 in ("", row.model_sha256):
            pairs[row.given, row.chosen] += row.opinions
    said = sum(pairs.values())
    agreed = sum(n for (given, chosen), n in pairs.items() if given == chosen)
    return {
        "said": said,
        "agreed": agreed,
        "disagreed": said - agreed,
        "disagreed_share": share(said - agreed, said),
        "interval_95": list(wilson_interval(said - agreed, said)) if said else None,
        "pairs": [
            {"given": given, "chosen": chosen, "opinions": n}
            for (given, chosen), n in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
            if given != chosen
        ],
    }


def _kept_faces(folder: Path | None, expected: Expected) -> dict:
    """Return how many faces visitors gave, and how many of these since the model was made."""
    try:
        files = [] if folder is None else list(folder.glob("[!.]*/[!.]*.png"))
        days = [day_of(file.stat().st_mtime) for file in files]
    except OSError:
        # someone takes them away for training at this moment
        days = []
    return {"all": len(days), "new": sum(day >= expected.created for day in days)}


def _drift_facts(use: Use, expected: Expected) -> dict:
    """Return whether the mix of recent answers differs from what the model's data let expect."""
    index = label_index = None
    level = "unknown"
    if expected.answers:
        level = "too few faces"
    if expected.answers and use.faces >= LEAST_FACES:
        index = stability_index(use.emotions, expected.answers)
        label_index = stability_index(use.emotions, expected.labels)
        level = "none" if index <= SOME_DRIFT else "some" if index <= LARGE_DRIFT else "large"
    return {
        "faces": use.faces,
        "least_faces": LEAST_FACES,
        "split": expected.split,
        "index": index,
        "label_index": label_index,
        "level": level,
        "words": _drift_words(level, index, use.faces, expected),
    }


def _drift_words(level: str, index: float | None, faces: int, expected: Expected) -> str:
    """Return what is to be said about drift."""
    if level == "unknown":
        return "The model has no card that says what it answered on labelled faces."
    if level == "too few faces":
        return (
            f"Too few faces to tell: {faces} in {RECENT_DAYS} days, of at least {LEAST_FACES} that "
            "are needed."
        )
    against = f"the model's own answers on the {expected.split} images of its data"
    amount = {"none": "much the same as", "some": "somewhat other than", "large": "far from"}[level]
    return f"The mix of answers is {amount} {against} (stability index {index:.2f})."


def _retraining_facts(
    use: Use, expected: Expected, opinions: Mapping, drift: Mapping, kept: Mapping
) -> dict:
    """Return whether to train again, and what each rule says: due, not due or not known (None)."""
    checks = [
        _disagreement_check(opinions),
        _drift_check(drift),
        _unsure_check(use, expected),
        _kept_check(kept, expected),
    ]
    due = [check["name"] for check in checks if check["due"]]
    if due:
        words = f"Retraining is due: {' and '.join(due)}."
    elif all(check["due"] is None for check in checks[:3]):
        words = "Too little is known yet to say whether retraining is due."
    else:
        words = "Retraining is not due."
    return {"due": bool(due), "words": words, "checks": checks}


def _disagreement_check(opinions: Mapping) -> dict:
    """Say whether people disagree too often."""
    name = "people disagree with most answers they say anything about"
    said = opinions["said"]
    if said < LEAST_OPINIONS:
        words = f"Opinions so far: {said}; at least {LEAST_OPINIONS} are needed to tell."
        return {"title": "Disagreement", "name": name, "due": None, "words": words}
    low, high = opinions["interval_95"]
    words = (
        f"{percentage(opinions['disagreed_share'])} of {said} disagreed (95% interval "
        f"{percentage(low)} to {percentage(high)}); due when all of that is above "
        f"{percentage(DISAGREED_DUE)}, as those who disagree speak up more often."
    )
    return {"title": "Disagreement", "name": name, "due": low > DISAGREED_DUE, "words": words}


def _drift_check(drift: Mapping) -> dict:
    """Say whether the mix has drifted too far."""
    known = drift["index"] is not None
    rule = f" Due above {LARGE_DRIFT} (Siddiqi 2006)." if known else ""
    return {
        "title": "Mix of emotions",
        "name": "the mix of emotions has drifted",
        "due": drift["level"] == "large" if known else None,
        "words": f"{drift['words']}{rule}",
    }


def _unsure_check(use: Use, expected: Expected) -> dict:
    """Say whether the model is unsure far more often than it was on its own data."""
    name = "the model is unsure too often"
    if expected.unsure_share is None:
        words = "The model has no card that says how often it was unsure on labelled faces."
        return {"title": "Certainty", "name": name, "due": None, "words": words}
    if use.faces < LEAST_FACES:
        words = (
            f"Faces: {use.faces} in {RECENT_DAYS} days; at least {LEAST_FACES} are needed to tell."
        )
        return {"title": "Certainty", "name": name, "due": None, "words": words}
    limit = UNSURE_TIMES_DUE * expected.unsure_share
    words = (
        f"{percentage(use.unsure / use.faces)} of the answers were unsure, against "
        f"{percentage(expected.unsure_share)} on its own labelled images; due when surely above "
        f"{percentage(limit)}."
    )
    return {
        "title": "Certainty",
        "name": name,
        "due": wilson_interval(use.unsure, use.faces)[0] > limit,
        "words": words,
    }


def _kept_check(kept: Mapping, expected: Expected) -> dict:
    """Say whether visitors gave enough faces to learn something from."""
    learned_from = expected.learned_from
    needed = KEPT_DUE if learned_from is None else max(1, round(KEPT_SHARE_DUE * learned_from))
    basis = (
        "" if learned_from is None else f", {percentage(KEPT_SHARE_DUE)} of what it learned from"
    )
    words = f"{kept['new']} faces were given since the model was made; due from {needed:,}{basis}."
    return {
        "title": "Faces to learn from",
        "name": "visitors gave enough new faces",
        "due": kept["new"] >= needed,
        "words": words,
    }
