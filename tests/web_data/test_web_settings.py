import dataclasses
from pathlib import Path

import pytest
from model_folder import write_pair
from yunet_network import write_yunet_stand_in

from app import create_app
from emotion.web.services import load_services
from emotion.web.settings import (
    PROJECT_FOLDER,
    Settings,
    SettingsError,
    read_arguments,
    read_settings,
)

VALUES = (
    *(("HOST", " 0.0.0.0 ", "0.0.0.0"), ("PORT", "0", 0), ("PORT", 8080, 8080)),
    *(("KEEP_HOURS", "0.5", 0.5), ("KEEP_HOURS", "", 24), ("KEEP_HOURS", None, 24)),
    *(("MAX_UPLOAD_MB", "1e1", 10), ("MONITORING", "ON", True), ("DETECTOR", " haar ", "haar")),
    *(("DETECTOR_MODEL", "", None), ("MODEL", "/models/other", Path("/models/other"))),
    ("UPLOADS", "kept", PROJECT_FOLDER / "kept"),
    ("UPLOADS", "~nobody-of-this-name/x", PROJECT_FOLDER / "~nobody-of-this-name/x"),
)
WRONG = (
    *({"KEEP_HOURS": text} for text in ("-1", "soon", "nan", "inf", "1e99", " ", "24h", "1,5")),
    *({"PORT": text} for text in ("65536", "-1", "80.5", "http", "1" * 5000)),
    *({"THREADS": "0"}, {"MAX_UPLOAD_MB": "0"}, {"MAX_MEGAPIXELS": "-3"}, {"HOST": " "}),
    *({"METRICS": "maybe"}, {"RATE_LIMIT": "often"}, {"LOG": "xml"}, {"UPLOADS": "a\0b"}),
    *({"MODEL": " "}, {"DETECTOR": "dlib"}, {"DETECTOR_MODEL": "a.onnx"}),
    {"DETECTOR_MODEL": " "},
)


def test_values_and_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_settings({}) == Settings()
    assert Settings().uploads == PROJECT_FOLDER / "uploads"
    for name, text, value in VALUES:
        assert getattr(read_settings({name: text, "PATH": "other"}), name.lower()) == value
    yunet = read_settings({"DETECTOR": "yunet", "DETECTOR_MODEL": "networks/yunet.onnx"})
    assert yunet.detector_model == PROJECT_FOLDER / "networks" / "yunet.onnx"
    # the last source counts
    assert read_settings({"PORT": "1"}, {"PORT": "2"}).port == 2
    assert read_settings({"PORT": "1"}, {"PORT": None}).port == 1


def test_wrong_values_say_what_was_expected_in_one_line():
    for given in WRONG:
        with pytest.raises(SettingsError, match=r"^expected [^\n]+$") as caught:
            read_settings(given)
        assert next(iter(given)) in str(caught.value)
    with pytest.raises(SettingsError, match="KEEPHOURS"):
        create_app({"KEEPHOURS": 1})


def test_the_app_takes_settings_and_tells_a_damaged_detector(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    file = write_yunet_stand_in(tmp_path / "yunet.onnx")
    model, yunet = {"MODEL": write_pair(tmp_path / "tiny").stem}, {"DETECTOR": "yunet"}
    yunet["DETECTOR_MODEL"] = file
    for chosen in (yunet, {}):
        services = load_services(read_settings(model | chosen))
        services.workers.wait_until_ready(60)
        services.workers.stop()
        assert services.model_problem == ""
    file.write_bytes(b"no network")
    monkeypatch.setenv("KEEP_HOURS", "3")
    monkeypatch.setenv("THREADS", "2")
    app = create_app(yunet | {"UPLOADS": tmp_path, "KEEP_HOURS": 5, "TESTING": True})
    settings = app.extensions["emotion"].settings
    assert (settings.keep_hours, settings.threads, app.testing) == (5, 2, True)
    reply = app.test_client().get("/healthz")
    assert reply.status_code == 503
    assert "yunet.onnx" in reply.text
    assert str(tmp_path) not in reply.text
    app.extensions["emotion"].workers.stop()


def test_every_setting_has_a_flag_and_a_line_of_help(capsys):
    with pytest.raises(SystemExit) as caught:
        read_arguments(["--help"], "about")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for row in dataclasses.fields(Settings):
        flag = f"--{row.name.replace('_', '-')}"
        assert read_arguments([flag, "7"], "about")[row.name.upper()] == "7"
        assert f"{flag} {row.name.upper()}" in text
        assert row.metadata["help"] in text
    for arguments in (["--colour", "red"], ["--port"], ["8080"], ["--keep"], ["--port", ""]):
        with pytest.raises(SettingsError):
            read_arguments(arguments, "about")
