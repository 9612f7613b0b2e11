"""Photos that are kept: their JSON, tables, pictures and removal; sets of them, and all of mine."""

import contextlib
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from flask import Response, json, jsonify, render_template, request, url_for
from flask.typing import ResponseReturnValue

from emotion.errors import GoneError, UploadError
from emotion.rows import results_to_csv
from emotion.web.api import NO_STORE, ROOT, api, moment
from emotion.web.database import Answers, PhotoRow, VideoRow
from emotion.web.feedback.views import own_faces
from emotion.web.limits import client_key
from emotion.web.photos.pages import PRIVATE, after_deletion, pages, private_file
from emotion.web.services import current_services
from emotion.web.storage import Analysis, gone
from emotion.web.visitors import require_sender, visitor_key

PAGE = {"offset": 0, "limit": 1000}  # of /mine, where a program asks for no part of it


@dataclass(frozen=True)
class Shown:
    position: int  # in the set, from 1
    analysis: Analysis | None = None  # None if it could not be read
    problem: str = ""  # why it could not be read
    pictures: Mapping[str, str] | None = None  # name -> data URI, where nothing is kept

    @property
    def name(self) -> str:
        return f"photo-{self.position}"


def photo_document(analysis: Analysis, is_own: bool) -> dict:
    """Return a photo as JSON; only its sender is told its set."""
    photo_id, set_id = analysis.id, analysis.set_id if is_own else None
    page, part = partial(url_for, analysis_id=photo_id), partial(url_for, photo_id=photo_id)
    faces = [
        {
            "page": page("pages.face", number=number),
            "picture": page("pages.picture", name=f"face-{number}"),
            "explanation": part("api.explanation", number=number),
            "feedback": part("api.opinion", number=number),
        }
        for number in range(1, len(analysis.faces) + 1)
    ]
    links = {
        "self": part("api.photo"),
        "page": page("pages.result"),
        "set": url_for("pages.photo_set", set_id=set_id) if set_id else None,
        **{kind: part("api.picture", kind=kind) for kind in ("annotated", "blurred")},
        "thumbnail": page("pages.picture", name="thumb"),
    }
    times = {"created": moment(analysis.created_s), "expires": moment(analysis.expires_s)}
    about = {"id": photo_id, "set": set_id, "name": analysis.name if is_own else ""} | times
    return about | {"links": links | {"faces": faces}, "results": analysis.results}


def named(shown: Sequence[Shown]) -> list[tuple[str, Shown]]:
    """Return photos with their names for tables: of their files, where no other has the same."""
    names = [one.analysis.name if one.analysis else "" for one in shown]
    pairs = zip(names, shown, strict=True)
    return [(name if name and names.count(name) == 1 else one.name, one) for name, one in pairs]


def table_of(shown: Sequence[Shown], with_names: bool = True) -> bytes:
    """Return photos as CSV, one row a face."""
    photos = named(shown) if with_names else [(one.name, one) for one in shown]
    rows = [(name, one.analysis.results if one.analysis else one.problem) for name, one in photos]
    # spreadsheets recognize UTF-8 by the byte order mark
    return results_to_csv(rows).encode("utf-8-sig")


def full_picture(client: str, analysis: Analysis, kind: str) -> bytes:
    """Return the photo with its boxes as JPEG, or "blurred"; it is drawn when first asked for."""
    storage, name = current_services().storage, f"{kind}.jpg"
    with contextlib.suppress(GoneError):
        return storage.read_picture(analysis.id, name)
    try:
        photo = storage.read_picture(analysis.id, "photo.jpg")
    except GoneError:  # kept since before there was one
        photo = storage.read_picture(analysis.id, "annotated.jpg")
    drawn = draw(client, photo, analysis.results, kind)
    storage.add_picture(analysis.id, name, drawn)
    return drawn


def draw(client: str, photo: bytes, results: Mapping, kind: str) -> bytes:
    """Return a kept photo with boxes, or "blurred"; the client has a place at the gate."""
    about = {"faces": results["faces"], "size_wh": list(results["image"].values()), "kind": kind}
    return current_services().workers.call(client, None, "draw", photo, **about)[1][f"{kind}.jpg"]


def remove_rows(rows: Sequence[PhotoRow]) -> None:
    """Remove photos and what was kept of them for training, even if they are half gone."""
    services = current_services()
    for row in rows:
        with contextlib.suppress(GoneError):
            services.storage.delete(row.id)
        # the row last: while it is there, deleting can be tried again
        services.given.remove(services.database.opinions_on(row.id))
        services.database.forget(row.id)


def rows_of(set_id: str) -> tuple[PhotoRow, ...]:
    """Return the photos of a set of this visitor, by position."""
    services = current_services()
    rows = services.database.photos_of_set(set_id, services.storage.clock())
    if not rows:
        raise gone()
    for row in rows:
        require_sender(row.visitor)
    return rows


def shown_of(set_id: str) -> list[Shown]:
    """Return the photos of a set of this visitor as its page shows them, numbered without gaps."""
    shown = []
    for position, row in enumerate(rows_of(set_id), start=1):
        with contextlib.suppress(GoneError):  # one that was deleted in this moment is left out
            analysis = None if row.problem else current_services().storage.load(row.id)
            shown.append(Shown(position, analysis, row.problem))
    return shown


def summarize(shown: Sequence[Shown]) -> dict:
    """Return how many faces show each emotion, of one model's classes or of several models'."""
    faces, summary = [face for one in shown if one.analysis for face in one.analysis.faces], []
    for name in dict.fromkeys(name for face in faces for name in face.probabilities):
        sure = [face.sure for face in faces if face.emotion == name]
        mean = sum(face.probabilities.get(name, 0) for face in faces) / len(faces)
        counts = {"sure": sure.count(True), "unsure": sure.count(False)}
        shares = {"share": len(sure) / len(faces), "mean_probability": mean}
        summary.append({"emotion": name} | counts | shares)
    return {"faces": len(faces), "summary": summary}


