"""The web app's front door: `python app.py`, or `flask --app app run`.

`python app.py monitoring [--json]` shows how the app was used. `python app.py feedback` shows which
given faces wait, and `feedback approve all|CLASS|NAME...` or `refuse` decides. Flags are the same.
"""

import itertools
import json
import os
import sys
from collections.abc import Mapping, Sequence

from flask import Flask

from emotion.errors import EmotionError
from emotion.files import return_memory_early, stdout_was_closed
from emotion.web.database import Database
from emotion.web.factory import build_app
from emotion.web.feedback.given import GivenFaces
from emotion.web.feedback.views import decide_in_shell
from emotion.web.logs import show_log
from emotion.web.server import open_server, serve
from emotion.web.services import load_services
from emotion.web.settings import SETTING_NAMES, SettingsError, read_arguments, read_settings


def create_app(config: Mapping | None = None) -> Flask:
    """Return the app.

    The config has settings by name, such as KEEP_HOURS, which override the environment's, and any
    of Flask's own, such as TESTING. Raises SettingsError where one is wrong or unknown.
    """
    given = config or {}
    flask_config = {name: value for name, value in given.items() if name not in SETTING_NAMES}
    if unknown := sorted(flask_config.keys() - Flask.default_config.keys()):
        expected, received = ", ".join(SETTING_NAMES), ", ".join(unknown)
        raise SettingsError(f"expected settings named {expected}; received {received}")
    services = load_services(settings_of(given))
    if services.model_problem:
        print(f"No model: {services.model_problem}", file=sys.stderr)
    return build_app(services, flask_config)


def settings_of(given: Mapping):
    """Return the settings of the environment, with those that are given on top."""
    # some shells and conda export HOST, and mean the machine's own name or kind by it
    environment = {name: value for name, value in os.environ.items() if name != "HOST"}
    return read_settings(environment, given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        commands = {"monitoring": show_monitoring, "feedback": decide_on_feedback}
        command = commands.get(arguments[0]) if arguments else None
        return command(arguments[1:]) if command else run_server(arguments)
    except (EmotionError, BrokenPipeError) as error:
        if not (isinstance(error, BrokenPipeError) and stdout_was_closed()):
            print(f"app.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1


def show_monitoring(arguments: Sequence[str]) -> int:
    """Print how the app was used; return the exit status."""
    from emotion.web.usage.figures import monitoring_facts
    from emotion.web.usage.views import report_lines

    given = read_arguments([word for word in arguments if word != "--json"], __doc__)
    services = load_services(settings_of(given))
    card = services.model.card if services.model else None
    facts = monitoring_facts(services.database, card, services.settings.feedback)
    as_json = "--json" in arguments
    print(json.dumps(facts, indent=1) if as_json else "\n".join(report_lines(facts)), flush=True)
    return 0


def decide_on_feedback(arguments: Sequence[str]) -> int:
    """Approve or refuse faces that visitors gave, and print what waits; return the exit status."""
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments))
    settings = settings_of(read_arguments(arguments[len(words) :], __doc__))
    given = GivenFaces(settings.feedback, Database(settings.database))
    print("\n".join(decide_in_shell(given, words)), flush=True)
    return 0


def run_server(arguments: Sequence[str]) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit status."""
    return_memory_early()
    app = create_app(read_arguments(arguments, __doc__))
    services = app.extensions["emotion"]
    settings = services.settings
    try:
        server = open_server(app, settings)
    except (OSError, ValueError) as error:
        where = f"{settings.host}, port {settings.port}"
        reason = (
            f"{getattr(error, 'strerror', None) or error}; choose others with --host and --port"
        )
        print(f"app.py: cannot listen on {where}: {reason}", file=sys.stderr)
        return 1
    show_log(settings.log)
    # a name such as localhost may stand for several addresses: the first is as good as any
    several = getattr(server, "effective_listen", None)
    host, port = several[0] if several else (server.effective_host, server.effective_port)
    lines = [f"Serving on http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C stops)"]
    if model := services.model:
        lines.append(f"Model: {model.name} ({model.runtime}, SHA-256 {model.sha256[:12]}...)")
        lines += [f"Note: {note}" for note in model.notes]
    if not settings.hosts and settings.host not in ("127.0.0.1", "::1", "localhost"):
        lines.append("Note: any name of this machine is answered to; TRUSTED_HOSTS limits them")
    print("\n".join(lines), flush=True)
    serve(server, app)
    return 0


if __name__ == "__main__":
    sys.exit(main())
