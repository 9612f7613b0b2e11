import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import web_support
from PIL import Image
from web_support import encoded, make_app, photo_form, stand_in_model, text_of, upload

from emotion.images.guards import readable_types
from emotion.labels import EMOTIONS, LABELS
from emotion.text import duration


def test_form_and_lengths_of_time(client):
    for words in (*readable_types(), "20 MB", "50 megapixels", "24 hours"):
        assert words in text_of(client.get("/"))
    lengths = {3600: "1 hour", 36 * 3600: "36 hours", 86399: "24 hours", 62: "1 minute"}
    assert list(map(duration, lengths)) == list(lengths.values())


def test_a_result_shows_every_face_with_all_percentages(client):
    page = client.get(upload(client))
    for words in ("2 faces found", "Face 1 😊 Happy 90%", "Face 2 😠😨 Unsure: Angry or Afraid"):
        assert words in text_of(page)
    for words in ("30 px", "detection_model, run by Stand-in", "160 × 120 pixels"):
        assert words in text_of(page)
    table = page.text.split("</thead>")[1].split("</table>")[0]
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in table.split("</tr>")[:-1]]
    shown = {words[1]: " ".join(words[2:]) for words in rows}
    assert list(shown) == list(LABELS.values())
    assert (shown["Happy"], shown["Disgusted"]) == ("90%", "1%")
    targets = set(re.findall(r'(?:src|href)="(/[^"]*)"', page.text))
    assert len(targets) >= 9
    for target in targets:
        with client.get(html.unescape(target)) as reply:
            assert reply.status_code == 200, target


def test_a_result_says_how_often_unsure_answers_are_right_unless_it_is_older(tmp_path):
    verdict = {"sure_from": 0.95, "clear_margin": 0.1, "accuracy_when_unsure": 0.487}
    model = replace(stand_in_model(), card={"verdict": verdict})
    client = make_app(tmp_path, model=model).test_client()
    path = upload(client)
    text = text_of(client.get(path))
    assert ("perhaps Happy" in text, "49%" in text) == (True, True)
    (stored,) = (tmp_path / "uploads").glob("*/*.json")
    content = json.loads(stored.read_text())
    del content["model"]["accuracy_when_unsure"]
    for face in content["results"]["faces"]:
        for later in ("sure", "agreement", "verdict", "candidates"):
            del face[later]
    stored.write_text(json.dumps(content))
    text = text_of(client.get(path))
    assert ("Face 1 😊 Happy 90%" in text, "Angry or Afraid" in text) == (True, True)


def test_a_result_says_what_people_would_say_and_what_is_often_missed(tmp_path):
    rows = [
        {"class": name, "precision": 0.9, "recall": recall, "f1": 0.9, "support": 20}
        for name, recall in zip(EMOTIONS, (0.9, 0.375, 0.79, 0.95, 0.8, 0.7, None), strict=True)
    ]
    card = {
        "verdict": {"sure_from": 0.5, "clear_margin": 0.1, "agreement_temperature": 1},
        "weights_sha256": stand_in_model().sha256,
        "metrics": {"test": {"images": 140, "accuracy": 0.9, "per_class": rows}},
    }
    client = make_app(tmp_path, model=replace(stand_in_model(), card=card)).test_client()
    page = client.get(upload(client))
    text = text_of(page)
    for words in ("9 of 10 people would say Happy", "People would be split: Angry or Afraid"):
        assert words in text
    assert "Disgusted (38% found), Sad (70% found), Afraid (79% found)." in text
    assert "Happy 90%; 9 of 10 people" in page.text  # what is read aloud of its box


def test_no_face_and_many_faces(tmp_path):
    boxes = [(x, y, 12, 12) for y in range(0, 100, 14) for x in range(0, 140, 14)]
    for found, words in (([], "No face found"), (boxes, f"{len(boxes)} faces found")):
        client = make_app(tmp_path, detector=web_support.StandInDetector(found)).test_client()
        path = upload(client)
        assert words in client.get(path).text
        statuses = [client.get(f"{path}/face-{n}.jpg").status_code for n in (1, len(boxes))]
        assert statuses == [200 if found else 404] * 2


def test_pictures_are_upright_jpegs_of_the_right_size(tmp_path):
    corners = web_support.StandInDetector([(0, 0, 800, 800), (1000, 1600, 800, 800)])
    client = make_app(tmp_path, detector=corners).test_client()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    path = upload(client, encoded(width=2400, height=1800, quality=20, exif=exif))
    assert client.get(f"{path}/emotions.json").json["image"] == {"width": 1800, "height": 2400}
    sizes = {"annotated": (1800, 2400), "view": (1200, 1600)}
    for name, size in (sizes | {"face-1": (320, 320), "face-2": (320, 320)}).items():
        reply = client.get(f"{path}/{name}.jpg")
        assert (reply.mimetype, Image.open(io.BytesIO(reply.data)).size) == ("image/jpeg", size)


