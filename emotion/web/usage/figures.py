"""How the app is used, whether the faces have drifted, and whether to train again.

All figures come from the statistics of the database, which know days, not people.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from emotion.model.card import Card
from emotion.model.figures import card_figures, wilson_interval
from emotion.text import share
from emotion.web.database import BUCKETS, Counts, Database, OpinionCount, day_of

RECENT_DAYS = 30
LEAST_FACES = 200
"""Fewer recent faces cannot show a drift: with seven classes and this many, chance alone lifts the
index above 0.1 less than one time in twenty (its scale is 1 / faces, Yurdakul 2018)."""

SOME_DRIFT = 0.1
LARGE_DRIFT = 0.25
"""Rules of thumb for the population stability index (Siddiqi 2006, Credit Risk Scorecards)."""

LEAST_OPINIONS = 30
DISAGREED_DUE = 0.5
"""People who disagree speak up more often than others, so a smaller share would say little. The
lower end of its 95% interval must lie above this."""

UNSURE_TIMES_DUE = 2
"""Due if this many times as many faces are unsure as on the model's own labelled images: it does
not know this kind of face. That needs no labels (average confidence, Guillory et al. 2021)."""

KEPT_SHARE_DUE = 0.05
"""Faces given since the model was made, as a share of what it learned from: fewer change little."""

KEPT_DUE = 500
"""The same if the card does not say how many images it learned from."""


@dataclass
class Use:
    """What was read in some time: one day, one month or all of it."""

    photos: int = 0
    without_face: int = 0
    faces: int = 0
    unsure: int = 0
    confidence_sum: float = 0.0
    emotions: Counter = field(default_factory=Counter)

    def as_dict(self) -> dict:
        """Return it as plain types; a share of nothing is None."""
        return {
            "photos": self.photos,
            "without_face": self.without_face,
            "faces": self.faces,
            "unsure_share": ratio(self.unsure, self.faces),
            "mean_confidence": ratio(self.confidence_sum, self.faces),
            "emotions": dict(sorted(self.emotions.items())),
        }


@dataclass(frozen=True)
class Expected:
    """What the card of a model says about its data and its answers there."""

    sha256: str  # of the weights, "" without a card
    name: str
    labels: Mapping[str, float]  # labelled images it did not learn from
    answers: Mapping[str, float]  # its own answers on `split`
    split: str
    unsure_share: float | None  # of the answers on labelled images
    learned_from: int | None  # images
    created: str  # day


def monitoring_facts(
    database: Database,
    model_card: Mapping | None,
    feedback: Path | None = None,
    now_s: float | None = None,
) -> dict:
    """Return all figures as plain types for JSON.

    Args:
        database: the statistics.
        model_card: card of the model that is served, to compare with.
        feedback: folder of the faces that visitors gave; None leaves them out.
        now_s: seconds since 1970; None is now.

    Raises:
        DatabaseError: the database cannot be reached.
    """
    now_s = time.time() if now_s is None else now_s
    counts = database.counts()
    expected = read_expected(model_card)
    today = datetime.fromtimestamp(now_s, UTC).date()
    days = [(today - timedelta(days=ago)).isoformat() for ago in reversed(range(RECENT_DAYS))]
    by_day = _uses(counts, lambda row: row.day)
    by_month = _uses(counts, lambda row: row.day[:7])
    total = _uses(counts, lambda row: True)[True]
    recent = _uses(counts, lambda row: row.day in days)[True]
    of_model = _uses(
        counts, lambda row: row.day in days and expected.sha256 in ("", row.model_sha256)
    )[True]
    sure = Counter()
    for row in counts.faces:
        if row.day in days:
            sure[row.bucket] += row.faces
    opinions = _opinion_facts(counts.opinions, expected)
    drift = _drift_facts(of_model, expected)
    kept = _kept_faces(feedback, expected)
    return {
        "as_of": datetime.fromtimestamp(now_s, UTC).isoformat(timespec="seconds"),
        "recent_days": RECENT_DAYS,
        "model": {"name": expected.name, "sha256": expected.sha256} if expected.sha256 else None,
        "since": min((row.day for row in (*counts.photos, *counts.videos)), default=None),
        "total": total.as_dict(),
        "recent": recent.as_dict(),
        "videos": {
            "videos": sum(row.videos for row in counts.videos),
            "without_face": sum(row.without_face for row in counts.videos),
            "faces": sum(row.faces for row in counts.videos),
            "seconds": round(sum(row.seconds for row in counts.videos), 1),
        },
        "days": [{"day": day} | by_day[day].as_dict() for day in days],
        "months": [{"month": month} | use.as_dict() for month, use in sorted(by_month.items())],
        "emotions": _emotion_facts(of_model, expected),
        "confidence": [
            {"from": bucket / BUCKETS, "to": (bucket + 1) / BUCKETS, "faces": sure[bucket]}
            for bucket in range(BUCKETS)
        ],
        "unsure_expected": expected.unsure_share,
        "opinions": opinions,
        "kept": kept,
        "drift": drift,
        "retraining": _retraining_facts(of_model, expected, opinions, drift, kept),
    }


def read_expected(content: Mapping | None) -> Expected:
    """Return what a card says; what it does not say is empty or None."""
    card = Card.of(content)
    figures, labels = card_figures(card), Counter()
    for measured in filter(None, (card_figures(card, split) for split in card.metrics)):
        labels.update({row.name: row.images for row in measured.classes})
    return Expected(
        sha256=card.weights_sha256,
        name=str(card.content.get("name") or ""),
        labels=labels,
        answers=figures.answers if figures else {},
        split=figures.split if figures else "",
        unsure_share=card.verdict and 1 - card.verdict.coverage,
        learned_from=card.learned_from,
        created=str(card.content.get("created") or ""),
    )


def stability_index(found: Mapping[str, float], expected: Mapping[str, float]) -> float:
    """Return the population stability index of two mixes of classes, 0 if they are the same.

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


