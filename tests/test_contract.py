"""What users and programs rely on, held against `contract.json`: routes, the form of every reply,
flags, columns, files and exit codes.

After a change that is meant: `python tests/test_contract.py`, then read the difference.
"""

import contextlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import video_job_stand_in as video_job
from shell_stand_ins import portrait, tools, write_model
from video_files import write_pictures
from web_support import encoded, make_app, make_app_without_model, photo_form, wait_until

import app
import emotion_detector
import emotion_model_training
from emotion.images.encoding import write_image

RECORDED = Path(__file__).with_name("contract.json")
TRAINING = (
    "train inspect download predict explain evaluate compare cross-validate tune ensemble "
    "distill retrain convert export restore"
).split()


def form_of(value):
    """Return the structure of JSON: names, and the kinds of values; of a list its first item."""
    if isinstance(value, dict):
        kinds = {type(item).__name__ for item in value.values()}
        if len(value) > 5 and len(kinds) == 1 and kinds <= {"float", "str"}:
            return f"{' '.join(value)}: {kinds.pop()}"
        return {name: form_of(item) for name, item in value.items()}
    if isinstance(value, list):
        return [form_of(value[0])] if value else []
    return type(value).__name__


def routes(folder):
    return sorted(
        f"{re.sub('(?<=/static/)[0-9a-f]+', 'VERSION', rule.rule)} "
        f"{' '.join(sorted(rule.methods - {'HEAD', 'OPTIONS'}))} {rule.endpoint}"
        for rule in make_app(folder).url_map.iter_rules()
    )


def replies(folder):
    """Return the status and the form of the reply to each call of the API, in the order made."""
    made = make_app(folder, MONITORING=True)
    services = made.extensions["emotion"]
    services.videos.workers.command = (sys.executable, video_job.__file__)
    client, seen = made.test_client(), {}

    def call(method, path, name=None, **options):
        reply = client.open(path, method=method, **options)
        content = form_of(reply.json) if reply.is_json else reply.mimetype
        if path.endswith("openapi.json"):
            content = {
                address: {
                    method: " ".join(sorted(about["responses"]))
                    for method, about in methods.items()
                    if "responses" in about
                }
                for address, methods in reply.json["paths"].items()
            }
        if reply.mimetype == "text/csv":
            content = reply.text.splitlines()[0].split(",")
        seen[f"{method} {name or path}"] = [reply.status_code, content]
        document = reply.json if reply.is_json else None
        reply.close()
        return document

    call("POST", "/api/v1/recognize", data=photo_form())
    photo = call("POST", "/api/v1/photos", data=photo_form())
    links = photo["links"]
    for name, path in links.items():
        if isinstance(path, str):
            call("GET", path, f"photo: {name}")
    face = links["faces"][0]
    call("PUT", face["feedback"], "face: feedback", json={"emotion": "sad", "keep": True})
    call("GET", "/api/v1/mine/feedback")
    for name, path in face.items():
        call("GET", path, f"face: {name}")
    call("DELETE", face["feedback"], "face: feedback")
    for name in ("emotions.json", "emotions.csv"):
        call("GET", f"{links['page']}/{name}", f"page: {name}")
    photo_set = call("GET", f"/api/v1/sets/{photo['set']}", "set")
    for name, path in photo_set["links"].items():
        call("GET", path, f"set: {name}")
    call("GET", f"/sets/{photo['set']}/emotions.json", "set: emotions.json")
    video = call("POST", "/api/v1/videos", data={"video": (io.BytesIO(video_job.sent()), "v.mp4")})
    wait_until(lambda: client.get(video["links"]["self"]).json["state"] == "done")
    video = call("GET", video["links"]["self"], "video")
    for name, path in video["links"].items():
        if isinstance(path, str):
            call("GET", path, f"video: {name}")
    for path in ("mine", "models", "monitoring", "openapi.json"):
        call("GET", f"/api/v1/{path}")
    call("GET", "/healthz")
    call("DELETE", links["self"], "photo")
    call("DELETE", video["links"]["self"], "video")
    call("DELETE", "/api/v1/mine")
    services.videos.workers.stop()
    services.database.close()
    return seen


def statuses(folder):
    apps = (
        make_app(folder / "one"),
        make_app(folder / "two", KEEP_HOURS=0),
        make_app_without_model(folder / "three"),
    )
    client, nothing_kept, no_model = (one.test_client() for one in apps)
    unknown = "A" * 22
    bodies = {
        "no photo": None,
        "text": b"hello, this is no photo",
        "cut": encoded()[:-400],
        "tiny": encoded(width=8, height=8),
        "wide": encoded("PNG", width=17_000, height=16),
        "gif": encoded("GIF"),
    }
    found = {}
    for door in ("/", "/api/v1/recognize", "/api/v1/photos"):
        for name, body in bodies.items():
            data = photo_form(body) if body else {}
            found[f"POST {door} {name}"] = client.post(door, data=data).status_code
    for door in ("/api/v1/photos", "/api/v1/recognize", "/"):
        found[f"POST {door} nothing kept"] = nothing_kept.post(door, data=photo_form()).status_code
        found[f"POST {door} no model"] = no_model.post(door, data=photo_form()).status_code
    for path in ("/", "/healthz", "/api/v1/models"):
        found[f"GET {path} no model"] = no_model.get(path).status_code
    kinds = "/api/v1/photos /api/v1/sets /api/v1/videos /results /sets /videos".split()
    more = "/monitoring /operator/feedback /nothing /api/v1/monitoring /api/v1/models/none".split()
    for path in (*(f"{kind}/{unknown}" for kind in kinds), *more):
        found[f"GET {path}"] = client.get(path).status_code
    found["DELETE /api/v1/recognize"] = client.delete("/api/v1/recognize").status_code
    for one in apps:
        one.extensions["emotion"].database.close()
    return found


