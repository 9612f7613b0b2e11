"""Photos, as pages and as JSON: send one or several, see, download and delete what was found."""

from flask import Response, abort, json, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from emotion.errors import ImageError, UploadError
from emotion.text import data_url
from emotion.web.api import NO_STORE, ROOT, api
from emotion.web.database import PhotoRow
from emotion.web.errors import problem_of
from emotion.web.limits import client_key
from emotion.web.photos import sets, uploads
from emotion.web.photos.pages import PRIVATE, after_deletion, pages, private_file
from emotion.web.services import current_services
from emotion.web.storage import Analysis, is_id, new_id
from emotion.web.visitors import is_own_photo, new_visitor, own_photo

PHOTO = f"{ROOT}/photos/<photo_id>"
RESULT = "/results/<analysis_id>"


@pages.get("/")
def form() -> ResponseReturnValue:
    current_services().require_model()
    return render_template("form.html", deleted=request.args.get("deleted", "")), PRIVATE


@pages.post("/")
@pages.post("/samples/<sample>.jpg")
def upload(sample: str = "") -> ResponseReturnValue:
    """Read one photo or several, keep what was found, and go to its page."""
    services = current_services()
    model, keeps_nothing = uploads.chosen_model(), services.settings.keeps_nothing
    files = uploads.uploaded_files(services.settings.max_photos)
    set_id, now_s, is_set = new_id(), services.storage.clock(), len(files) > 1
    shown, results, status = [], [], 0  # shown: photos of which nothing is kept
    with uploads.all_or_nothing() as rows:
        with services.gate.place(client_key()) as client:
            for position, file in enumerate(files, start=1):
                name = uploads.kept_name(file)
                try:
                    reading = uploads.read_photo(client, model, file.read(), True)
                except ImageError as error:
                    if not is_set:
                        raise
                    status = status or problem_of(error)["status"]
                    problem = uploads.why_unread(error, name)
                    shown.append(sets.Shown(position, problem=problem))
                    rows.append(uploads.row_of(set_id, position, problem=problem))
                    continue
                results.append(reading.results)
                if keeps_nothing:
                    made = {**reading.pictures}
                    photo = made.pop("photo.jpg")
                    if not is_set:
                        made["annotated.jpg"] = sets.draw(
                            client, photo, reading.results, "annotated"
                        )
                    pictures = {name: data_url(data, "jpeg") for name, data in made.items()}
                    about = (reading.results, reading.model, "", reading.labels)
                    analysis = Analysis("", now_s, now_s, *about, name)
                    shown.append(sets.Shown(position, analysis, pictures=pictures))
                else:
                    rows.append(uploads.keep(reading, set_id, position, name))
        if keeps_nothing or not results:
            rows.clear()
    if not results:
        return sets.set_page(shown, None), status, NO_STORE
    uploads.count(results)
    if not keeps_nothing:
        to_set = url_for("pages.photo_set", set_id=set_id)
        one = url_for("pages.result", analysis_id=rows[0].id)
        return redirect(to_set if is_set else one, 303)
    if is_set:
        return sets.set_page(shown, None), PRIVATE
    return render_template("result.html", analysis=shown[0].analysis, shown=shown[0]), PRIVATE


@api.post(f"{ROOT}/recognize")
def recognize() -> ResponseReturnValue:
    """Find the faces in a photo; nothing is stored."""
    services = current_services()
    model = uploads.chosen_model()
    (file,) = uploads.uploaded_files(most=1)
    with services.gate.place(client_key()) as client:
        results = uploads.read_photo(client, model, file.read(), False).results
    uploads.count([results])
    return jsonify(results), NO_STORE


@api.post(f"{ROOT}/recognize/many")
def recognize_many() -> ResponseReturnValue:
    """Find the faces in several photos; nothing is stored."""
    services, model, photos = current_services(), uploads.chosen_model(), []
    files = uploads.uploaded_files(services.settings.max_photos)
    with services.gate.place(client_key()) as client:
        for file in files:
            results, problem = None, None
            try:
                results = uploads.read_photo(client, model, file.read(), False).results
            except ImageError as error:
                problem = problem_of(error)["detail"]
            photos.append({"results": results, "problem": problem})
    uploads.count([photo["results"] for photo in photos if photo["results"]])
    return jsonify({"photos": photos}), NO_STORE