def ratio(part: float, whole: float) -> float | None:
    """Return a part of a whole, 0 to 1; None of nothing."""
    return part / whole if whole else None


def _uses(counts: Counts, key_of: Callable) -> dict[object, Use]:
    """Return what was read, by a key of each row."""
    uses: dict[object, Use] = defaultdict(Use)
    for row in counts.photos:
        use = uses[key_of(row)]
        use.photos += row.photos
        use.without_face += row.without_face
    for row in counts.faces:
        use = uses[key_of(row)]
        use.faces += row.faces
        use.unsure += 0 if row.sure else row.faces
        use.confidence_sum += row.confidence_sum
        use.emotions[row.emotion] += row.faces
    return uses


def _emotion_facts(use: Use, expected: Expected) -> list[dict]:
    """Return how often each emotion was read, and how often that was to be expected."""
    answers, labels = sum(expected.answers.values()), sum(expected.labels.values())
    return [
        {
            "emotion": name,
            "faces": use.emotions[name],
            "share": ratio(use.emotions[name], use.faces),
            "expected_share": ratio(expected.answers.get(name, 0), answers),
            "label_share": ratio(expected.labels.get(name, 0), labels),
        }
        for name in dict.fromkeys([*expected.answers, *sorted(use.emotions)])
    ]


