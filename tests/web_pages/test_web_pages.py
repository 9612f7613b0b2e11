"""Pages: what a visitor sees, step by step, and what is kept of the photo."""

import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from PIL import Image
from web_support import (
    CLOSE,
    HAPPY,
    StandInDetector,
    encoded,
    make_app,
    make_app_without_model,
    photo_form,
    picture,
    stand_in_model,
    upload,
)

from emotion.detection.haar import FaceDetector
from emotion.faces import Face
from emotion.images.encoding import encode_jpeg
from emotion.images.guards import readable_types
from emotion.labels import COLORS_RGB, EMOTIONS
from emotion.web.models.facts import without_folders
from emotion.web.photos.pages import duration
from emotion.web.photos.pictures import face_picture


@pytest.fixture
def client(tmp_path):
    return make_app(tmp_path).test_client()


def text_of(reply):
    """Return the words of a page as a person reads them."""
    without_tags = re.sub(r"<[^>]+>", " ", reply.text.split("<body>")[1])
    return " ".join(html.unescape(without_tags).split())


def test_form(client):
    reply = client.get("/")
    text = text_of(reply)
    assert reply.status_code == 200
    assert '<form class="upload" method="post" action="/"' in reply.text
    assert 'type="file" id="photo" name="photo" required' in reply.text
    for name in readable_types():
        assert name in text
    for words in ("20 MB", "50 megapixels", "24 hours"):
        assert words in text


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (24, "24 hours"),
        (1, "1 hour"),
        (48, "2 days"),
        (36, "36 hours"),
        (0.5, "30 minutes"),
        (1.5, "1.5 hours"),
        (1 / 60, "1 minute"),
        (0.001, "3.6 seconds"),
    ],
)
def test_duration(hours, words):
    assert duration(hours) == words


def test_result_shows_every_face(client):
    path = upload(client)
    reply = client.get(path)
    text = text_of(reply)
    assert "<h1>2 faces found</h1>" in reply.text
    assert "Face 1 😊 Happy 90%" in text
    assert "Face 2 😠😨 Unsure: angry or fear" in text
    assert "30 px" in text
    assert "detection_model, run by Stand-in" in text
    assert "160 × 120 pixels" in text


def test_result_has_all_percentages_as_words_and_bars(client):
    page = client.get(upload(client)).text
    rows = re.findall(r"<tr.*?</tr>", page.split("</thead>")[1].split("</table>")[0], re.DOTALL)
    shown = {}
    for row in rows:
        words = re.sub(r"<[^>]+>", " ", row).split()
        width = re.search(r'class="fill" width="([0-9.]+)"', row)[1]
        color = re.search(r'fill="(rgb\([^)]*\))"', row)[1]
        shown[words[1]] = (" ".join(words[2:]), float(width), color)
    assert list(shown) == list(EMOTIONS)
    assert shown["happy"] == ("90%", 90.0, f"rgb{COLORS_RGB['happy']}")
    assert shown["disgust"][:2] == ("1%", 1.0)


def test_result_says_how_often_unsure_answers_are_right(tmp_path):
    content = {"sure_from": 0.95, "clear_margin": 0.1, "accuracy_when_unsure": 0.487}
    model = replace(stand_in_model(), card={"verdict": content})
    client = make_app(tmp_path, model=model).test_client()
    text = text_of(client.get(upload(client)))
    assert "perhaps happy" in text
    assert "49%" in text


def test_results_of_an_earlier_version_are_shown(client, tmp_path):
    path = upload(client)
    (stored,) = (tmp_path / "uploads").glob("*/*.json")
    content = json.loads(stored.read_text())
    del content["model"]["accuracy_when_unsure"]
    for face in content["results"]["faces"]:
        for later in ("sure", "verdict", "candidates"):
            del face[later]
    stored.write_text(json.dumps(content))
    text = text_of(client.get(path))
    assert "Face 1 😊 Happy 90%" in text
    assert "angry or fear" in text


def test_many_faces_are_numbered(tmp_path):
    boxes = [(x, y, 12, 12) for y in range(0, 100, 14) for x in range(0, 140, 14)]
    client = make_app(tmp_path, detector=StandInDetector(boxes)).test_client()
    path = upload(client)
    assert f"{len(boxes)} faces found" in client.get(path).text
    assert client.get(f"{path}/face-{len(boxes)}.jpg").status_code == 200
    assert client.get(f"{path}/face-{len(boxes) + 1}.jpg").status_code == 404


