"""The web app's front door: `python app.py`, or `flask --app app run`.

`python app.py monitoring [--json]` shows how the app was used; the flags are the same.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import waitress.server
from flask import Flask

from emotion.files import stdout_was_closed
from emotion.web import (
    SWEEPER,
    VIDEO_PATHS,
    build_app,
    load_services,
    most_form_bytes,
    most_video_form_bytes,
)
from emotion.web.analysis import Services
from emotion.web.database import DatabaseError
from emotion.web.logs import show_log
from emotion.web.server import PacedChannel, PatientDispatcher, return_memory_early
from emotion.web.settings import (
    Settings,
    SettingsError,
    read_arguments,
    read_settings,
    setting_names,
)
from emotion.web.sweeping import Sweeper
from emotion.web.usage.views import monitoring_facts, report_lines

SPARE_THREADS = 4
"""How many threads there are at least that photos do not keep busy."""


def create_app(config: Mapping | None = None) -> Flask:
    """Return the app.

    Args:
        config: settings by name, such as KEEP_HOURS, which go before the environment's; and any
            of Flask's own, such as TESTING.

    Raises:
        SettingsError: a setting is not of its kind, or there is none of such a name.
    """
    config = dict(config or {})
    flask_config = {name: config.pop(name) for name in set(config) - set(setting_names())}
    unknown = sorted(set(flask_config) - set(Flask.default_config))
    if unknown:
        known = ", ".join(setting_names())
        raise SettingsError(f"expected settings named {known}; received {', '.join(unknown)}")
    services = load_services(settings_of(config))
    if services.model_problem:
        print(f"No model: {services.model_problem}", file=sys.stderr)
    return build_app(services, flask_config)


def settings_of(given: Mapping) -> Settings:
    """Return the settings of the environment, with those that are given on top."""
    # some shells and conda export HOST, and mean the machine's own name or kind by it
    environment = {name: value for name, value in os.environ.items() if name != "HOST"}
    return read_settings(environment, given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if list(arguments[:1]) == ["monitoring"]:
            return show_monitoring(arguments[1:])
        return run_server(arguments)
    except SettingsError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError as error:
        if not stdout_was_closed():
            print(f"app.py: {error}", file=sys.stderr)
        return 1


def show_monitoring(arguments: Sequence[str]) -> int:
    """Print how the app was used; return the exit status."""
    as_json = "--json" in arguments
    given = read_arguments([word for word in arguments if word != "--json"], __doc__)
    services = load_services(settings_of(given))
    card = services.recognizer.model.card if services.recognizer else None
    feedback = services.settings.feedback
    try:
        if as_json:
            print(json.dumps(monitoring_facts(services.database, card, feedback), indent=1))
        else:
            print("\n".join(report_lines(services.database, card, feedback)))
        sys.stdout.flush()
    except DatabaseError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 1
    return 0


def run_server(arguments: Sequence[str]) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit status."""
    return_memory_early()
    app = create_app(read_arguments(arguments, __doc__))
    services = app.extensions["emotion"]
    try:
        server = open_server(app, services.settings)
    except (OSError, ValueError) as error:
        print(f"app.py: {_why_not_listening(services.settings, error)}", file=sys.stderr)
        return 1
    show_log(services.settings.log)
    print(_welcome(server, services), flush=True)
    serve(server, app)
    return 0


def open_server(app: Flask, settings: Settings):
    """Return a waitress server that listens but does not answer yet.

    Waitress takes a request in whole before a thread sees it, and whole requests wait for a thread
    in a queue without an end. So that it does not grow, threads must be left over when all places
    at the gate are taken: they answer further photos at once, by 503, and pages, too. What can
    wait is bounded by the number of connections, each of which has one request in hand at most.
    """
    threads = max(settings.threads, settings.max_in_hand + SPARE_THREADS)
    channel_class = channel_of(app, settings)
    server = waitress.server.create_server(
        app,
        _dispatcher=PatientDispatcher(threads),
        host=settings.host,
        port=settings.port,
        max_request_body_size=max(channel_class.most_bytes_of.values()),
        # a slow or silent client must not keep others out
        connection_limit=500,
        channel_timeout=10,
        cleanup_interval=5,
        # they say who sent a request; where a proxy is trusted they are for the app to read
        clear_untrusted_proxy_headers=settings.trusted_proxies == 0,
    )
    # a name may stand for several addresses, each with a server of its own
    for each in getattr(server, "map", {0: server}).values():
        if hasattr(each, "channel_class"):
            each.channel_class = channel_class
    return server


def channel_of(app: Flask, settings: Settings) -> type[PacedChannel]:
    """Return what takes in requests: videos may bring more than anything else does.

    A browser shows our page about a file that is too large only if its body is read to the end; so
    a few times what is allowed is read, of videos a quarter more; beyond that the line is cut.
    """
    spare = 4 * app.config["MAX_CONTENT_LENGTH"]
    videos, others = most_video_form_bytes(settings), most_form_bytes(settings)
    limits = dict.fromkeys(VIDEO_PATHS, videos + max(spare, videos // 4)) | {"": others + spare}
    return type("Channel", (PacedChannel,), {"most_bytes_of": MappingProxyType(limits)})


def serve(server, app: Flask) -> None:
    """Answer requests until the process is told to end; those in hand are finished."""
    # raised in the main thread, where waitress takes it as Ctrl-C: it finishes and returns
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    stop = threading.Event()
    sweeper = app.extensions[SWEEPER]
    threading.Thread(target=_keep_sweeping, args=(sweeper, stop), daemon=True).start()
    videos = app.extensions["emotion"].videos
    if not videos.refusal():
        # what waited or was in work when the app ended goes on
        videos.workers.start()
    try:
        server.run()
    finally:
        stop.set()
        videos.workers.stop()
        server.close()


def _keep_sweeping(sweeper: Sweeper, stop: threading.Event) -> None:
    """Remove what is due also while nobody visits, as the form promises."""
    while not stop.wait(sweeper.interval_s):
        sweeper.sweep()


def _welcome(server, services: Services) -> str:
    """Return the lines that say where the app is and which model it reads with."""
    # a name such as localhost may stand for several addresses: the first is as good as any
    several = getattr(server, "effective_listen", None)
    host, port = several[0] if several else (server.effective_host, server.effective_port)
    shown = f"[{host}]" if ":" in host else host
    lines = [f"Serving on http://{shown}:{port} (Ctrl-C stops)"]
    if services.recognizer:
        model = services.recognizer.model
        lines.append(f"Model: {model.name} ({model.runtime}, SHA-256 {model.sha256[:12]}...)")
        lines += [f"Note: {note}" for note in model.notes]
    return "\n".join(lines)


def _why_not_listening(settings: Settings, error: Exception) -> str:
    """Return one line that says why the address cannot be used and what to do."""
    place = f"{settings.host}, port {settings.port}"
    reason = getattr(error, "strerror", None) or error
    return f"cannot listen on {place} ({reason}); choose others with --host and --port"


if __name__ == "__main__":
    sys.exit(main())
