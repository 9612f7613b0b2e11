"""The web app's front door: `python app.py`, or `flask --app app run`."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence

import waitress.server
from flask import Flask

from emotion.web import LOGGER, build_app, load_services, sweep
from emotion.web.analysis import Services
from emotion.web.settings import (
    Settings,
    SettingsError,
    read_arguments,
    read_settings,
    setting_names,
)


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
    # some shells and conda export HOST, and mean the machine's own name or kind by it
    environment = {name: value for name, value in os.environ.items() if name != "HOST"}
    services = load_services(read_settings(environment, config))
    if services.model_problem:
        print(f"No model: {services.model_problem}", file=sys.stderr)
    return build_app(services, flask_config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit status."""
    try:
        given = read_arguments(sys.argv[1:] if arguments is None else arguments, __doc__)
        app = create_app(given)
    except SettingsError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    services = app.extensions["emotion"]
    try:
        server = open_server(app, services.settings)
    except (OSError, ValueError) as error:
        print(f"app.py: {_why_not_listening(services.settings, error)}", file=sys.stderr)
        return 1
    _log_to_stderr()
    print(_welcome(server, services), flush=True)
    serve(server, services)
    return 0


def open_server(app: Flask, settings: Settings):
    """Return a waitress server that listens but does not answer yet."""
    return waitress.server.create_server(
        app,
        host=settings.host,
        port=settings.port,
        threads=settings.threads,
        # A browser shows our page about a file that is too large only if its body is read to the
        # end; so a few times what is allowed is read, and only beyond that is the line cut.
        max_request_body_size=5 * app.config["MAX_CONTENT_LENGTH"],
        # a slow or silent client must not keep others out
        connection_limit=500,
        channel_timeout=10,
        cleanup_interval=5,
    )


def serve(server, services: Services) -> None:
    """Answer requests until the process is told to end; those in hand are finished."""
    # raised in the main thread, where waitress takes it as Ctrl-C: it finishes and returns
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    stop = threading.Event()
    threading.Thread(target=_keep_sweeping, args=(services.storage, stop), daemon=True).start()
    try:
        server.run()
    finally:
        stop.set()
        server.close()


def _keep_sweeping(storage, stop: threading.Event) -> None:
    """Remove expired results also while nobody visits, as the form promises."""
    while not stop.wait(storage.sweep_interval_s):
        sweep(storage)


def _log_to_stderr() -> None:
    """Show one line a request, and of waitress only what matters."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    logging.getLogger(LOGGER).setLevel(logging.INFO)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


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