def test_pictures_that_are_kept_are_unmarked_and_others_are_drawn_when_asked_for(tmp_path):
    client, grey = make_app(tmp_path).test_client(), io.BytesIO()
    Image.new("RGB", (160, 120), (90, 90, 90)).save(grey, "JPEG")
    path = upload(client, grey.getvalue())
    folder = tmp_path / "uploads" / path.rpartition("/")[2]

    def is_marked(name):
        reply = client.get(f"{path}/{name}.jpg")
        return np.asarray(Image.open(io.BytesIO(reply.data))).std() > 9

    names = ("photo", "view", "thumb", "face-1", "annotated", "blurred")
    assert [name for name in names if is_marked(name)] == ["annotated"]
    drawn = {folder / f"{kind}.jpg" for kind in ("annotated", "blurred")}
    assert drawn <= set(folder.iterdir())
    labels = json.loads((folder / "result.json").read_bytes())["labels"]
    assert (labels["width"], labels["height"], len(labels["places"])) == (1600, 1200, 2)
    # as results were kept before
    (folder / "photo.jpg").unlink()
    (folder / "blurred.jpg").unlink()
    assert client.get(f"{path}/blurred.jpg").status_code == 200


def test_downloads_are_kept_by_no_cache_and_no_search_engine(client):
    path = upload(client)
    photo = client.get(f"{path}/annotated.jpg?download=1")
    assert photo.headers["Content-Disposition"] == "attachment; filename=emotions.jpg"
    assert "Content-Disposition" not in client.get(f"{path}/annotated.jpg").headers
    results = client.get(f"{path}/emotions.json")
    assert results.headers["Content-Disposition"] == "attachment; filename=emotions.json"
    assert results.json == client.post("/api/v1/recognize", data=photo_form()).json
    for reply in (photo, results, client.get(path), client.get(f"{path}/view.jpg")):
        assert reply.headers["Cache-Control"] == "private, no-store"
        assert "noindex" in reply.headers["X-Robots-Tag"]
        assert reply.headers["Referrer-Policy"] == "same-origin"


def test_unknown_addresses(client):
    path, nobody = upload(client), "A" * 22
    names = "result.json face-0.jpg face-3.jpg ..%2fresult.json x.jpg".split()
    names += [f"faces/{number}" for number in ("0", "3", "-1", "x", "9" * 20)]
    others = "/results/ /results/x /results/..%2f..%2fapp.py /static/../app.py /static/no.css"
    others += " /sets/x /sets/../../etc/passwd"
    sets = (f"/sets/{nobody}{rest}" for rest in ("", "A", "/emotions.csv", "/annotated.zip"))
    results = (f"/results/{nobody}/annotated.jpg", *(f"{path}/{name}" for name in names))
    for address in (*others.split(), *sets, *results):
        reply = client.get(address)
        assert (reply.status_code, "Status 404" in text_of(reply)) == (404, True), address


def test_results_are_removed_when_their_time_is_up(tmp_path):
    """By the next request, and by an app that starts."""
    now = [1_700_000_000.0]
    client = make_app(tmp_path, clock=lambda: now[0], KEEP_HOURS=1).test_client()
    upload(client)
    now[0] += 7200
    client.get("/")
    assert list((tmp_path / "uploads").iterdir()) == []
    upload(client)
    make_app(tmp_path)
    assert list((tmp_path / "uploads").iterdir()) == []


def test_nothing_of_the_photos_metadata_or_name_is_kept(client, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    exif.get_ifd(0x8825)[29] = "SecretPlace"
    content = encoded(exif=exif, comment=b"SecretComment", icc_profile=b"SecretProfile" * 20)
    assert content.count(b"Secret") >= 4
    data = photo_form(content, name="SecretName.jpg")
    path = client.post("/", data=data).headers["Location"]
    files = [file for file in (tmp_path / "uploads").rglob("*") if file.is_file()]
    assert len(files) == 8  # results, photo, view, thumb, and two pictures of each face
    for file in files:
        kept = file.name.encode() + file.read_bytes()
        assert not any(part in kept for part in (b"Secret", content[100:200]))
        if file.suffix != ".json":
            with Image.open(file) as image:
                assert not image.getexif()
                assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert "Secret" not in client.get(path).text


def test_names_and_notes_of_a_model_are_escaped_and_without_folders(tmp_path):
    names = ("<script>alert(1)</script>", '"><b>', "contempt", "d", "e", "f", "g")
    notes = ("<i>note</i>", f"not made anew ([Errno 13] denied: '{tmp_path}/deep/tiny.onnx')")
    model = stand_in_model(web_support.HAPPY, names=names, notes=notes)
    client = make_app(tmp_path, model).test_client()
    page = client.get(upload(client)).text
    assert not any(one in page for one in ("<script>alert", '"><b>', "<i>", str(tmp_path)))
    assert ("contempt" in page, "tiny.onnx" in page) == (True, True)


def test_without_a_model_the_pages_say_so_kindly(tmp_path):
    reason = f"expected a model in {tmp_path}; it is missing"
    client = web_support.make_app_without_model(tmp_path, reason).test_client()
    pages = [client.get(path) for path in ("/", "/live")]
    for reply in (*pages, *(client.post(path, data=photo_form()) for path in ("/", "/live/frame"))):
        assert reply.status_code == 503
        assert not any(one in reply.text for one in (str(tmp_path), 'type="file"', "live.js"))
