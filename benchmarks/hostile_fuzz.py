"""Whether changed images, parameters and bodies ever make the web app fail: a seeded fuzz.

    python benchmarks/hostile_fuzz.py --seconds 600 --seed 1

Run by hand; it starts `python app.py` on a free port with folders of its own. It ends with 1 where
an answer was 500, a connection broke, or a process ended; the number that is printed then makes the
same request again with --only. Linux only.
"""

import argparse
import http.client
import io
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image, features
from web_load import FORM, Client, memory_mb, phone_photo, serving

SIGN_OF_A_DEAD_PROCESS = "process ended"  # in the log
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
PATHS = (
    *("/", "/mine", "/model", "/healthz", "/monitoring", "/metrics", "/api/v1/mine", "/live"),
    *("/api/v1/models/{}", "/model/{}", "/results/{}", "/results/{}/{}.jpg", "/sets/{}"),
    *("/results/{}/faces/{}", "/results/{}/emotions.{}", "/sets/{}/{}.zip", "/videos/{}/{}"),
    *("/api/v1/photos/{}/faces/{}/explanation", "/api/v1/sets/{}", "/static/{}", "/{}"),
)
WORDS = (
    *("", "0", "-1", "1", "9" * 30, "1e9", "NaN", "None", "..", "../../etc/passwd", "%00", "\0"),
    *(
        "a" * 5000,
        "é",
        "\u202e",
        "😀",
        "<script>",
        "'; --",
        "{{7*7}}",
        "annotated",
        "csv",
        "face-1",
    ),
)
VALUES = (None, True, 0, -1, 10**400, 1e308, "", "happy", "x" * 10_000, "\ud800", [], [[]], {})


