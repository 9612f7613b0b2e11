"""How the web app bears many clients at once: answers, times, memory, and `kill -9` in between.

    python benchmarks/web_load.py --clients 32 --uploads 2000

Run by hand; it starts `python app.py` on a free port with folders of its own. See web_load.md.
"""

import argparse
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FORM = "multipart/form-data; boundary=x"
TIMEOUT_S = 600
RETRY_AFTER_S = 2
ID = re.compile(r"[A-Za-z0-9_-]{22}")


def main() -> int:
    """Measure, print, and return 0 where all is as promised."""
    options = parse()
    photo = phone_photo(options.megapixels)
    print(f"photo: {options.megapixels:g} megapixels, JPEG of {len(photo) / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as folder:
        ok = flood(Path(folder) / "flood", photo, options)
        ok = kill(Path(folder) / "kill", photo, options) and ok
    print("all as promised" if ok else "NOT as promised")
    return 0 if ok else 1


def parse() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=32, help="how many send at once")
    parser.add_argument("--uploads", type=int, default=2000, help="how many results in all")
    parser.add_argument("--kills", type=int, default=5, help="how often the server is killed")
    parser.add_argument("--megapixels", type=float, default=12, help="size of the photo")
    parser.add_argument("--model", default="", help="model to serve; the default's without it")
    return parser.parse_args()


