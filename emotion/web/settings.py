"""The one table of settings, read once at the door: the environment first, then flags on top."""

# ruff: noqa: RUF009  (the functions make fields)

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import click
import limits

from emotion.detection.yunet import EXPECTED_NETWORK
from emotion.errors import EmotionError
from emotion.files import user_path
from emotion.images.guards import ImageLimits

PROJECT_FOLDER = Path(__file__).resolve().parents[2]
SWITCH = {"on": True, "true": True, "1": True, "yes": True}
SWITCH |= {"off": False, "false": False, "0": False, "no": False}


class SettingsError(EmotionError, click.UsageError):
    """A setting is wrong; `flask run` prints it as one line because click knows the second base."""


def _setting(default: object, expected: str, parse: Callable[[str], object], about: str):
    """Return a setting whose parser raises ValueError or LookupError at anything unexpected."""
    return field(default=default, metadata={"expected": expected, "parse": parse, "help": about})


def _number(default: float, low: float, high: float, about: str):
    """Return a setting for a number, a whole one if `low` is one; both ends are included."""
    convert = type(low)

    def parse(value: str) -> float:
        number = convert(value)
        if not low <= number <= high:
            raise ValueError("outside the range")
        return number

    kind = "a whole number" if convert is int else "a number"
    return _setting(default, f"{kind} from {low:g} to {high}", parse, about)


def _parse_text(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError("no text")
    return value


def _text(default: str | None, about: str):
    return _setting(default, "a text", _parse_text, about)


def _path(default: str | None, about: str):
    """Return a setting for a path; a relative one starts at the project, wherever one is."""
    path = default and PROJECT_FOLDER / default
    return _setting(
        path, "a path", lambda text: PROJECT_FOLDER / user_path(_parse_text(text)), about
    )


def _choice(words: Sequence[str], about: str):
    """Return a setting that is one of these words, the first by default."""
    return _setting(words[0], " or ".join(words), lambda word: words[words.index(word)], about)


def _switch(about: str):
    return _setting(False, "on or off", lambda value: SWITCH[value.lower()], about)


def _rate(default: str, about: str):
    def parse(value: str) -> str:
        limits.parse_many(value)
        return value

    return _setting(default, "a rate such as '60 per minute'", parse, about)


@dataclass(frozen=True)
class Settings:
    """How the app runs: `KEEP_HOURS` in the environment or `--keep-hours` sets `keep_hours`.

    A megabyte is 1,048,576 bytes.
    """

    host: str = _text("127.0.0.1", "address to listen on; 0.0.0.0 is every network")
    port: int = _number(5000, 0, 65535, "port to listen on; 0 takes a free one")
    threads: int = _number(16, 1, 256, "requests answered at the same time")
    max_in_hand: int = _number(8, 1, 256, "photos read or waiting for it; others must try again")

    model: Path = _path("models/detection_model", "the model: folder and file name without suffix")
    detector: str = _choice(("haar", "yunet"), "what finds faces: OpenCV's cascades, or YuNet")
    detector_model: Path | None = _path(None, f"the file that yunet needs: {EXPECTED_NETWORK}")

    uploads: Path = _path("uploads", "folder of the results, kept for a time")
    keep_hours: float = _number(24, 0.0, 8784, "hours until results are removed; 0 keeps nothing")
    max_photos: int = _number(50, 1, 1000, "photos in one form, and in one set")
    max_upload_mb: float = _number(20, 0.001, 1024, "largest photo file in megabytes")
    max_megapixels: float = _number(50, 0.001, 1000, "largest photo in millions of pixels")

    video_workers: int = _number(1, 0, 64, "videos analysed at the same time; 0 takes no videos")
    max_videos_waiting: int = _number(10, 1, 1000, "videos in the queue; others are refused")
    max_video_mb: float = _number(500, 0.001, 65536, "largest video file in megabytes")
    max_video_minutes: float = _number(10, 0.001, 1440, "longest video in minutes")
    video_memory_mb: int = _number(4096, 512, 1048576, "megabytes of memory to analyse a video")

    instance: Path = _path("instance", "folder of the secret key and of the SQLite database")
    database_url: str | None = _text(None, "database, as SQLAlchemy names it; else in INSTANCE")
    feedback: Path = _path("dataset/feedback", "folder of faces that visitors give")

    rate_limit: str = _rate("300 per minute", "photos that one address may send")
    live_rate_limit: str = _rate("2400 per minute", "live frames that one address may send")
    video_rate_limit: str = _rate("20 per hour", "videos that one address may send")
    feedback_rate_limit: str = _rate("50 per day", "faces that one address may give for training")
    work_rate_limit: str = _rate(
        "120 per minute", "pictures, zips, explanations and opinions that one address may ask for"
    )
    rate_limit_storage: str = _text(
        "memory://", "where rates are counted, such as redis://host:6379"
    )
    trusted_proxies: int = _number(0, 0, 10, "proxies in front whose X-Forwarded is believed")

    monitoring: bool = _switch("show everybody how the app is used: a page and the API")
    metrics: bool = _switch("answer /metrics for Prometheus")
    log: str = _choice(("auto", "text", "json"), "form of the log; auto is text in a terminal")

    def __post_init__(self) -> None:
        if (self.detector == "yunet") != (self.detector_model is not None):
            received = self.detector_model or "no file"
            raise SettingsError(
                f"expected DETECTOR yunet together with DETECTOR_MODEL, {EXPECTED_NETWORK}; "
                f"received DETECTOR {self.detector} and {received}"
            )

    @property
    def keep_s(self) -> float:
        return self.keep_hours * 3600

    @property
    def keeps_nothing(self) -> bool:
        return self.keep_hours == 0

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.instance / 'emotion.sqlite'}"

    @property
    def image_limits(self) -> ImageLimits:
        return ImageLimits(
            max_bytes=int(self.max_upload_mb * 2**20), max_pixels=int(self.max_megapixels * 1e6)
        )

    @property
    def most_video_bytes(self) -> int:
        return int(self.max_video_mb * 2**20)

    @property
    def longest_video_s(self) -> float:
        return self.max_video_minutes * 60