def test_no_face_is_a_friendly_page_with_tips(tmp_path):
    client = make_app(tmp_path, detector=StandInDetector([])).test_client()
    path = upload(client)
    reply = client.get(path)
    assert reply.status_code == 200
    assert "<h1>No face found</h1>" in reply.text
    assert f'src="{path}/view.jpg"' in reply.text
    assert client.get(f"{path}/view.jpg").status_code == 200


def test_every_picture_and_link_of_a_page_answers(client):
    page = client.get(upload(client)).text
    targets = set(re.findall(r'(?:src|href)="(/[^"]*)"', page))
    assert len(targets) >= 9
    for target in targets:
        with client.get(html.unescape(target)) as reply:
            assert reply.status_code == 200, target


def test_pictures_are_jpegs_of_the_right_size(tmp_path):
    client = make_app(tmp_path, detector=StandInDetector([(100, 100, 800, 800)])).test_client()
    path = upload(client, encoded(width=2400, height=1800, quality=20))
    sizes = {}
    for name in ("annotated", "view", "face-1"):
        reply = client.get(f"{path}/{name}.jpg")
        assert reply.mimetype == "image/jpeg"
        sizes[name] = Image.open(io.BytesIO(reply.data)).size
    assert sizes == {"annotated": (2400, 1800), "view": (1600, 1200), "face-1": (320, 320)}


def test_downloads(client):
    path = upload(client)
    photo = client.get(f"{path}/annotated.jpg?download=1")
    assert photo.headers["Content-Disposition"] == "attachment; filename=emotions.jpg"
    assert "Content-Disposition" not in client.get(f"{path}/annotated.jpg").headers
    results = client.get(f"{path}/emotions.json")
    assert results.headers["Content-Disposition"] == "attachment; filename=emotions.json"
    answered = client.post("/api/v1/recognize", data=photo_form())
    assert json.loads(results.data) == answered.json


@pytest.mark.parametrize("suffix", ["", "/annotated.jpg", "/view.jpg", "/emotions.json"])
def test_results_are_kept_by_no_cache_and_no_search_engine(client, suffix):
    reply = client.get(upload(client) + suffix)
    assert reply.headers["Cache-Control"] == "private, no-store"
    assert "noindex" in reply.headers["X-Robots-Tag"]
    assert reply.headers["Referrer-Policy"] == "same-origin"


def test_delete_now(client, tmp_path):
    path, other = upload(client), upload(client)
    reply = client.post(f"{path}/delete")
    assert reply.status_code == 303
    assert "are deleted" in client.get(reply.headers["Location"]).text
    assert client.get(path).status_code == 404
    assert client.post(f"{path}/delete").status_code == 404
    assert client.get(other).status_code == 200
    assert len(list((tmp_path / "uploads").iterdir())) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/results/",
        "/results/x",
        f"/results/{'x' * 22}",
        f"/results/{'x' * 22}/annotated.jpg",
        "/results/..%2f..%2fapp.py",
        "/static/../app.py",
        "/static/nothing.css",
    ],
)
def test_unknown_addresses(client, path):
    reply = client.get(path)
    assert reply.status_code == 404
    assert "Status 404" in text_of(reply)
    assert "gone" in reply.text or "not found" in reply.text


@pytest.mark.parametrize("name", ["result.json", "face-0.jpg", "..%2fresult.json", "x.jpg"])
def test_only_the_pictures_of_a_result_are_sent(client, name):
    assert client.get(f"{upload(client)}/{name}").status_code == 404


def test_result_is_gone_when_its_time_is_up(tmp_path):
    now = [1_700_000_000.0]
    client = make_app(tmp_path, clock=lambda: now[0], KEEP_HOURS=1).test_client()
    path = upload(client)
    now[0] += 3599
    assert client.get(path).status_code == 200
    now[0] += 1
    reply = client.get(path)
    assert reply.status_code == 404


def test_requests_sweep(tmp_path):
    now = [1_700_000_000.0]
    client = make_app(tmp_path, clock=lambda: now[0], KEEP_HOURS=1).test_client()
    upload(client)
    now[0] += 3600
    client.get("/")
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_new_app_sweeps(tmp_path):
    client = make_app(tmp_path, clock=lambda: 0.0).test_client()
    upload(client)
    make_app(tmp_path)
    assert list((tmp_path / "uploads").iterdir()) == []