def phone_photo(megapixels: float) -> bytes:
    """Return a portrait, enlarged to the size of a phone's photo, as JPEG."""
    from PIL import Image
    from skimage import data

    side = round((megapixels * 1e6) ** 0.5)
    buffer = io.BytesIO()
    Image.fromarray(data.astronaut()).resize((side, side)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


# the server


@contextmanager
def serving(folder: Path, model: str, more: dict | None = None):
    """Give (process, port) of a server with folders of its own, under more settings."""
    folder.mkdir(exist_ok=True)
    places = {name: str(folder / name.lower()) for name in ("UPLOADS", "INSTANCE", "FEEDBACK")}
    rates = ("RATE_LIMIT", "LIVE_RATE_LIMIT", "WORK_RATE_LIMIT", "FEEDBACK_RATE_LIMIT")
    settings = places | dict.fromkeys(rates, "1000000 per minute") | {"PORT": "0", "LOG": "json"}
    settings |= {"MODEL": model} if model else {}
    settings |= more or {}
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env=os.environ | settings,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield process, int(re.search(r":(\d+) ", process.stdout.readline())[1])
        finally:
            process.kill()
            process.wait()


def memory_mb(process: subprocess.Popen) -> float:
    """Return the resident memory of a process and of all that it started, in megabytes (Linux)."""
    parents, memory = {}, {}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            found = dict(line.split(":", 1) for line in path.read_text().splitlines())
        except OSError:  # it has ended meanwhile
            continue
        parents[int(path.parent.name)] = int(found["PPid"])
        memory[int(path.parent.name)] = int(found.get("VmRSS", "0 kB").split()[0]) / 1024
    tree = {process.pid}
    while more := {one for one, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sum(memory.get(one, 0) for one in tree)


@contextmanager
def memory_over_time(process: subprocess.Popen):
    """Give a list that grows by the memory of a server, four times a second."""
    samples, stop = [memory_mb(process)], threading.Event()

    def watch() -> None:
        while not stop.wait(0.25):
            samples.append(memory_mb(process))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


# the clients


@dataclass
class Client:
    """A browser without JavaScript: a cookie, a form's token, an address of its own (Linux)."""

    port: int
    photo: bytes
    cookie: str = ""
    token: str = ""
    address: str = "127.0.0.1"
    answers: list = field(default_factory=list)

    def open_form(self) -> None:
        """Fetch the form, as a visitor does first."""
        status, headers, body = self.ask("GET", "/")
        if status == 200:
            self.cookie = headers["Set-Cookie"].partition(";")[0]
            self.token = re.search(r'name="csrf_token" value="([^"]+)"', body.decode())[1]

    def upload(self) -> None:
        """Send the photo; note status, seconds and the address of the result."""
        started_s = time.perf_counter()
        try:
            status, headers, _ = self.ask("POST", "/", self.form(), {"Content-Type": FORM})
            place = headers.get("Location", "")
        except (OSError, http.client.HTTPException):
            status, place = 0, ""
        self.answers.append((status, time.perf_counter() - started_s, place))

    def form(self) -> bytes:
        """Return the body of the form."""
        head = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
        token = head % b"csrf_token" + self.token.encode() + b"\r\n"
        return token + head % b'photo"; filename="a.jpg' + self.photo + b"\r\n--x--\r\n"

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None):
        """Return status, headers and body of a reply."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=TIMEOUT_S, source_address=(self.address, 0)
        )
        try:
            cookie = {"Cookie": self.cookie} if self.cookie else {}
            connection.request(method, path, body, (headers or {}) | cookie)
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()
        finally:
            connection.close()


def results_of(clients: list[Client]) -> int:
    """Return how many photos were answered with a result so far."""
    return sum(status == 303 for each in clients for status, _, _ in each.answers)


def percentile(values: list[float], share: float) -> float:
    """Return the value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


# the two measurements


def flood(folder: Path, photo: bytes, options: argparse.Namespace) -> bool:
    """Send many photos from many clients at once; tell statuses, times and memory."""
    with serving(folder, options.model) as (process, port):
        clients = [
            Client(port, photo, address=f"127.0.0.{number}")
            for number in range(1, options.clients + 1)
        ]
        for client in clients:
            client.open_form()
        Client(port, photo, clients[0].cookie, clients[0].token).upload()

        def work(client: Client) -> None:
            while results_of(clients) < options.uploads:
                client.upload()
                if client.answers[-1][0] == 503:
                    time.sleep(RETRY_AFTER_S)

        started_s = time.perf_counter()
        with memory_over_time(process) as memory, ThreadPoolExecutor(options.clients) as pool:
            list(pool.map(work, clients))
        elapsed_s = time.perf_counter() - started_s
    answers = [answer for client in clients for answer in client.answers]
    statuses = Counter(status for status, _, _ in answers)
    print(f"\n{len(answers)} requests by {options.clients} clients at once, {elapsed_s:.0f} s")
    print(f"statuses: {dict(sorted(statuses.items()))}")
    print(f"answered with a result: {statuses[303] / elapsed_s:.1f} a second")
    print("\n| status | median s | 95% | 99% | longest |\n| --- | --- | --- | --- | --- |")
    for status in sorted(statuses):
        seconds = [each for got, each, _ in answers if got == status]
        cells = [f"{percentile(seconds, share):.2f}" for share in (0.5, 0.95, 0.99, 1)]
        print(f"| {status} | {' | '.join(cells)} |")
    tenths = memory[:: max(1, len(memory) // 10)]
    print(f"\nmemory in MB, over time: {', '.join(f'{each:.0f}' for each in tenths)}")
    print(f"most at any time: {max(memory):.0f} MB")
    return set(statuses) <= {200, 303, 503} and statuses[303] > 0


def kill(folder: Path, photo: bytes, options: argparse.Namespace) -> bool:
    """Kill the server in the middle of uploads, start it again, and look at what it serves."""
    finished, ok = [], True
    for turn in range(options.kills):
        with serving(folder, options.model) as (process, port):
            clients = [Client(port, photo, address=f"127.0.0.{number}") for number in range(1, 5)]
            for client in clients:
                client.open_form()
            threads = [threading.Thread(target=until_it_breaks, args=[each]) for each in clients]
            for thread in threads:
                thread.start()
            # long enough for some photos to be answered, and never at the same step of one
            until_answered(clients, turn)
            time.sleep(0.37 * turn)
            process.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join()
        answered = [place for each in clients for status, _, place in each.answers if status == 303]
        finished += answered
        with serving(folder, options.model) as (process, port):
            whole, broken = look_at(Client(port, photo), folder / "uploads", finished)
        hidden = sum(name.startswith(".part-") for name in names_in(folder / "uploads"))
        print(
            f"kill {turn + 1}: {len(answered)} answered, {whole} served whole, {broken} broken, "
            f"{hidden} unfinished and hidden"
        )
        ok = ok and broken == 0
    return ok


def until_answered(clients: list[Client], count: int) -> None:
    """Wait for so many results, a minute at most."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        if results_of(clients) >= count:
            return
        time.sleep(0.01)


def until_it_breaks(client: Client) -> None:
    """Send photos until there is no server any more."""
    client.upload()
    while client.answers[-1][0] in (303, 503):
        client.upload()


def look_at(client: Client, uploads: Path, finished: list[str]) -> tuple[int, int]:
    """Return how many results are served whole, and how many are not; all answered ones count."""
    places = {f"/results/{name}" for name in names_in(uploads) if ID.fullmatch(name)}
    whole = sum(is_whole(client, place) for place in places | set(finished))
    return whole, len(places | set(finished)) - whole


def names_in(folder: Path) -> list[str]:
    """Return what is in a folder; nothing where there is none yet."""
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def is_whole(client: Client, place: str) -> bool:
    """Tell whether the page of a result and everything on it is there."""
    status, _, page = client.ask("GET", place)
    pictures = set(re.findall(r'(?:src|href)="(/results/[^"]+?)"', page.decode()))
    replies = [client.ask("GET", each.replace("&amp;", "&")) for each in pictures]
    results = client.ask("GET", f"{place}/emotions.json")
    fine = status == results[0] == 200 and pictures and all(reply[0] == 200 for reply in replies)
    return bool(fine and "faces" in json.loads(results[2]))


if __name__ == "__main__":
    sys.exit(main())