def images() -> dict[str, bytes]:
    """Return a small image of every type that this environment writes."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    picture, grey = Image.fromarray(noise), Image.fromarray(noise).convert("L")
    forms = {
        "jpeg": (picture, "JPEG", {}),
        "jpeg progressive": (picture, "JPEG", {"progressive": True, "comment": b"a" * 50}),
        "jpeg cmyk": (picture.convert("CMYK"), "JPEG", {}),
        "png": (picture, "PNG", {}),
        "png palette": (picture.convert("P"), "PNG", {"transparency": 1}),
        "png animated": (picture, "PNG", {"save_all": True, "append_images": [picture] * 2}),
        "webp": (picture, "WEBP", {}),
        "webp lossless": (picture, "WEBP", {"lossless": True}),
        "webp animated": (picture, "WEBP", {"save_all": True, "append_images": [grey] * 2}),
        "bmp": (picture, "BMP", {}),
        "gif": (picture, "GIF", {"save_all": True, "append_images": [grey] * 2}),
        "tiff": (picture, "TIFF", {}),
        "tiff lzw": (picture, "TIFF", {"compression": "tiff_lzw"}),
        "tiff deflate": (picture, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "tiff fax": (grey.convert("1"), "TIFF", {"compression": "group4"}),
        "tiff jpeg": (picture, "TIFF", {"compression": "jpeg"}),
    }
    if features.check("avif"):
        forms["avif"] = (picture, "AVIF", {})
        forms["avif film"] = (picture, "AVIF", {"save_all": True, "append_images": [picture]})
    made = {}
    for name, (image, kind, options) in forms.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        made[name] = buffer.getvalue()
    try:
        import pillow_heif

        buffer = io.BytesIO()
        pillow_heif.from_pillow(picture).save(buffer)
        made["heic"] = buffer.getvalue()
    except (ImportError, OSError, RuntimeError) as error:
        print(f"without HEIC: {error}")
    return made


def changed(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Return content with some bytes changed, moved, doubled, removed or from another file."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        # heads are where the interesting numbers are
        at = chance.randrange(min(chance.choice((64, 512, len(data))), len(data)) + 1)
        size = chance.choice((1, 2, 4, 8, 64, 512))
        piece = data[at : at + size]
        match chance.randrange(8):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                order, width = chance.choice(("big", "little")), chance.choice((1, 2, 4))
                number = chance.choice(NUMBERS) & (256**width - 1)
                data[at : at + width] = number.to_bytes(width, order)
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = piece * chance.choice((1, 2, 100))
            case 4:
                data[at : at + size] = chance.randbytes(size)
            case 5:
                other = chance.choice(others)
                start = chance.randrange(len(other))
                data[at : at + size] = other[start : start + size]
            case 6:
                data[at : at + size] = bytes(size)
            case 7 if chance.random() < 0.3:
                del data[max(16, at) :]
    return bytes(data)


def some_json(chance: random.Random, depth: int = 0) -> object:
    """Return a value that JSON may hold, nested by chance."""
    if depth == 0 and chance.random() < 0.3:
        return {"emotion": chance.choice(("sad", *VALUES)), "keep": chance.choice((True, *VALUES))}
    if depth > 4 or chance.random() < 0.4:
        return chance.choice(VALUES)
    keys = ("emotion", "keep", "faces", chance.choice(WORDS))
    several = [some_json(chance, depth + 1) for _ in range(chance.randrange(4))]
    return several if chance.random() < 0.3 else dict(zip(keys, several, strict=False))


def request_of(chance: random.Random, client: Client, pictures: dict, photo_id: str) -> tuple:
    """Return the kind of a request made by chance, and what `Client.ask` takes."""
    kind = chance.choice((*["image"] * 6, "form", "frame", "path", "json", "multipart"))
    name, others = chance.choice(list(pictures)), list(pictures.values())
    content = changed(pictures[name], others, chance)
    post = {"Content-Type": FORM}
    form = partial(Client("", content, token=client.token).form)
    if kind == "image":
        return name, ("POST", "/api/v1/recognize", form(), post)
    if kind == "form":
        return kind, ("POST", "/", form(), post)
    if kind == "frame":
        return kind, (
            "POST",
            "/live/frame",
            content,
            {"X-CSRFToken": client.token}
            | {"Content-Type": chance.choice(("image/jpeg", "image/png", ""))},
        )
    if kind == "multipart":
        door = chance.choice(("/", "/api/v1/recognize", "/api/v1/photos", "/mine/delete"))
        return kind, ("POST", door, changed(form(), others, chance), post)
    if kind == "json":
        body = json.dumps(some_json(chance)).encode()
        body = changed(body, others, chance) if body and chance.random() < 0.3 else body
        door = f"/api/v1/photos/{photo_id}/faces/{chance.choice((1, 1, 2, 0))}/feedback"
        return kind, ("PUT", door, body, {"Content-Type": "application/json"})
    path = chance.choice(PATHS)
    words = [chance.choice((photo_id, *WORDS)) for _ in range(path.count("{}"))]
    query = "&".join(quote(chance.choice(WORDS)) + "=" + quote(chance.choice(WORDS)) for _ in "ab")
    address = path.format(*(quote(word, safe="/%") for word in words)) + "?" + query
    return kind, (chance.choice(("GET", "GET", "HEAD", "POST", "DELETE", "PUT")), address)


def main() -> int:
    """Fuzz, print, and return 0 where nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="make the request of this number alone")
    options = parser.parse_args()
    pictures, statuses, failures = images(), {}, []
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), "", {"VIDEO_WORKERS": "0"}) as (process, port),
    ):
        client = Client(port, phone_photo(0.1))
        client.open_form()
        post = ("POST", "/api/v1/photos", client.form(), {"Content-Type": FORM})
        _, headers, reply = client.ask(*post)
        client.cookie = headers.get("Set-Cookie", client.cookie).partition(";")[0]
        photo_id = json.loads(reply)["id"]
        started_s, number = time.monotonic(), options.only or 0
        while time.monotonic() - started_s < options.seconds:
            chance = random.Random(f"{options.seed} {number}")
            kind, request = request_of(chance, client, pictures, photo_id)
            try:
                status = client.ask(*request)[0]
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
            statuses.setdefault(kind, Counter())[status] += 1
            if status == 500 or isinstance(status, str) or process.poll() is not None:
                failures.append(f"--seed {options.seed} --only {number}: {kind}, {status}")
            if process.poll() is not None or options.only is not None:
                break
            number += 1
        last_mb = memory_mb(process)
        log = (Path(folder) / "log").read_text()
    print("| request | times | statuses |\n| --- | --- | --- |")
    for kind, found in sorted(statuses.items()):
        told = ", ".join(f"{status}: {times}" for status, times in sorted(found.items(), key=str))
        print(f"| {kind} | {found.total()} | {told} |")
    failures += re.findall(f".*{SIGN_OF_A_DEAD_PROCESS}.*", log)
    if options.only is not None:
        print(log)
    print(f"\n{number} requests, memory of all processes at the end {last_mb:.0f} MB")
    print(*failures[:20], f"{len(failures)} failures", sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
