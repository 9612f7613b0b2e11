"""The one table of settings, read once at the door: the environment first, then flags on top."""

# ruff: noqa: RUF009  (`_row` makes a field)

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import limits

from emotion.detection.yunet import EXPECTED_NETWORK
from emotion.errors import EmotionError
from emotion.files import user_path
from emotion.images.guards import ImageLimits

PROJECT_FOLDER = Path(__file__).resolve().parents[2]
SWITCH = dict.fromkeys(("on", "true", "1", "yes"), True)
SWITCH |= dict.fromkeys(("off", "false", "0", "no"), False)


class SettingsError(EmotionError, click.UsageError):
    """A setting is wrong; `flask run` prints it as one line because click knows the second base."""


@dataclass(frozen=True)
class Kind:
    """What a setting may be: words for a message, and a parser that raises ValueError if not."""

    expected: str
    parse: Callable[[str], object]


def _text(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError("no text")
    return value


def _rate(value: str) -> str:
    limits.parse_many(value)
    return value


def _number(convert: type, low: float, high: float) -> Kind:
    """Return the kind of numbers from `low` to `high`, both included."""

    def parse(value: str):
        number = convert(value)
        if not low <= number <= high:
            raise ValueError("outside the range")
        return number

    words = "a whole number" if convert is int else "a number"
    return Kind(f"{words} from {low:g} to {high:g}", parse)


def _choice(*words: str) -> Kind:
    return Kind(" or ".join(words), {word: word for word in words}.__getitem__)


# a relative path starts at the project folder, wherever one is
PATH = Kind("a path", lambda value: PROJECT_FOLDER / user_path(_text(value)))
ON_OFF = Kind("on or off", lambda value: SWITCH[value.lower()])
RATE = Kind("a rate such as '60 per minute'", _rate)
TEXT = Kind("a text", _text)
ADDRESS = Kind("a host name or address", _text)


def _row(default: object, kind: Kind, help_text: str):
    return dataclasses.field(default=default, metadata={"kind": kind, "help": help_text})


@dataclass(frozen=True)
class Settings:
    """How the app runs: `KEEP_HOURS` in the environment or `--keep-hours` sets `keep_hours`."""

    host: str = _row("127.0.0.1", ADDRESS, "address to listen on; 0.0.0.0 is every network")
    port: int = _row(5000, _number(int, 0, 65535), "port to listen on; 0 takes a free one")
    threads: int = _row(16, _number(int, 1, 256), "requests answered at the same time")
    max_in_hand: int = _row(
        8, _number(int, 1, 256), "photos that are read or wait for it; others must try again"
    )

    model: Path = _row(
        PROJECT_FOLDER / "models" / "detection_model",
        PATH,
        "the model: folder and name of its files without suffix",
    )
    detector: str = _row(
        "haar",
        _choice("haar", "yunet"),
        "what finds the faces: OpenCV's Haar cascades, or YuNet, its face network",
    )
    detector_model: Path | None = _row(
        None, PATH, f"the network's file, which yunet needs: {EXPECTED_NETWORK}"
    )

    uploads: Path = _row(PROJECT_FOLDER / "uploads", PATH, "folder of the results, kept for a time")
    keep_hours: float = _row(
        24, _number(float, 0, 8784), "hours after which results are removed; 0 keeps nothing"
    )
    max_photos: int = _row(50, _number(int, 1, 1000), "photos in one form, and in one set")
    max_upload_mb: float = _row(
        20, _number(float, 0.001, 1024), "largest photo file in megabytes (of 1,048,576 bytes)"
    )
    max_megapixels: float = _row(
        50, _number(float, 0.001, 1000), "largest photo in millions of pixels"
    )

    video_workers: int = _row(
        1, _number(int, 0, 64), "videos analysed at the same time; 0 takes no videos"
    )
    max_videos_waiting: int = _row(
        10, _number(int, 1, 1000), "videos in the queue; further ones are refused"
    )
    max_video_mb: float = _row(
        500, _number(float, 0.001, 65536), "largest video file in megabytes (of 1,048,576 bytes)"
    )
    max_video_minutes: float = _row(10, _number(float, 0.001, 1440), "longest video in minutes")
    video_memory_mb: int = _row(
        4096, _number(int, 512, 1048576), "memory for one video's analysis, in megabytes"
    )

    instance: Path = _row(
        PROJECT_FOLDER / "instance", PATH, "folder of the secret key and of the SQLite database"
    )
    database_url: str | None = _row(
        None, TEXT, "database, as SQLAlchemy names it; without it SQLite in INSTANCE"
    )
    feedback: Path = _row(
        PROJECT_FOLDER / "dataset" / "feedback", PATH, "folder of faces that visitors give"
    )

    rate_limit: str = _row("300 per minute", RATE, "photos that one address may send")
    live_rate_limit: str = _row(
        "2400 per minute", RATE, "frames of a live camera that one address may send"
    )
    video_rate_limit: str = _row("20 per hour", RATE, "videos that one address may send")
    feedback_rate_limit: str = _row(
        "50 per day", RATE, "faces that one address may give for training"
    )
    work_rate_limit: str = _row(
        "120 per minute",
        RATE,
        "pictures, zips, explanations and opinions that one address may ask for",
    )
    rate_limit_storage: str = _row(
        "memory://", TEXT, "where the rates are counted, such as redis://host:6379"
    )
    trusted_proxies: int = _row(
        0, _number(int, 0, 10), "proxies in front whose X-Forwarded headers are believed"
    )

    monitoring: bool = _row(False, ON_OFF, "show everybody how the app is used: a page and the API")
    metrics: bool = _row(False, ON_OFF, "answer /metrics for Prometheus")
    log: str = _row(
        "auto",
        _choice("auto", "text", "json"),
        "form of the log; auto is text in a terminal, else json",
    )

    def __post_init__(self) -> None:
        if self.detector == "yunet" and self.detector_model is None:
            raise SettingsError(
                f"expected DETECTOR_MODEL, the path of a file, with DETECTOR yunet: "
                f"{EXPECTED_NETWORK}"
            )
        if self.detector != "yunet" and self.detector_model is not None:
            raise SettingsError(
                "expected DETECTOR yunet with a DETECTOR_MODEL; "
                f"received DETECTOR {self.detector}, which needs no file"
            )

    @property
    def keep_s(self) -> float:
        """Return how long results are kept, in seconds."""
        return self.keep_hours * 3600

    @property
    def keeps_nothing(self) -> bool:
        """True if results are gone with the answer."""
        return self.keep_hours == 0

    @property
    def database(self) -> str:
        """Return the address of the database, as SQLAlchemy names it."""
        return self.database_url or f"sqlite:///{self.instance / 'emotion.sqlite'}"

    @property
    def image_limits(self) -> ImageLimits:
        """Return how large photos may be."""
        return ImageLimits(
            max_bytes=int(self.max_upload_mb * 2**20), max_pixels=int(self.max_megapixels * 1e6)
        )

    @property
    def most_video_bytes(self) -> int:
        """Return how large the file of a video may be."""
        return int(self.max_video_mb * 2**20)

    @property
    def longest_video_s(self) -> float:
        """Return how long a video may be, in seconds."""
        return self.max_video_minutes * 60


def setting_names() -> tuple[str, ...]:
    """Return the names of all settings as they are written in the environment."""
    return tuple(row.name.upper() for row in dataclasses.fields(Settings))


def read_settings(*sources: Mapping[str, object]) -> Settings:
    """Return the settings; if several sources give a value, the last one counts.

    Args:
        sources: mappings such as `os.environ`; names that are not in the table are ignored, and an
            empty value or None counts as not given.

    Raises:
        SettingsError: a value is wrong, or two do not fit together.
    """
    values = {}
    for row in dataclasses.fields(Settings):
        name, kind = row.name.upper(), row.metadata["kind"]
        given = [source.get(name) for source in sources if source.get(name) not in (None, "")]
        if not given:
            continue
        try:
            values[row.name] = kind.parse(str(given[-1]).strip())
        except (ValueError, LookupError, OverflowError) as error:
            received = repr(str(given[-1]))
            raise SettingsError(
                f"expected {name} to be {kind.expected}; received {received}"
            ) from error
    return Settings(**values)


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence, as all our errors do."""

    def error(self, message: str):
        raise SettingsError(f"{message}; --help lists the flags")


def read_arguments(arguments: Sequence[str], about: str) -> dict[str, str]:
    """Return what the flags of a command line say, by the names of the settings.

    Raises:
        SettingsError: a flag is unknown or lacks its value.
    """
    parser = _Parser(description=about, allow_abbrev=False)
    for row in dataclasses.fields(Settings):
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
    for name, value in given.items():
        if value == "":
            raise SettingsError(f"expected a value for {name}; received an empty one")
    return given
