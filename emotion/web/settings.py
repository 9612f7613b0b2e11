"""The one table of settings, read once at the door: the environment first, then flags on top."""

# ruff: noqa: RUF009  (`_row` makes a field)

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NewType

import click
import limits

from emotion.detection.settings import NETWORK_FILE, yunet_file
from emotion.errors import EmotionError
from emotion.files import user_path
from emotion.images.guards import ImageLimits

PROJECT_FOLDER = Path(__file__).resolve().parents[2]
ENVELOPE_BYTES = 64 * 1024  # what a form may add to the photos in it
MOST_FRAME_BYTES = 2 * 2**20  # of the live camera; more than its page ever sends
Rate = NewType("Rate", str)
Hosts = NewType("Hosts", str)
WORDS = {bool: "on or off", Rate: "a rate such as '60 per minute'", int: "a whole number"}
WORDS |= {Hosts: "any, or names such as 'faces.example,.faces.example'"}
WORDS |= {float: "a number", Path: "a path", Path | None: "a path"}


class SettingsError(EmotionError, click.UsageError):
    """A setting is wrong; `flask run` prints it as one line because click knows the second base."""


def _row(default: object, about: str, *expected: object):
    """Return a setting; `expected` are its words, or the ends of its range, both included."""
    return field(default=default, metadata={"help": about, "expected": expected})


def _parse(kind: object, expected: tuple, text: str) -> object:
    if kind is bool:
        return click.BOOL(text)
    if kind in (int, float):
        number, (low, high) = kind(text), expected
        if not low <= number <= high:
            raise ValueError("outside the range")
        return number
    if kind is Rate:
        limits.parse_many(text)
    if kind is Hosts and not re.fullmatch(r"[\w.-]+(,[\w.-]+)*", text):
        raise ValueError("no names")
    if not text or "\0" in text or (expected and text not in expected):
        raise ValueError("another text")
    # a relative path starts at the project folder, wherever one is
    return PROJECT_FOLDER / user_path(text) if kind in (Path, Path | None) else text


