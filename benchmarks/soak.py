"""What the web app takes in the long run: 2,000 mixed requests, their answers, times and memory.

    python benchmarks/soak.py --requests 2000 --clients 4

Run by hand; it starts `python app.py` on a free port with folders of its own. Photos of two sizes,
sets, live frames, explanations, pictures, zips and deletions come by chance, always in the same
order with the same --seed. Linux only.
"""

import argparse
import http.client
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from web_load import FORM, Client, memory_mb, memory_over_time, percentile, phone_photo, serving

EXPECTED = {200, 201, 204, 303, 503}
SETTLE_S = 10
MOST_KEPT = 10  # photos of a client; then it deletes one
SHARES = {  # of the requests; those of a photo that is kept ask for one before
    "small photo": 25,
    "12-megapixel photo": 6,
    "set of three": 6,
    "recognize": 15,
    "live frame": 20,
    "page": 8,
    "picture": 6,
    "explanation": 6,
    "blurred picture": 3,
    "zip": 3,
    "my results": 2,
}


@dataclass
class Visitor(Client):
    """A client that remembers what is kept of it; `photo` is the large one."""

    small: bytes = b""
    chance: random.Random = field(default_factory=random.Random)
    places: list = field(default_factory=list)  # /results/ID and /sets/ID

    def act(self) -> tuple[str, int, float]:
        """Do one thing by chance; return what, its status (0: no answer) and seconds."""
        (kind,) = self.chance.choices(list(SHARES), SHARES.values())
        singles = [place for place in self.places if place.startswith("/results/")]
        sets = [place for place in self.places if place.startswith("/sets/")]
        if len(self.places) > MOST_KEPT:
            kind = "delete"
        elif kind in ("page", "picture", "explanation", "blurred picture") and not singles:
            kind = "small photo"
        elif kind == "zip" and not sets:
            kind = "set of three"
        started_s = time.perf_counter()
        try:
            status = self.ask_for(kind, singles, sets)
        except (OSError, http.client.HTTPException):
            status = 0
        return kind, status, time.perf_counter() - started_s

    def ask_for(self, kind: str, singles: list[str], sets: list[str]) -> int:
        """Return the status of one request."""
        match kind:
            case "small photo" | "12-megapixel photo" | "set of three":
                photos = {"12-megapixel photo": [self.photo], "small photo": [self.small]}
                body = self.form_of(photos.get(kind, [self.small] * 3))
                status, headers, _ = self.ask("POST", "/", body, {"Content-Type": FORM})
                if status == 303:
                    self.places.append(re.sub("^https?://[^/]+", "", headers["Location"]))
                return status
            case "recognize":
                body = self.form_of([self.small])
                return self.ask("POST", "/api/v1/recognize", body, {"Content-Type": FORM})[0]
            case "live frame":
                headers = {"Content-Type": "image/jpeg", "X-CSRFToken": self.token}
                return self.ask("POST", "/live/frame", self.small, headers)[0]
            case "delete":
                place = self.places.pop(0).replace("/results/", "/photos/")
                return self.ask("DELETE", f"/api/v1{place}")[0]
            case "explanation":
                place = self.chance.choice(singles).replace("/results/", "/photos/")
                return self.ask("GET", f"/api/v1{place}/faces/1/explanation")[0]
            case "zip":
                return self.ask("GET", f"{self.chance.choice(sets)}/annotated.zip")[0]
            case "my results":
                return self.ask("GET", "/mine")[0]
        ends = {"page": "", "picture": "/annotated.jpg", "blurred picture": "/blurred.jpg"}
        return self.ask("GET", self.chance.choice(singles) + ends[kind])[0]

    def ask(self, *request):
        """Return status, headers and body of a reply; take the cookie that it brings."""
        status, headers, body = super().ask(*request)
        self.cookie = headers.get("Set-Cookie", self.cookie).partition(";")[0]
        return status, headers, body

    def form_of(self, photos: list[bytes]) -> bytes:
        """Return a form with photos and its token."""
        head = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
        parts = [head % b"csrf_token" + self.token.encode()]
        parts += [head % b'photo"; filename="a.jpg' + photo for photo in photos]
        return b"\r\n".join((*parts, b"--x--\r\n"))


def main() -> int:
    """Measure, print, and return 0 where every answer is as expected."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=4, help="how many ask at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="", help="model to serve; the default's without it")
    options = parser.parse_args()
    large, small = phone_photo(12), phone_photo(0.25)
    answers, numbers, lock = defaultdict(list), count(), threading.Lock()

    def work(visitor: Visitor) -> None:
        while next(numbers) < options.requests:
            kind, status, seconds = visitor.act()
            with lock:
                answers[kind].append((status, seconds))

    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), options.model, {"VIDEO_WORKERS": "0"}) as (process, port),
    ):
        visitors = [
            Visitor(
                port,
                large,
                address=f"127.0.0.{number}",
                small=small,
                chance=random.Random(f"{options.seed} {number}"),
            )
            for number in range(1, options.clients + 1)
        ]
        for visitor in visitors:
            visitor.open_form()
        time.sleep(SETTLE_S)
        before_mb, started_s = memory_mb(process), time.perf_counter()
        with memory_over_time(process) as memory, ThreadPoolExecutor(options.clients) as pool:
            list(pool.map(work, visitors))
        elapsed_s = time.perf_counter() - started_s
        time.sleep(SETTLE_S)
        after_mb, is_alive = memory_mb(process), process.poll() is None
    print(f"{options.requests} requests, {options.clients} clients at once, {elapsed_s:.0f} s\n")
    print("| request | times | statuses | median s | 95% |\n| --- | --- | --- | --- | --- |")
    for kind, found in sorted(answers.items()):
        statuses = Counter(status for status, _ in found)
        told = ", ".join(f"{status}: {times}" for status, times in sorted(statuses.items()))
        seconds = [seconds for _, seconds in found]
        cells = [f"{percentile(seconds, share):.2f}" for share in (0.5, 0.95)]
        print(f"| {kind} | {len(found)} | {told} | {' | '.join(cells)} |")
    print(f"\nmemory of all processes in MB: {before_mb:.0f} at rest, {after_mb:.0f} afterwards,")
    print(f"{max(memory):.0f} at most; the server {'runs' if is_alive else 'has ended'}")
    found = {status for several in answers.values() for status, _ in several}
    ok = is_alive and found <= EXPECTED
    print("all as promised" if ok else "NOT as promised")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
