"""What an honest visitor notices of a hostile one, under the default settings.

    python benchmarks/fairness.py --seconds 40

Run by hand; it starts `python app.py` on a free port with folders of its own. The hostile visitor
has one address, 127.0.0.2, and sends without a pause over eight connections: a JPEG of 98 scans
and a noisy PNG, of 49 megapixels each. The honest one, 127.0.0.1, sends a small photo every second.
Linux only.
"""

import argparse
import io
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from web_load import Client, percentile, phone_photo, serving

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))
CONNECTIONS = 8
DEFAULTS = {"RATE_LIMIT": "300 per minute"}  # which `serving` lifts for other measurements


def main() -> int:
    """Measure without and with the hostile visitor, and print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40)
    seconds = parser.parse_args().seconds
    from hostile.hostile_files import noisy_png

    photo, files = phone_photo(0.3), (slow_jpeg(), noisy_png(7_000, 7_000))
    for hostile in ((), files):
        with (
            tempfile.TemporaryDirectory() as folder,
            serving(Path(folder) / "app", "", DEFAULTS) as (_, port),
        ):
            measure(port, photo, hostile, seconds)
    return 0


def slow_jpeg() -> bytes:
    """Return a progressive JPEG of 49 megapixels whose last scan is repeated up to the bound."""
    from PIL import Image

    buffer = io.BytesIO()
    flat = Image.linear_gradient("L").resize((7000, 7000)).convert("RGB")
    flat.save(buffer, "JPEG", progressive=True, subsampling=0)
    content = buffer.getvalue()
    more = 98 - content.count(b"\xff\xda")
    return content[:-2] + content[content.rindex(b"\xff\xda") : -2] * more + content[-2:]


def measure(port: int, photo: bytes, files: tuple[bytes, ...], seconds: float) -> None:
    """Let an honest visitor send photos for some time, and print what it got, and the others."""
    until_s = time.monotonic() + seconds
    honest = Client(port, photo)
    attackers = [Client(port, b"", address="127.0.0.2") for _ in range(CONNECTIONS if files else 0)]

    def attack(client: Client) -> None:
        client.open_form()
        while time.monotonic() < until_s:
            client.photo = files[len(client.answers) % len(files)]
            client.upload()

    threads = [threading.Thread(target=attack, args=(each,)) for each in attackers]
    for thread in threads:
        thread.start()
    honest.open_form()
    while time.monotonic() < until_s:
        honest.upload()
        time.sleep(max(0.0, 1 - honest.answers[-1][1]))
    for thread in threads:
        thread.join()
    times = [each for _, each, _ in honest.answers]
    statuses = Counter(status for status, _, _ in honest.answers)
    others = Counter(status for each in attackers for status, _, _ in each.answers)
    print("with the hostile one" if files else "alone", f"{dict(statuses)}:", end=" ")
    print(f"median {percentile(times, 0.5):.2f} s, 95% {percentile(times, 0.95):.2f} s,", end=" ")
    print(f"longest {max(times):.2f} s; the hostile one got {dict(others)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
