"""`predict` and `explain` of the training script."""

import cv2
import numpy as np
import pytest
from PIL import Image
from shell_stand_ins import portrait
from training_data import encode, make_image, put

import emotion_model_training
from emotion.images.encoding import write_image
from emotion.labels import EMOTIONS
from emotion.model.runtime import load_model

run = emotion_model_training.main


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(1)
    files = {f"faces/{n}/1.png": encode(make_image(n, random)) for n in range(3)}
    return put(tmp_path, files | {"faces/broken.png": b"no photo"}) / "faces"


def test_predict_prints_a_row_a_face_and_draws_it(images, tiny_model, tmp_path, capsys):
    draw = ["--draw", f"{tmp_path}/drawn"]
    assert run(["predict", str(images), "--model", f"{tiny_model}.h5", *draw]) == 0
    shown = capsys.readouterr()
    assert "broken.png" in shown.err
    head, *lines = shown.out.splitlines()
    assert head.split() == ["photo", "face", "answer", *EMOTIONS]
    assert [line.split()[:2] for line in lines] == [[f"{n}/1.png", "1"] for n in range(3)]
    # what a dataset holds is answered as `evaluate` does: the whole image
    face = cv2.imread(str(images / "2" / "1.png"), cv2.IMREAD_GRAYSCALE)
    (expected,) = load_model(tiny_model).answer(face[None, ..., None].astype(np.float32) / 255)
    told = [int(word.strip("<>%")) for word in lines[2].split()[-len(EMOTIONS) :]]
    np.testing.assert_allclose(told, 100 * expected, atol=1)
    with Image.open(tmp_path / "drawn" / "2" / "1.png") as picture:
        assert picture.width > picture.height > 48


def test_photos_are_searched_for_faces(tiny_model, tmp_path, capsys):
    write_image(tmp_path / "a.png", portrait())
    write_image(tmp_path / "b.png", np.full((200, 200, 3), 128, np.uint8))
    photos = [f"{tmp_path}/a.png", f"{tmp_path}/b.png"]
    for more, faces in (([], 1), (["--whole"], 2)):
        assert run(["predict", *photos, "--model", str(tiny_model), *more]) == 0
        assert capsys.readouterr().out.count("%") == faces * len(EMOTIONS)


def test_explain_writes_a_picture_a_face(images, tiny_model, tmp_path, capsys):
    where = ["--model", str(tiny_model), "--draw", f"{tmp_path}/why", "--emotion", "sad"]
    assert run(["explain", str(images), *where]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [[f"{n}/1.png", "1", "sad"] for n in range(3)]
    Image.open(tmp_path / "why" / "0" / "1.png.1.png").verify()


def test_what_cannot_be_answered_is_one_line(images, tiny_model, tmp_path, capsys):
    for arguments, word in (
        (["predict", "absent.png"], "absent.png"),
        (["predict", f"{images}/broken.png"], "photo"),
        (["predict", str(images), "--classes", "sad,happy"], "sad,happy"),
        (["predict", str(images), "--draw", str(tmp_path)], "copies"),
        (["explain", str(images), "--emotion", "bored", "--draw", f"{tmp_path}/x"], "bored"),
    ):
        assert run([*arguments, "--model", str(tiny_model)]) == 1
        *_, line = capsys.readouterr().err.strip().splitlines()
        assert word in line
    classes = ["--classes", ",".join(EMOTIONS).replace("angry", "anger")]  # the same class
    assert run(["predict", str(images), "--model", str(tiny_model), *classes]) == 0
