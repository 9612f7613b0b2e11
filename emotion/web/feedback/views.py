"""What visitors gave for training: for its giver, and for the operator, who approves or refuses."""

from collections import Counter
from collections.abc import Sequence

from flask import Blueprint, abort, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from emotion.errors import GoneError
from emotion.text import data_url, table
from emotion.web.api import NO_STORE, ROOT, api, moment
from emotion.web.database import day_of
from emotion.web.feedback.given import GivenFace, GivenFaces
from emotion.web.photos.pages import PRIVATE, after_deletion, pages
from emotion.web.services import current_services
from emotion.web.settings import SettingsError
from emotion.web.visitors import require_operator, visitor_key

DECISIONS = {"approve": GivenFaces.approve, "refuse": GivenFaces.remove}

operator = Blueprint("operator", __name__)
pages.add_app_template_filter(day_of, "day")
pages.add_app_template_filter(lambda face: data_url(current_services().given.picture(face)), "crop")


def own_faces() -> tuple[GivenFace, ...]:
    return current_services().given.find(visitor_key())


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
    faces = [face for face in own_faces() if face_id in ("", face.id)]
    if face_id and not faces:
        raise GoneError("expected a face that you gave; received another")
    current_services().given.remove(faces)
    return after_deletion("pages.mine", deleted=1)


@operator.get("/operator/feedback")
def waiting() -> ResponseReturnValue:
    require_operator()
    faces, shown = current_services().given.find(), {}
    visitors = Counter(face.visitor for face in faces)
    # who gives many stands out
    for face in sorted(faces, key=lambda face: -visitors[face.visitor])[:200]:
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
    faces = [face for face in given.find() if face.id in ids]
    DECISIONS[decision](given, faces)
    return redirect(url_for("operator.waiting", **{decision: len(faces)}), 303)


def decide_in_shell(given: GivenFaces, words: Sequence[str]) -> list[str]:
    """Do what the words after `feedback` say; return what waits then. Raises SettingsError."""
    if words:
        meant = {face: {"all", face.emotion, face.visitor, face.id} for face in given.find()}
        names, known = {*words[1:]}, {"all"}.union(*meant.values())
        if words[0] not in DECISIONS or not names or names - known:
            expected = "expected approve or refuse, then all or a class, visitor or face that waits"
            raise SettingsError(f"{expected}; received {' '.join(words)!r}")
        DECISIONS[words[0]](given, [face for face in meant if meant[face] & names])
    faces = given.find()
    emotions = sorted({face.emotion for face in faces})
    counts = Counter((face.visitor, face.emotion) for face in faces)
    rows = [
        (visitor, f"{count}", *(f"{counts[visitor, name]}" for name in emotions))
        for visitor, count in Counter(face.visitor for face in faces).most_common()
    ]
    lines = [f"Faces that wait in {given.waiting}: {len(faces)}"]
    return lines + (table(("visitor", "faces", *emotions), rows) if rows else [])
