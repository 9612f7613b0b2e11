"""Say which pins of requirements.lock are behind the newest releases that the ranges allow.

It never fails, and says so where no package index can be reached.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP = "pip install --dry-run --ignore-installed --quiet --retries 0 --timeout 15 --report -".split()
LIMIT_S = 300


def main() -> None:
    whole = (ROOT / "requirements.txt").read_text()
    optional = re.findall(r"^(?:av|pillow-heif)[<>][^ #]*", whole, re.M)
    command = [sys.executable, "-m", *PIP, "-r", str(ROOT / "requirements-serve.txt"), *optional]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
        found = [entry["metadata"] for entry in json.loads(done.stdout)["install"]]
    except (subprocess.SubprocessError, ValueError):
        print("No package index answered: it is not known which pins are behind.")
        return
    newest = {re.sub("[-_.]+", "-", one["name"]).lower(): one["version"] for one in found}
    pins = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.M)
    for name, version in pins:
        if newest.get(name, version) != version:
            print(f"{name} {version} is behind {newest[name]}")
    print(f"{len(pins)} pins were looked at; .ci/lock renews them")


if __name__ == "__main__":
    main()
