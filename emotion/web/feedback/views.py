"""What visitors gave for training: for its giver, and for the operator, who approves or refuses."""

from collections import Counter
from collections.abc import Sequence

from flask import Blueprint, abort, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from emotion.errors import GoneError
from emotion.text import counted, data_url, table
from emotion.web.api import NO_STORE, ROOT, api, moment
from emotion.web.database import day_of
from emotion.web.feedback.given import GivenFace, GivenFaces
from emotion.web.photos.pages import PRIVATE, after_deletion, pages
from emotion.web.services import current_services
from emotion.web.settings import SettingsError
from emotion.web.visitors import require_operator, visitor_key

MOST_SHOWN = 200  # faces on a page
LEAST_LETTERS = 8  # by which a face or a visitor is named in the shell
DECISIONS = {"approve": True, "refuse": False}

operator = Blueprint("operator", __name__)


def own_faces() -> tuple[GivenFace, ...]:
    return current_services().given.of_visitor(visitor_key())


pages.add_app_template_filter(day_of, "day")


@pages.app_template_filter("crop_of")
def crop_of(face: GivenFace) -> str:
    return data_url(current_services().given.picture(face))


@api.get(f"{ROOT}/mine/feedback")
def given() -> ResponseReturnValue:
    """See which faces this sender, known by a cookie, gave for training."""
    faces = [
        {"id": face.id, "emotion": face.emotion, "given": moment(face.given_s)}
        | {"approved": moment(face.approved_s) if face.approved_s else None}
        for face in own_faces()
    ]
    return jsonify({"faces": faces}), NO_STORE


@pages.post("/mine/feedback/withdraw")
@pages.post("/mine/feedback/<face_id>/withdraw")
@api.delete(f"{ROOT}/mine/feedback", endpoint="withdraw_all_given")
@api.delete(f"{ROOT}/mine/feedback/<face_id>")
def withdraw_given(face_id: str = "") -> ResponseReturnValue:
    """Take back what this sender gave for training: one face, or all."""
    files = [face.file for face in own_faces() if face_id in ("", face.id)]
    if face_id and not files:
        raise GoneError("expected a face that you gave; received another")
    current_services().given.remove(*files)
    return after_deletion("pages.mine", deleted=1)


@operator.get("/operator/feedback")
def waiting() -> ResponseReturnValue:
    require_operator()
    faces, shown = current_services().given.waiting(), {}
    visitors = Counter(face.visitor for face in faces)
    # who gives many stands out
    for face in sorted(faces, key=lambda face: -visitors[face.visitor])[:MOST_SHOWN]:
        shown.setdefault(face.visitor, []).append(face)
    emotions = Counter(face.emotion for face in faces)
    about = {"visitors": visitors, "emotions": emotions, "shown": shown}
    return render_template("operator.html", **about), PRIVATE


@operator.post("/operator/feedback")
def decide() -> ResponseReturnValue:
    require_operator()
    decision, given = request.form.get("decision"), current_services().given
    if decision not in DECISIONS:
        abort(400, "Expected approve or refuse as the decision; received another.")
    # a tick names one face, or all of a visitor that were on the page: no later one is in it
    ids = set(" ".join(request.form.getlist("face")).split())
    faces = [face for face in given.waiting() if face.id in ids]
    given.decide(faces, DECISIONS[decision])
    return redirect(url_for("operator.waiting", **{decision: len(faces)}), 303)


def decide_in_shell(given: GivenFaces, words: Sequence[str]) -> list[str]:
    """Do what the words after `feedback` say; return lines about what waits then.

    Raises SettingsError for other words, and then does nothing.
    """
    if words and (words[0] not in DECISIONS or not words[1:]):
        expected = "expected nothing, or approve or refuse and which faces, such as all"
        raise SettingsError(f"{expected}; received {' '.join(words)!r}")
    faces, lines = given.waiting(), []
    if words:
        chosen = {}
        for word in words[1:]:
            meant = [face for face in faces if _is_meant(face, word)]
            if not meant and word != "all":
                expected = "expected all, a class, or the start of the name of a visitor or a face"
                raise SettingsError(f"{expected} that waits; received {word!r}")
            chosen |= dict.fromkeys(meant)
        given.decide([*chosen], DECISIONS[words[0]])
        lines = [f"{words[0].capitalize()}d: {counted(len(chosen), 'face')}"]
        faces = given.waiting()
    lines.append(f"{counted(len(faces), 'face')} to approve or refuse, in {given.folder}/.waiting")
    names = sorted({face.emotion for face in faces})
    visitors = Counter(face.visitor for face in faces)
    pairs = Counter((face.visitor, face.emotion) for face in faces)
    rows = [
        (visitor[:12], f"{count}", *(f"{pairs[visitor, name]}" for name in names))
        for visitor, count in visitors.most_common()
    ]
    return [*lines, *table(("visitor", "faces", *names), rows)] if faces else lines


def _is_meant(face: GivenFace, word: str) -> bool:
    is_name = len(word) >= LEAST_LETTERS
    starts = is_name and (face.visitor.startswith(word) or face.id.startswith(word))
    return starts or word in ("all", face.emotion)
