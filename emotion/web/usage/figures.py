"""How the app is used, whether the faces have drifted, and whether to train again."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from emotion.model.card import Card
from emotion.model.figures import card_figures, wilson_interval
from emotion.text import share
from emotion.web.database import BUCKETS, Database, FaceCount, OpinionCount, PhotoCount, day_of
from emotion.web.feedback.given import GivenFaces

RECENT_DAYS = 30
# With this many faces of seven classes, chance alone lifts the index above 0.1 less than one time
# in twenty (its scale is 1 / faces, Yurdakul 2018).
LEAST_FACES = 200
# Rules of thumb for the population stability index (Siddiqi 2006, Credit Risk Scorecards).
SOME_DRIFT, LARGE_DRIFT = 0.1, 0.25
# Who disagrees speaks up more often: the lower end of the share's 95% interval must lie above it.
LEAST_OPINIONS, DISAGREED_DUE = 30, 0.5
# Due if this many times as many faces are unsure as on the model's own labelled images: it does not
# know this kind of face. That needs no labels (average confidence, Guillory et al. 2021).
UNSURE_TIMES_DUE = 2
# Faces given since the model was made, as a share of what it learned from (fewer change little), or
# how many if the card does not say how many images it learned from.
KEPT_SHARE_DUE, KEPT_DUE = 0.05, 500


def monitoring_facts(
    database: Database, model_card: Mapping | None, feedback: Path | None = None, now_s=None
) -> dict:
    """Return all figures as plain types for JSON, compared with the card of the served model."""
    now = datetime.fromtimestamp(time.time() if now_s is None else now_s, UTC)
    counts, card = database.counts(), Card(model_card)
    sha256, name = card.weights_sha256, str(card.content.get("name") or "")
    figures, labels = card_figures(card), Counter()
    for measured in filter(None, (card_figures(card, split) for split in card.metrics)):
        labels.update({row.name: row.images for row in measured.classes})
    answers, split = (figures.answers, figures.split) if figures else ({}, "")
    days = [(now.date() - timedelta(days=ago)).isoformat() for ago in reversed(range(RECENT_DAYS))]
    photos_of, faces_of = _by_time(counts.photos), _by_time(counts.faces)
    photos, faces = ([row for day in days for row in of[day]] for of in (photos_of, faces_of))
    of_model, said = (
        [row for row in rows if sha256 in ("", row.model_sha256)]
        for rows in (faces, counts.opinions)
    )
    found, sure = _use([], of_model), Counter()
    for row in faces:
        sure[row.bucket] += row.faces
    months = sorted({row.day[:7] for row in (*counts.photos, *counts.faces)})
    opinions, drift = _opinions(said), _drift(found, answers, labels, split)
    try:  # the faces that visitors gave and that were approved
        files = [] if feedback is None else list(feedback.glob("[!.]*/[!.]*.png"))
        given = [day_of(file.stat().st_mtime) for file in files]
    except OSError:  # someone is taking them away for training
        given = []
    created = str(card.content.get("created") or "")
    kept = {"all": len(given), "new": sum(day >= created for day in given)}
    kept["waiting"] = len(GivenFaces(Path(), database).find())
    return {
        "as_of": now.isoformat(timespec="seconds"),
        "recent_days": RECENT_DAYS,
        "model": {"name": name, "sha256": sha256} if sha256 else None,
        "since": min((row.day for row in (*counts.photos, *counts.videos)), default=None),
        "total": _use(photos_of[""], faces_of[""]),
        "recent": _use(photos, faces),
        "videos": {
            name: round(sum(getattr(row, name) for row in counts.videos), 1)
            for name in ("videos", "without_face", "faces", "seconds")
        },
        "days": [{"day": day} | _use(photos_of[day], faces_of[day]) for day in days],
        "months": [{"month": one} | _use(photos_of[one], faces_of[one]) for one in months],
        "emotions": [
            {
                "emotion": emotion,
                "faces": found["emotions"].get(emotion, 0),
                "share": _ratio(found["emotions"].get(emotion, 0), found["faces"]),
                "expected_share": _ratio(answers.get(emotion, 0), sum(answers.values())),
                "label_share": _ratio(labels[emotion], sum(labels.values())),
            }
            for emotion in dict.fromkeys([*answers, *found["emotions"]])
        ],
        "confidence": [
            {"from": bucket / BUCKETS, "to": (bucket + 1) / BUCKETS, "faces": sure[bucket]}
            for bucket in range(BUCKETS)
        ],
        "unsure_expected": 1 - card.verdict["coverage"] if card.verdict else None,
        "opinions": opinions,
        "kept": kept,
        "drift": drift,
        "retraining": _retraining(found, card, opinions, drift, kept),
    }


def stability_index(found: Mapping[str, float], expected: Mapping[str, float]) -> float:
    """Return the population stability index of two mixes, class -> faces; 0 if the same."""
    # half a face in each class on both sides, so that one without faces counts, finitely
    names = sorted({*found, *expected})
    now, before = (np.array([mix.get(n, 0) + 0.5 for n in names]) for mix in (found, expected))
    now, before = now / now.sum(), before / before.sum()
    return float(((now - before) * np.log(now / before)).sum())


def _by_time(rows: Sequence) -> Mapping[str, list]:
    found = defaultdict(list)  # day, month or, of all time, "" -> rows
    for row in rows:
        for time_span in (row.day, row.day[:7], ""):
            found[time_span].append(row)
    return found


def _use(photos: Sequence[PhotoCount], faces: Sequence[FaceCount]) -> dict:
    emotions = Counter()
    for row in faces:
        emotions[row.emotion] += row.faces
    total = emotions.total()
    return {
        "photos": sum(row.photos for row in photos),
        "without_face": sum(row.without_face for row in photos),
        "faces": total,
        "unsure_share": _ratio(sum(row.faces for row in faces if not row.sure), total),
        "mean_confidence": _ratio(sum(row.confidence_sum for row in faces), total),
        "emotions": dict(sorted(emotions.items())),
    }


def _opinions(rows: Sequence[OpinionCount]) -> dict:
    pairs, said = Counter(), sum(row.opinions for row in rows)
    for row in rows:
        if row.given != row.chosen:
            pairs[row.given, row.chosen] += row.opinions
    disagreed = pairs.total()
    return {
        "said": said,
        "agreed": said - disagreed,
        "disagreed": disagreed,
        "disagreed_share": _ratio(disagreed, said),
        "interval_95": list(wilson_interval(disagreed, said)) if said else None,
        "pairs": [
            {"given": given, "chosen": chosen, "opinions": n}
            for (given, chosen), n in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
        ],
    }


def _drift(use: Mapping, answers: Mapping, labels: Mapping, split: str) -> dict:
    index = label_index = None
    level, words = "unknown", "The model has no card that says what it answered on labelled faces."
    if answers and use["faces"] < LEAST_FACES:
        level, few = "too few faces", f"{use['faces']} in {RECENT_DAYS} days"
        words = f"Too few faces to tell: {few}; at least {LEAST_FACES} are needed."
    elif answers:
        index, label_index = (stability_index(use["emotions"], mix) for mix in (answers, labels))
        level, amount = "large", "far from"
        if index <= LARGE_DRIFT:
            level, amount = "some", "somewhat different from"
        if index <= SOME_DRIFT:
            level, amount = "none", "much the same as"
        words = (
            f"The mix of answers is {amount} the model's own answers on the {split} images of its "
            f"data (stability index {index:.2f})."
        )
    about = {"faces": use["faces"], "least_faces": LEAST_FACES, "split": split, "index": index}
    return about | {"label_index": label_index, "level": level, "words": words}


def _retraining(use: Mapping, card: Card, opinions: Mapping, drift: Mapping, kept: Mapping) -> dict:
    """Return whether to train again, and what each rule says: due, not due or not known (None)."""
    said, count, disagreement, unsure = opinions["said"], use["faces"], None, None
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
    certainty = f"Faces: {count} in {RECENT_DAYS} days; at least {LEAST_FACES} are needed to tell."
    if not card.verdict:
        certainty = "The model has no card that says how often it was unsure on labelled faces."
    elif count >= LEAST_FACES:
        expected, found = 1 - card.verdict["coverage"], use["unsure_share"]
        unsure = wilson_interval(round(found * count), count)[0] > UNSURE_TIMES_DUE * expected
        certainty = (
            f"{share(found)} of the answers were unsure, against "
            f"{share(expected)} on its own labelled images; due when surely above "
            f"{share(UNSURE_TIMES_DUE * expected)}."
        )
    needed, basis = KEPT_DUE, ""
    if card.learned_from is not None:
        needed = max(1, round(KEPT_SHARE_DUE * card.learned_from))
        basis = f", {share(KEPT_SHARE_DUE)} of what it learned from"
    given = f"{kept['new']} faces were approved since the model was made; due from {needed:,}"
    given += f"{basis}. {kept['waiting']} wait for approval."
    people = "people disagree with most answers they say anything about"
    enough = "visitors gave enough new faces"
    rules = (
        ("Disagreement", people, disagreement, disagreed),
        ("Mix of emotions", "the mix of emotions has drifted", drifted, mix),
        ("Certainty", "the model is unsure too often", unsure, certainty),
        ("Faces to learn from", enough, kept["new"] >= needed, given),
    )
    checks = [dict(zip(("title", "name", "due", "words"), rule, strict=True)) for rule in rules]
    words = "Retraining is not due."
    if due := " and ".join(check["name"] for check in checks if check["due"]):
        words = f"Retraining is due: {due}."
    elif disagreement is drifted is unsure is None:
        words = "Too little is known yet to say whether retraining is due."
    return {"due": bool(due), "words": words, "checks": checks}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