def setting_names() -> tuple[str, ...]:
    """Return the names of all settings as they are written in the environment."""
    return tuple(row.name.upper() for row in fields(Settings))


def read_settings(*sources: Mapping[str, object]) -> Settings:
    """Return the settings; if several sources give a value, the last one counts.

    Names that are no settings are ignored; an empty value or None is not given. Raises
    SettingsError if a value is wrong or two do not fit together.
    """
    values = {}
    for row in fields(Settings):
        name = row.name.upper()
        given = [str(source[name]) for source in sources if source.get(name) not in (None, "")]
        if not given:
            continue
        try:
            values[row.name] = row.metadata["parse"](given[-1].strip())
        except (ValueError, LookupError, OverflowError) as error:
            expected = row.metadata["expected"]
            raise SettingsError(
                f"expected {name} to be {expected}; received {given[-1]!r}"
            ) from error
    return Settings(**values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise SettingsError(f"{message}; --help lists the flags")


def read_arguments(arguments: Sequence[str], about: str) -> dict[str, str]:
    """Return what the flags of a command line say, by the names of the settings.

    Raises SettingsError if a flag is unknown or lacks its value.
    """
    parser = _Parser(description=about, allow_abbrev=False)
    for row in fields(Settings):
        default = row.default
        if isinstance(default, bool):
            default = "on" if default else "off"
        elif isinstance(default, Path):
            default = default.relative_to(PROJECT_FOLDER)
        parser.add_argument(
            f"--{row.name.replace('_', '-')}",
            dest=row.name.upper(),
            metavar=row.name.upper(),
            help=f"{row.metadata['help']} (default: {'none' if default is None else default})",
        )
    given = vars(parser.parse_args(arguments))
    if empty := [name for name, value in given.items() if value == ""]:
        raise SettingsError(f"expected a value for {empty[0]}; received an empty one")
    return given