def flags(main, *arguments):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*arguments, "--help"])
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", printed.getvalue())))


def all_flags(folder):
    return {"app.py": flags(app.main), "emotion_detector.py": flags(emotion_detector.main)} | {
        f"train: {name}": flags(emotion_model_training.main, name) for name in TRAINING
    }


def columns_of(path):
    """Return what a table or a JSON file holds: columns with types, or the form of the JSON."""
    if path.suffix == ".csv":
        return path.read_text(encoding="utf-8").splitlines()[0].split(",")
    if path.suffix == ".parquet":
        schema = pyarrow.parquet.read_schema(path)
        return [f"{field.name}: {field.type}" for field in schema]
    if path.suffix == ".jsonl":
        return form_of(json.loads(path.read_text(encoding="utf-8").splitlines()[0]))
    return form_of(json.loads(path.read_text(encoding="utf-8"))) if path.suffix == ".json" else ""


def written(folder):
    """Return the exit code and the files of the script for a photo, photos and a video."""
    write_model(folder / "model")
    (folder / "photos").mkdir()
    write_image(folder / "photos" / "a.png", portrait())
    write_image(folder / "photos" / "b.png", np.full((200, 200, 3), 128, np.uint8))
    write_pictures(folder / "film.mp4", [portrait(8 * index) for index in range(5)])
    tables = [f"--table={{0}}/t.{kind}" for kind in ("csv", "jsonl", "parquet")]
    commands = {
        "photo": ["photos/a.png", "--output=photo/out.png", "--json=photo/out.json"],
        "photos": ["photos", "--output=photos/copies", "--json=photos/all.jsonl", *tables],
        "table": ["photos/a.png", "--workers=1", *tables],
        "video": [
            *("film.mp4", "--output=video/out.mp4", "--json=video/frames.jsonl", *tables),
            *("--summary=video/s.json", "--timeline=video/t.png"),
        ],
        "summary": ["film.mp4", "--summary=summary/s.csv", "--timeline=summary/t.svg"],
    }
    found = {}
    for name, words in commands.items():
        (folder / name).mkdir(exist_ok=True)
        arguments = [word.format(name) for word in words]
        code = emotion_detector.main(["--model", "model", "--source", *arguments], tools())
        paths = sorted(path for path in (folder / name).rglob("*") if path.is_file())
        found[name] = [code, {str(path.relative_to(folder)): columns_of(path) for path in paths}]
    return found


def exit_codes(folder):
    (folder / "text.jpg").write_text("no photo")
    (folder / "film.mp4").write_bytes(b"no video")
    (folder / "empty").mkdir()
    lines = {
        "emotion_detector.py": (
            emotion_detector.main,
            "--source absent.jpg|--source text.jpg|--source film.mp4|--source empty|--unknown|"
            "--source text.jpg --summary s.json|--source text.jpg --output x.txt|"
            "--source text.jpg --model absent|--detector yunet|--source text.jpg --workers 0|"
            "--show --headless|--source text.jpg --table none/t.csv",
        ),
        "emotion_model_training.py": (
            emotion_model_training.main,
            "--dataset absent|--epochs 0|--epochs many|fly|evaluate|evaluate absent --dataset x|"
            "convert absent|export absent --to x|restore absent|compare absent|ensemble absent|"
            "inspect --dataset absent|train --dataset empty|distill --dataset empty",
        ),
        "app.py": (app.main, "--port many|--keep-hours x|--unknown 1|monitoring --unknown 1"),
    }
    found = {}
    for script, (main, commands) in lines.items():
        for line in commands.split("|"):
            try:
                code = main(line.split())
            except SystemExit as end:
                code = end.code
            found[f"{script} {line}"] = code
    return found


def text_of(recorded):
    """Return JSON with a line for each fact, so that a difference can be read."""
    parts = []
    for name, content in recorded.items():
        is_list = isinstance(content, list)
        lines = (
            [json.dumps(fact) for fact in content]
            if is_list
            else [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
        )
        start, end = "[]" if is_list else "{}"
        parts.append(f'"{name}": {start}\n' + ",\n".join(lines) + f"\n{end}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


PARTS = (routes, replies, statuses, all_flags, written, exit_codes)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_contract(part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = json.loads(json.dumps(part(tmp_path)))
    assert made == json.loads(RECORDED.read_text(encoding="utf-8"))[part.__name__]


if __name__ == "__main__":
    contract = {}
    for part in PARTS:
        with tempfile.TemporaryDirectory() as name:
            os.chdir(name)
            contract[part.__name__] = part(Path(name))
    RECORDED.write_text(text_of(contract), encoding="utf-8")