@pages.get("/sets/<set_id>")
def photo_set(set_id: str) -> ResponseReturnValue:
    return set_page(shown_of(set_id), set_id), PRIVATE


def set_page(shown: Sequence[Shown], set_id: str | None) -> str:
    """Return the page of several photos; without an id, of photos that are not kept."""
    return render_template("set.html", shown=shown, set_id=set_id, **summarize(shown))


@api.get(f"{ROOT}/sets/<set_id>", endpoint="photo_set")
def photo_set_json(set_id: str) -> ResponseReturnValue:
    """See the photos of a set and what all their faces show together."""
    shown, page = shown_of(set_id), partial(url_for, set_id=set_id)
    photos = [
        {
            "position": one.position,
            "problem": one.problem or None,
            "photo": photo_document(one.analysis, True) if one.analysis else None,
        }
        for one in shown
    ]
    links = {
        "self": page("api.photo_set"),
        "page": page("pages.photo_set"),
        "csv": page("pages.set_csv"),
        **{kind: page("pages.set_zip", kind=kind) for kind in ("annotated", "blurred")},
    }
    about = {"id": set_id, "links": links, "photos": photos}
    return jsonify(about | summarize(shown)), NO_STORE


@pages.get("/sets/<set_id>/<any(annotated, blurred):kind>.zip")
def set_zip(set_id: str, kind: str) -> Response:
    read = [one for one in shown_of(set_id) if one.analysis]
    with contextlib.ExitStack() as on_error:
        # a larger zip is written to the disk while it is made
        file = on_error.enter_context(tempfile.SpooledTemporaryFile(max_size=16 * 2**20))
        place = current_services().gate.place(client_key())
        with place as client, zipfile.ZipFile(file, "w") as archive:
            for one in read:
                archive.writestr(f"{one.name}.jpg", full_picture(client, one.analysis, kind))
            archive.writestr("emotions.csv", table_of(read, with_names=False))
        file.seek(0)
        on_error.pop_all()  # from here on the reply closes it
    return private_file(file, "application/zip", f"emotions-{kind}.zip")


@pages.get("/sets/<set_id>/emotions.json")
def set_json(set_id: str) -> Response:
    read = [one for one in shown_of(set_id) if one.analysis]
    photos = [{"photo": name, **one.analysis.results} for name, one in named(read)]
    content = json.dumps({"photos": photos}, indent=1) + "\n"
    return private_file(content.encode(), "application/json", "emotions.json")


@pages.get("/sets/<set_id>/emotions.csv")
def set_csv(set_id: str) -> Response:
    return private_file(table_of(shown_of(set_id)), "text/csv", "emotions.csv")


@pages.post("/sets/<set_id>/delete")
@api.delete(f"{ROOT}/sets/<set_id>")
def delete_set(set_id: str) -> ResponseReturnValue:
    """Delete all photos of a set."""
    remove_rows(rows_of(set_id))
    return after_deletion("pages.form", deleted=1)


def rows_of_mine() -> tuple[tuple[PhotoRow, ...], tuple[VideoRow, ...]]:
    """Return the photos and the videos of this visitor that are still kept, newest first."""
    services, visitor = current_services(), visitor_key()
    now_s = services.storage.clock()
    photos = services.database.photos_of_visitor(visitor, now_s)
    return photos, services.database.videos_of_visitor(visitor, now_s)


@pages.get("/mine")
def mine() -> ResponseReturnValue:
    photos, videos = rows_of_mine()
    about = {"now_s": current_services().storage.clock(), "deleted": "deleted" in request.args}
    about |= {"rows": photos, "videos": videos, "given": own_faces()}
    return render_template("mine.html", **about), PRIVATE


@api.get(f"{ROOT}/mine", endpoint="mine")
def mine_json() -> ResponseReturnValue:
    """See what this sender, known by a cookie, has sent and is still kept."""

    def document(row: PhotoRow | VideoRow, *names: str) -> dict:
        answers = Answers.from_text(row.emotions)
        own = {name.removesuffix("_id"): getattr(row, name) for name in names}
        own |= {"created": moment(row.created_s), "expires": moment(row.expires_s)}
        own |= {"faces": row.faces, "emotions": [names[0] for names in answers.candidates]}
        own |= {"verdicts": list(answers.verdicts), "model": dict(answers.model) or None}
        return own | {"problem": row.problem or None}

    rows = dict(zip(("photos", "videos"), rows_of_mine(), strict=True))
    try:
        offset, limit = (int(request.args.get(name, most)) for name, most in PAGE.items())
        if offset < 0 or limit < 1:
            raise ValueError
    except ValueError as error:
        raise UploadError("expected whole numbers as offset and limit; received others") from error
    names = {"photos": ("id", "set_id", "position"), "videos": ("id", "state")}
    page = {kind: of[offset : offset + limit] for kind, of in rows.items()}
    content = {kind: [document(row, *names[kind]) for row in of] for kind, of in page.items()}
    return jsonify(content | {"total": {kind: len(of) for kind, of in rows.items()}}), NO_STORE


@pages.post("/mine/delete")
@api.delete(f"{ROOT}/mine")
def delete_mine() -> ResponseReturnValue:
    """Delete everything that this sender, known by a cookie, has sent."""
    photos, videos = rows_of_mine()
    remove_rows(photos)
    for row in videos:
        current_services().videos.remove_known(row.id)
    current_services().given.remove(own_faces())
    return after_deletion("pages.mine", deleted=1)