def _opinion_facts(rows: Iterable[OpinionCount], expected: Expected) -> dict:
    """Return how often people disagreed with the model that is served."""
    pairs: Counter = Counter()
    for row in rows:
        if expected.sha256 in ("", row.model_sha256):
            pairs[row.given, row.chosen] += row.opinions
    said = sum(pairs.values())
    disagreed = sum(n for (given, chosen), n in pairs.items() if given != chosen)
    return {
        "said": said,
        "agreed": said - disagreed,
        "disagreed": disagreed,
        "disagreed_share": ratio(disagreed, said),
        "interval_95": list(wilson_interval(disagreed, said)) if said else None,
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
        # someone is taking them away for training
        days = []
    return {"all": len(days), "new": sum(day >= expected.created for day in days)}


def _drift_facts(use: Use, expected: Expected) -> dict:
    """Return whether the mix of recent answers differs from what the model's data let expect."""
    index = label_index = None
    if not expected.answers:
        level = "unknown"
        words = "The model has no card that says what it answered on labelled faces."
    elif use.faces < LEAST_FACES:
        level = "too few faces"
        words = (
            f"Too few faces to tell: {use.faces} in {RECENT_DAYS} days; at least {LEAST_FACES} are "
            "needed."
        )
    else:
        index = stability_index(use.emotions, expected.answers)
        label_index = stability_index(use.emotions, expected.labels)
        level, amount = "large", "far from"
        if index <= SOME_DRIFT:
            level, amount = "none", "much the same as"
        elif index <= LARGE_DRIFT:
            level, amount = "some", "somewhat different from"
        words = (
            f"The mix of answers is {amount} the model's own answers on the {expected.split} "
            f"images of its data (stability index {index:.2f})."
        )
    return {
        "faces": use.faces,
        "least_faces": LEAST_FACES,
        "split": expected.split,
        "index": index,
        "label_index": label_index,
        "level": level,
        "words": words,
    }


def _retraining_facts(
    use: Use, expected: Expected, opinions: Mapping, drift: Mapping, kept: Mapping
) -> dict:
    """Return whether to train again, and what each rule says: due, not due or not known (None)."""
    said, disagreement = opinions["said"], None
    disagreed = f"Opinions so far: {said}; at least {LEAST_OPINIONS} are needed to tell."
    if said >= LEAST_OPINIONS:
        low, high = opinions["interval_95"]
        disagreement = low > DISAGREED_DUE
        disagreed = (
            f"{share(opinions['disagreed_share'])} of {said} disagreed (95% interval {share(low)} "
            f"to {share(high)}); due when all of that is above {share(DISAGREED_DUE)}, as people "
            "who disagree speak up more often."
        )

    drifted, mix = None, drift["words"]
    if drift["index"] is not None:
        drifted = drift["level"] == "large"
        mix += f" Due above {LARGE_DRIFT} (Siddiqi 2006)."

    unsure = None
    if expected.unsure_share is None:
        certainty = "The model has no card that says how often it was unsure on labelled faces."
    elif use.faces < LEAST_FACES:
        certainty = (
            f"Faces: {use.faces} in {RECENT_DAYS} days; at least {LEAST_FACES} are needed to tell."
        )
    else:
        limit = UNSURE_TIMES_DUE * expected.unsure_share
        unsure = wilson_interval(use.unsure, use.faces)[0] > limit
        certainty = (
            f"{share(use.unsure / use.faces)} of the answers were unsure, against "
            f"{share(expected.unsure_share)} on its own labelled images; due when surely above "
            f"{share(limit)}."
        )

    needed, basis = KEPT_DUE, ""
    if expected.learned_from is not None:
        needed = max(1, round(KEPT_SHARE_DUE * expected.learned_from))
        basis = f", {share(KEPT_SHARE_DUE)} of what it learned from"
    given = f"{kept['new']} faces were given since the model was made; due from {needed:,}{basis}."

    people = "people disagree with most answers they say anything about"
    enough = "visitors gave enough new faces"
    rules = (
        ("Disagreement", people, disagreement, disagreed),
        ("Mix of emotions", "the mix of emotions has drifted", drifted, mix),
        ("Certainty", "the model is unsure too often", unsure, certainty),
        ("Faces to learn from", enough, kept["new"] >= needed, given),
    )
    due = [name for _, name, is_due, _ in rules if is_due]
    words = "Retraining is not due."
    if due:
        words = f"Retraining is due: {' and '.join(due)}."
    elif disagreement is drifted is unsure is None:
        words = "Too little is known yet to say whether retraining is due."
    checks = [dict(zip(("title", "name", "due", "words"), rule, strict=True)) for rule in rules]
    return {"due": bool(due), "words": words, "checks": checks}
