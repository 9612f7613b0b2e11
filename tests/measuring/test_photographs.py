import contextlib
import json
from pathlib import Path

import pytest
from PIL import Image

import emotion_model_training
from emotion.errors import DatasetError
from emotion.images.folders import PhotoFile
from emotion.labels import EMOTIONS
from emotion.recognizer import DEFAULT_MODEL
from emotion.training import commands
from emotion.training.measuring.photographs import (
    Photograph,
    measure_photographs,
    photograph_lines,
    read_photographs,
)


def face(emotion: str, *more: str) -> dict:
    chances = dict.fromkeys(EMOTIONS, 0.1) | {emotion: 0.4}
    return {"emotion": emotion, "candidates": [emotion, *more], "probabilities": chances}


def photograph(label, *faces, problem=None, **groups) -> Photograph:
    file = PhotoFile(Path("a.jpg"), "a.jpg")
    return Photograph(file, label, tuple(groups.items()), faces, problem)


def test_shares_by_class_and_by_group(stand_in_model):
    photographs = [
        photograph("happy", face("happy"), face("sad"), sex="f"),
        photograph("happy", face("neutral", "happy"), sex="m", subset="covered"),
        photograph("happy", face("neutral"), sex="m"),
        photograph("happy", sex="m"),
        photograph("neutral", face("neutral"), sex="f"),
        photograph(None, face("sad"), face("sad"), sex="f"),
        photograph(None, sex="f"),
        photograph("sad", problem="broken", sex="m"),
    ]
    figures = measure_photographs(photographs, stand_in_model)
    assert (figures["found"]["photos"], figures["found"]["share"]) == (5, 0.8)
    assert (figures["right"]["share"], figures["right_or_named"]["share"]) == (0.5, 0.75)
    assert figures["right"]["interval_95"] == pytest.approx([0.15, 0.85], abs=0.005)
    assert figures["false_neutral"] == figures["by_class"]["happy"]["false_neutral"]
    assert figures["false_neutral"]["share"] == pytest.approx(2 / 3)
    assert figures["mean_recall"] == pytest.approx((1 / 3 + 1) / 2)
    female, male, covered = figures["groups"]
    assert [sex["by_class"]["happy"]["right"]["share"] for sex in (female, male)] == [1, 0]
    assert (male["column"], male["value"], male["false_neutral"]["share"]) == ("sex", "m", 1)
    assert (covered["right"]["photos"], covered["right_or_named"]["share"]) == (1, 1)
    assert (figures["without_face"]["share"], figures["without_face"]["false_faces"]) == (0.5, 2)
    assert figures["unreadable"] == {"a.jpg": "broken"}
    assert figures["reading"]["accuracy"] == 0.5
    assert len(photograph_lines(figures)) > 10
    assert measure_photographs(photographs[3:4], stand_in_model)["right"]["share"] is None
    with pytest.raises(DatasetError):
        measure_photographs(photographs[-1:], stand_in_model)


def test_a_csv_gives_labels_and_groups(tmp_path):
    path = tmp_path / "labels.csv"
    rows = "".join(f"in/{n}.jpg,Happiness,{'mf'[n % 2]},{n}\n" for n in range(11))
    path.write_text(f"file,label,gender,person\n{rows}no.jpg,None,m,x\nx.jpg,bored,m,x\n")
    (tmp_path / "list.txt").write_text("3.jpg\n")
    photographs, (note,) = read_photographs(path, EMOTIONS, lists=[f"dark={tmp_path}/list.txt"])
    assert (photographs[0].photo.path, photographs[0].label) == (tmp_path / "in/0.jpg", "happy")
    assert photographs[3].groups == (("gender", "f"), ("subset", "dark"))
    assert (len(photographs), photographs[-1].label) == (12, None)
    assert "bored" in note
    asked, _ = read_photographs(path, EMOTIONS, ["person"])
    assert asked[3].groups == (("person", "3"),)
    for groups, content in ((["age"], None), (None, "photo,label\n"), (None, "file,label\nx,y\n")):
        path.write_text(content or path.read_text())
        with pytest.raises(DatasetError):
            read_photographs(path, EMOTIONS, groups)
    with pytest.raises(DatasetError, match="absent"):
        read_photographs(tmp_path / "absent", EMOTIONS)


def test_photographs_go_the_way_that_serves_them_and_on_after_ctrl_c(
    tmp_path, astronaut, hopper, capsys, monkeypatch
):
    photos = tmp_path / "photos"
    for name, pixels in (("happy/a", astronaut), ("neutral/h", hopper), ("none/n", hopper[:99])):
        (photos / name).parent.mkdir(parents=True)
        Image.fromarray(pixels).save(photos / f"{name}.png")
    (photos / "happy" / "broken.png").write_bytes(b"no photo")
    command = ["evaluate", str(DEFAULT_MODEL), f"--photos={photos}", f"--report={tmp_path}/report"]

    @contextlib.contextmanager
    def stopping(*arguments):
        def show(done: int) -> None:
            if done == 3:
                raise KeyboardInterrupt

        yield show

    with monkeypatch.context() as patch:
        patch.setattr(commands, "progress_bar", stopping)
        assert emotion_model_training.main(command) == 130
    assert "3 of 4" in capsys.readouterr().out
    assert emotion_model_training.main([*command, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["right"]["photos"], figures["right"]["share"]) == (2, 1)
    assert figures["without_face"]["photos"] == 1
    assert list(figures["unreadable"]) == ["happy/broken.png"]
    assert json.loads((tmp_path / "report" / "photographs.json").read_text()) == figures
    assert len((tmp_path / "report" / "photographs.csv").read_text().splitlines()) == 5
    assert emotion_model_training.main([*command, "--protocol", "ferplus"]) == 1