def photo_with_metadata():
    """Return a JPEG with a place, a camera, a comment and a profile."""
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    exif.get_ifd(0x8825)[29] = "SecretPlace"
    return encoded(exif=exif, comment=b"SecretComment", icc_profile=b"SecretProfile" * 20)


def test_nothing_of_the_photos_metadata_or_name_is_kept(client, tmp_path):
    content = photo_with_metadata()
    assert content.count(b"Secret") >= 4
    data = photo_form(content, name="SecretName.jpg")
    path = client.post("/", data=data).headers["Location"]
    files = [file for file in (tmp_path / "uploads").rglob("*") if file.is_file()]
    assert len(files) == 8  # results, photo, view, thumb, and two pictures of each face
    for file in files:
        assert b"Secret" not in file.read_bytes()
        assert "Secret" not in file.name
        assert content[100:200] not in file.read_bytes()
        if file.suffix != ".json":
            with Image.open(file) as image:
                assert not image.getexif()
                assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert "Secret" not in client.get(path).text


def test_a_photo_on_its_side_is_shown_upright(client):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = upload(client, encoded(width=160, height=120, exif=exif))
    assert client.get(f"{path}/emotions.json").json["image"] == {"width": 120, "height": 160}
    image = Image.open(io.BytesIO(client.get(f"{path}/annotated.jpg").data))
    assert image.size == (120, 160)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"])
def test_types_of_photos(client, kind):
    if kind == "AVIF" and "AVIF" not in readable_types():
        pytest.skip("this Pillow reads no AVIF")
    upload(client, encoded(kind))


def test_names_of_classes_are_escaped(tmp_path):
    names = ("<script>alert(1)</script>", '"><b>', "c", "d", "e", "f", "g")
    model = stand_in_model(HAPPY, names=names, notes=("<i>note</i>",))
    client = make_app(tmp_path, model).test_client()
    page = client.get(upload(client)).text
    assert "<script>alert" not in page
    assert '"><b>' not in page
    assert "<i>" not in page


def test_other_class_names(tmp_path):
    model = stand_in_model((0.2, 0.8), names=("contempt", "happy"))
    client = make_app(tmp_path, model).test_client()
    text = text_of(client.get(upload(client)))
    assert "contempt 20%" in text


def test_notes_of_the_model_are_shown_without_folders(tmp_path):
    note = f"no fast form; not made anew ([Errno 13] denied: '{tmp_path}/deep/tiny.onnx')"
    client = make_app(tmp_path, stand_in_model(notes=(note,))).test_client()
    text = text_of(client.get(upload(client)))
    assert "tiny.onnx" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("in /srv/app/models; x.json is missing", "in models; x.json is missing"),
        ("cannot read '/home/me/x.h5'", "cannot read 'x.h5'"),
        ("16/9 and and/or (N, 48, 48, 1)", "16/9 and and/or (N, 48, 48, 1)"),
    ],
)
def test_without_folders(tmp_path, text, shown):
    folder = tmp_path.joinpath("/srv/app/models")
    assert without_folders(text, folder) == shown


def test_without_a_model_the_pages_say_so_kindly(tmp_path):
    reason = f"expected a model in {tmp_path}; it is missing"
    client = make_app_without_model(tmp_path, reason).test_client()
    for reply in (client.get("/"), client.post("/", data=photo_form())):
        assert reply.status_code == 503
        assert str(tmp_path) not in reply.text
        assert 'type="file"' not in reply.text


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((50, 50, 40, 40), (60, 60)),
        ((0, 0, 40, 40), (60, 60)),
        ((120, 80, 40, 40), (60, 60)),
        ((0, 0, 160, 120), (160, 120)),
        ((0, 0, 1, 1), (2, 2)),
    ],
)
def test_face_picture_is_square_and_inside_where_it_can_be(box, size):
    face = Face(box, 1.0, dict(zip(EMOTIONS, CLOSE, strict=True)))
    image = np.asarray(picture())
    height, width = face_picture(image, face).shape[:2]
    assert (width, height) == size


def test_a_real_photo_with_the_real_detector(tmp_path):
    client = make_app(tmp_path, detector=FaceDetector()).test_client()
    path = upload(client, encode_jpeg(skimage.data.astronaut()))
    box = client.get(f"{path}/emotions.json").json["faces"][0]["box"]
    assert 150 < box["x"] + box["width"] / 2 < 290
    assert "1 face found" in client.get(path).text
