"""The process that decodes a stranger's video knows nothing of the app."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APP = {"flask", "werkzeug", "sqlalchemy", "flask_limiter", "flask_wtf", "prometheus_client"}


def test_it_imports_no_flask_and_no_database():
    code = (
        "import sys, emotion.web.videos.job; print(*{name.split('.')[0] for name in sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    names = set(result.stdout.split())
    assert "emotion" in names
    assert not names & APP