@api.post(f"{ROOT}/photos")
def add_photo() -> ResponseReturnValue:
    """Find the faces in a photo and keep the results, in a new set or in one of your own."""
    services = current_services()
    if services.settings.keeps_nothing:
        abort(409, f"This server keeps nothing: use {url_for('api.recognize')}.")
    model = uploads.chosen_model()
    (file,) = uploads.uploaded_files(most=1)
    name, (set_id, position, unread) = uploads.kept_name(file), _place_in_set()
    try:
        with uploads.all_or_nothing() as rows:
            with services.gate.place(client_key()) as client:
                reading = uploads.read_photo(client, model, file.read(), True)
                rows.append(uploads.keep(reading, set_id, position, name))
                results = reading.results
            sets.remove_rows(unread)
    except ImageError as error:
        if request.form.get("set"):
            sets.remove_rows(unread)
            problem = uploads.why_unread(error, name)
            row = uploads.row_of(set_id, position, problem=problem)
            services.database.remember(row, most=services.settings.max_photos)
        raise
    uploads.count([results])
    photo_id = rows[0].id
    headers = NO_STORE | {"Location": url_for("api.photo", photo_id=photo_id)}
    return jsonify(sets.photo_document(services.storage.load(photo_id), True)), 201, headers


def _place_in_set() -> tuple[str, int, list[PhotoRow]]:
    """Return the set of a new photo, its place there, and the unread photos that it replaces."""
    services = current_services()
    most = services.settings.max_photos
    set_id = request.form.get("set", "") or new_id()
    if not is_id(set_id):
        raise UploadError("expected a set of 22 letters, digits, - and _; received another text")
    rows = services.database.photos_of_set(set_id, services.storage.clock())
    # of photos sent side by side, the second may come before the first one's reply has named us
    visitor = new_visitor() if rows else ""
    if any(row.visitor != visitor for row in rows):
        raise UploadError("expected a set of your own; received one of somebody else")
    position = min(rows[-1].position + 1 if rows else 1, most)
    if request.form.get("position"):
        position = request.form.get("position", type=int)
        if position is None or not 1 <= position <= most:
            raise UploadError(f"expected a position from 1 to {most}; received another")
    unread = [row for row in rows if row.problem and row.position == position]
    if len(rows) - len(unread) >= most:
        raise UploadError(f"expected up to {most} photos in a set; this one is full")
    return set_id, position, unread


@pages.get(RESULT)
def result(analysis_id: str) -> ResponseReturnValue:
    about = {"analysis": current_services().storage.load(analysis_id), "shown": None}
    if is_own := is_own_photo(analysis_id):
        rows = sets.rows_of(about["analysis"].set_id)
        about["set_ids"] = [row.id for row in rows if not row.problem]
    return render_template("result.html", **about, is_own=is_own), PRIVATE


@api.get(PHOTO)
def photo(photo_id: str) -> ResponseReturnValue:
    """See what was found in a photo that is kept."""
    analysis = current_services().storage.load(photo_id)
    return jsonify(sets.photo_document(analysis, is_own_photo(photo_id))), NO_STORE


@pages.get(f"{RESULT}/<name>.jpg", endpoint="picture")
def picture_page(analysis_id: str, name: str) -> Response:
    data = current_services().storage.read_picture(analysis_id, f"{name}.jpg")
    return private_file(data, "image/jpeg", None)


@pages.get(f"{RESULT}/annotated.jpg", defaults={"kind": "annotated"})
@pages.get(f"{RESULT}/blurred.jpg", defaults={"kind": "blurred"})
def drawn(analysis_id: str, kind: str) -> Response:
    """Send the photo with boxes, or with its faces blurred; with `?download=1` as a file."""
    name = "emotions.jpg" if kind == "annotated" else "emotions-blurred.jpg"
    data = _full(analysis_id, kind)
    return private_file(data, "image/jpeg", name if "download" in request.args else None)


@api.get(f"{PHOTO}/<any(annotated, blurred):kind>.jpg")
def picture(photo_id: str, kind: str) -> ResponseReturnValue:
    """Get the photo with boxes and labels, or without them and with the faces blurred."""
    return Response(_full(photo_id, kind), mimetype="image/jpeg", headers=NO_STORE)


def _full(photo_id: str, kind: str) -> bytes:
    services = current_services()
    analysis = services.storage.load(photo_id)
    with services.gate.place(client_key()) as client:
        return sets.full_picture(client, analysis, kind)


@pages.get(f"{RESULT}/emotions.json")
def results_file(analysis_id: str) -> Response:
    results = current_services().storage.load(analysis_id).results
    content = json.dumps(results, indent=1) + "\n"
    return private_file(content.encode(), "application/json", "emotions.json")


@pages.get(f"{RESULT}/emotions.csv")
def results_table(analysis_id: str) -> Response:
    shown = sets.Shown(1, current_services().storage.load(analysis_id))
    table = sets.table_of([shown], with_names=is_own_photo(analysis_id))
    return private_file(table, "text/csv", "emotions.csv")


@pages.post(f"{RESULT}/delete")
def delete(analysis_id: str) -> ResponseReturnValue:
    sets.remove_rows([own_photo(analysis_id)])
    is_listed = request.args.get("back") == "mine"
    return after_deletion("pages.mine" if is_listed else "pages.form", deleted=1)


@api.delete(PHOTO)
def delete_photo(photo_id: str) -> ResponseReturnValue:
    """Remove a photo and its results at once."""
    return delete(photo_id)