@dataclass(frozen=True)
class Settings:
    """How the app runs: `keep_hours` is KEEP_HOURS or --keep-hours; a megabyte is 2**20 bytes."""

    host: str = _row("127.0.0.1", "address to listen on; 0.0.0.0 is every network")
    port: int = _row(5000, "port to listen on; 0 takes a free one", 0, 65535)
    threads: int = _row(16, "requests answered at the same time", 1, 256)
    max_in_hand: int = _row(8, "photos read or waiting for it; others must try again", 1, 256)
    photo_workers: int = _row(0, "processes that read photos; 0 is one a processor", 0, 256)
    photo_seconds: float = _row(10, "seconds after which the work on a photo is ended", 1, 600)
    photo_memory_mb: int = _row(1536, "megabytes of memory to read a photo", 128, 1048576)

    model: Path = _row(PROJECT_FOLDER / "models/detection_model", "folder and name, no suffix")
    detector: str = _row("haar", "what finds faces: OpenCV's cascades, or YuNet", "haar", "yunet")
    detector_model: Path | None = _row(None, f"yunet's file; without it {NETWORK_FILE} in models/")

    uploads: Path = _row(PROJECT_FOLDER / "uploads", "folder of the results, kept for a time")
    keep_hours: float = _row(24, "hours until results are removed; 0 keeps nothing", 0.0, 8784)
    max_photos: int = _row(50, "photos in one form, and in one set", 1, 1000)
    max_upload_mb: float = _row(20, "largest photo file in megabytes", 0.001, 1024)
    max_megapixels: float = _row(50, "largest photo in millions of pixels", 0.001, 1000)

    video_workers: int = _row(1, "videos analysed at the same time; 0 takes no videos", 0, 64)
    max_videos_waiting: int = _row(10, "videos in the queue; others are refused", 1, 1000)
    max_videos_waiting_each: int = _row(2, "of these, of one visitor or address", 1, 1000)
    max_video_mb: float = _row(500, "largest video file in megabytes", 0.001, 65536)
    max_video_minutes: float = _row(10, "longest video in minutes", 0.001, 1440)
    video_memory_mb: int = _row(4096, "megabytes of memory to analyse a video", 512, 1048576)

    max_kept_mb: float = _row(
        4096, "megabytes kept of one address, and of one browser", 0.001, 2**30
    )
    min_free_mb: float = _row(500, "megabytes that stay free; with fewer nothing is kept", 0, 2**30)

    instance: Path = _row(PROJECT_FOLDER / "instance", "folder of the secret key and the database")
    database_url: str | None = _row(None, "address of the database; without it SQLite in INSTANCE")
    feedback: Path = _row(PROJECT_FOLDER / "dataset/feedback", "folder of faces that visitors give")

    rate_limit: Rate = _row("300 per minute", "photos that one address may send")
    live_rate_limit: Rate = _row("2400 per minute", "live frames that one address may send")
    video_rate_limit: Rate = _row("20 per hour", "videos that one address may send")
    feedback_rate_limit: Rate = _row("50 per day", "faces that one address may give for training")
    work_rate_limit: Rate = _row(
        "120 per minute", "pictures, zips, explanations and opinions that one address may ask for"
    )
    rate_limit_storage: str = _row("memory://", "where rates are counted, or redis://HOST:PORT")
    max_connections: int = _row(100, "open connections of one address", 1, 500)
    trusted_hosts: Hosts = _row("any", "names of this site; requests by others are refused")
    api_keys: str | None = _row(None, "keys of programs, by commas; without any, all may come")
    cors_origins: str | None = _row(None, "sites whose pages may use the API, by commas; * is all")
    trusted_proxies: int = _row(0, "proxies in front whose X-Forwarded headers are believed", 0, 10)

    operator_token: str | None = _row(
        None, "password of the operator's pages, 16 characters or more; without it there are none"
    )
    monitoring: bool = _row(False, "show everybody how the app is used: a page and the API")
    metrics: bool = _row(False, "answer /metrics for Prometheus")
    log: str = _row("auto", "form of the log; auto is text in a terminal", "auto", "text", "json")

    def __post_init__(self) -> None:
        if self.detector_model and self.detector != "yunet":
            words = f"expected DETECTOR yunet for DETECTOR_MODEL; received {self.detector}"
            raise SettingsError(words)
        if self.operator_token and (length := len(self.operator_token)) < 16:
            words = f"expected OPERATOR_TOKEN of at least 16 characters; received {length}"
            raise SettingsError(words)

    @property
    def yunet(self) -> Path | None:
        """The file of the YuNet network, None for the cascades. Raises ModelError."""
        return yunet_file(self.detector_model) if self.detector == "yunet" else None

    @property
    def hosts(self) -> list[str]:
        """The names that are answered to, among them this machine's; empty for any."""
        names = self.trusted_hosts.lower().split(",")
        return [] if names == ["any"] else [*names, "localhost", "127.0.0.1"]

    database = property(
        lambda self: self.database_url or f"sqlite:///{self.instance}/emotion.sqlite"
    )
    keep_s = property(lambda self: self.keep_hours * 3600)
    keeps_nothing = property(lambda self: self.keep_hours == 0)
    longest_video_s = property(lambda self: self.max_video_minutes * 60)
    most_video_form_bytes = property(lambda self: int(self.max_video_mb * 2**20) + ENVELOPE_BYTES)

    @property
    def image_limits(self) -> ImageLimits:
        return ImageLimits(int(self.max_upload_mb * 2**20), int(self.max_megapixels * 1e6))

    @property
    def most_form_bytes(self) -> int:
        photos = min(self.max_photos, 10)  # of the largest size; smaller ones may be more
        return photos * self.image_limits.max_bytes + ENVELOPE_BYTES


SETTING_NAMES = tuple(row.name.upper() for row in fields(Settings))  # as in the environment


def read_settings(*sources: Mapping[str, object]) -> Settings:
    """Return the settings; of several sources the last one counts. Raises SettingsError."""
    values = {}
    for row in fields(Settings):
        name = row.name.upper()
        given = [str(source[name]) for source in sources if source.get(name) not in (None, "")]
        if not given:
            continue
        kind, expected = row.type, row.metadata["expected"]
        try:
            values[row.name] = _parse(kind, expected, given[-1].strip())
        except (ValueError, LookupError, OverflowError, click.BadParameter) as error:
            words = WORDS.get(kind) or " or ".join(expected) or "a text"
            if kind in (int, float):
                words += f" from {expected[0]:g} to {expected[1]}"
            raise SettingsError(f"expected {name} to be {words}; received {given[-1]!r}") from error
    return Settings(**values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise SettingsError(f"{message}; --help lists the flags")


def read_arguments(arguments: Sequence[str], about: str) -> dict[str, str]:
    """Return what the flags say, by the names of the settings; raises SettingsError."""
    parser = _Parser(description=about, allow_abbrev=False)
    for row in fields(Settings):
        default = "none" if row.default is None else row.default
        if isinstance(default, bool):
            default = "on" if default else "off"
        elif isinstance(default, Path):
            default = default.relative_to(PROJECT_FOLDER)
        name, text = row.name.upper(), f"{row.metadata['help']} (default: {default})"
        parser.add_argument(f"--{row.name.replace('_', '-')}", dest=name, metavar=name, help=text)
    given = vars(parser.parse_args(arguments))
    if empty := [name for name, value in given.items() if value == ""]:
        raise SettingsError(f"expected a value for {empty[0]}; received an empty one")
    return given
