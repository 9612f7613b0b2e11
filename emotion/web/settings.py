"""The one table of settings, read once at the door: the environment first, then flags on top."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import limits

from emotion.detection.yunet import EXPECTED_NETWORK
from emotion.errors import EmotionError
from emotion.files import user_path
from emotion.images.guards import ImageLimits

PROJECT_FOLDER = Path(__file__).resolve().parents[2]


class SettingsError(EmotionError, click.UsageError):
    """A setting is wrong; `flask run` prints it as one line because click knows the second base."""


@dataclass(frozen=True)
class Kind:
    """What a setting may be: words for a message, and a function that raises ValueError if not."""

    expected: str
    parse: Callable[[object], object]


def _path(value: object) -> Path:
    """Return an absolute path; a relative one starts at the project folder, wherever one is."""
    if not str(value).strip() or "\0" in str(value):
        raise ValueError("no path")
    return PROJECT_FOLDER / user_path(str(value))


def _text(value: object) -> str:
    """Return a word without spaces around it."""
    if not str(value).strip():
        raise ValueError("no text")
    return str(value).strip()


def _number(convert: type, low: float, high: float) -> Kind:
    """Return the kind of numbers from `low` to `high`, both included."""

    def parse(value: object):
        number = convert(str(value).strip())
        if not low <= number <= high:
            raise ValueError("outside the range")
        return number

    words = "a whole number" if convert is int else "a number"
    return Kind(f"{words} from {low:g} to {high:g}", parse)


def _choice(*words: str) -> Kind:
    """Return the kind of values that are one of a few words."""

    def parse(value: object) -> str:
        if str(value).strip() not in words:
            raise ValueError("none of them")
        return str(value).strip()

    return Kind(" or ".join(words), parse)


def _row(kind: Kind, help_text: str) -> dict:
    """Return what the table says about a setting beside its name and its default."""
    return {"kind": kind, "help": help_text}


def _switch(value: object) -> bool:
    """Return whether something is on."""
    known = {"on": True, "true": True, "1": True, "yes": True}
    known |= {"off": False, "false": False, "0": False, "no": False}
    return known[str(value).strip().lower()]


def _rate(value: object) -> str:
    """Return a rate such as "60 per minute"."""
    limits.parse_many(str(value))
    return str(value).strip()


PATH = Kind("a path", _path)
SWITCH = Kind("on or off", _switch)
RATE = Kind("a rate such as '60 per minute'", _rate)
TEXT = Kind("a text", _text)
ADDRESS = Kind("a host name or address", _text)


@dataclass(frozen=True)
class Settings:
    """How the app runs: `KEEP_HOURS` in the environment or `--keep-hours` sets `keep_hours`."""

    host: str = field(
        default="127.0.0.1",
        metadata=_row(ADDRESS, "address to listen on; 0.0.0.0 is every network"),
    )
    port: int = field(
        default=5000,
        metadata=_row(_number(int, 0, 65535), "port to listen on; 0 takes a free one"),
    )
    threads: int = field(
        default=16,
        metadata=_row(_number(int, 1, 256), "requests that are answered at once"),
    )
    max_in_hand: int = field(
        default=8,
        metadata=_row(
            _number(int, 1, 256),
            "photos that are read or wait to be; further ones are told to wait",
        ),
    )
    model: Path = field(
        default=PROJECT_FOLDER / "models" / "detection_model",
        metadata=_row(PATH, "the model: folder and name of its files without suffix"),
    )
    detector: str = field(
        default="haar",
        metadata=_row(
            _choice("haar", "yunet"),
            "what finds the faces: OpenCV's Haar cascades, or YuNet, its face network",
        ),
    )
    detector_model: Path | None = field(
        default=None,
        metadata=_row(PATH, f"the network's file, which yunet needs: {EXPECTED_NETWORK}"),
    )
    uploads: Path = field(
        default=PROJECT_FOLDER / "uploads",
        metadata=_row(PATH, "folder in which results are kept for a while"),
    )
    keep_hours: float = field(
        default=24,
        metadata=_row(
            _number(float, 0, 8784), "hours after which results are removed; 0 keeps nothing at all"
        ),
    )
    max_photos: int = field(
        default=50,
        metadata=_row(_number(int, 1, 1000), "photos that are taken in one go"),
    )
    max_upload_mb: float = field(
        default=20,
        metadata=_row(
            _number(float, 0.001, 1024), "largest photo file in megabytes (of 1,048,576 bytes)"
        ),
    )
    max_megapixels: float = field(
        default=50,
        metadata=_row(_number(float, 0.001, 1000), "largest photo in millions of pixels"),
    )
    video_workers: int = field(
        default=1,
        metadata=_row(
            _number(int, 0, 64), "videos that are worked on at the same time; 0 takes no videos"
        ),
    )
    max_videos_waiting: int = field(
        default=10,
        metadata=_row(
            _number(int, 1, 1000), "videos that wait for their turn; further ones are refused"
        ),
    )
    max_video_mb: float = field(
        default=500,
        metadata=_row(
            _number(float, 0.001, 65536), "largest video file in megabytes (of 1,048,576 bytes)"
        ),
    )
    max_video_minutes: float = field(
        default=10,
        metadata=_row(_number(float, 0.001, 1440), "longest video in minutes"),
    )
    video_memory_mb: int = field(
        default=4096,
        metadata=_row(
            _number(int, 512, 1048576), "memory that the work on one video may take, in megabytes"
        ),
    )
    instance: Path = field(
        default=PROJECT_FOLDER / "instance",
        metadata=_row(PATH, "folder of the secret key and of the SQLite database"),
    )
    database_url: str | None = field(
        default=None,
        metadata=_row(TEXT, "database, as SQLAlchemy names it; without it SQLite in INSTANCE"),
    )
    feedback: Path = field(
        default=PROJECT_FOLDER / "dataset" / "feedback",
        metadata=_row(PATH, "folder of the faces that visitors give for training"),
    )
    rate_limit: str = field(
        default="300 per minute",
        metadata=_row(RATE, "photos that one client may send"),
    )
    live_rate_limit: str = field(
        default="2400 per minute",
        metadata=_row(RATE, "frames of a live camera that one client may send"),
    )
    video_rate_limit: str = field(
        default="20 per hour",
        metadata=_row(RATE, "videos that one client may send"),
    )
    feedback_rate_limit: str = field(
        default="50 per day",
        metadata=_row(RATE, "faces for training that one client may give"),
    )
    work_rate_limit: str = field(
        default="120 per minute",
        metadata=_row(
            RATE, "pictures, zips, explanations and opinions on faces that one client may ask for"
        ),
    )
    rate_limit_storage: str = field(
        default="memory://",
        metadata=_row(TEXT, "where the rates are counted, such as redis://host:6379"),
    )
    trusted_proxies: int = field(
        default=0,
        metadata=_row(
            _number(int, 0, 10), "proxies in front whose X-Forwarded headers are believed"
        ),
    )
    monitoring: bool = field(
        default=False,
        metadata=_row(SWITCH, "show everybody how the app is used: a page, and in the API"),
    )
    metrics: bool = field(
        default=False,
        metadata=_row(SWITCH, "answer /metrics for Prometheus"),
    )
    log: str = field(
        default="auto",
        metadata=_row(
            _choice("auto", "text", "json"),
            "form of the log; auto is text in a terminal, else json",
        ),
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
        """Return whether results are gone with the answer."""
        return self.keep_hours == 0

    @property
    def database(self) -> str:
        """Return the address of the database, as SQLAlchemy names it."""
        return self.database_url or f"sqlite:///{self.instance / 'emotion.sqlite'}"

    @property
    def image_limits(self) -> ImageLimits:
        """Return what photos are refused."""
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
    """Return the settings; of several sources that give a value, the last one counts.

    Args:
        sources: mappings such as `os.environ`; names that are not in the table are passed over,
            and a value that is empty or None counts as not given.

    Raises:
        SettingsError: a value is not of its kind, or two do not fit each other.
    """
    values = {}
    for row in dataclasses.fields(Settings):
        given = [source.get(row.name.upper()) for source in sources]
        given = [value for value in given if value not in (None, "")]
        if given:
            values[row.name] = _parse(row, given[-1])
    return Settings(**values)


def read_arguments(arguments: Sequence[str], about: str) -> dict[str, str]:
    """Return what the flags of a command line say, by the names of the settings.

    Raises:
        SettingsError: a flag is unknown or lacks its value.
    """
    parser = _Parser(description=about, allow_abbrev=False)
    for row in dataclasses.fields(Settings):
        parser.add_argument(
            f"--{row.name.replace('_', '-')}",
            dest=row.name.upper(),
            metavar=row.name.upper(),
            help=f"{row.metadata['help']} (default: {_shown(row.default)})",
        )
    given = vars(parser.parse_args(arguments))
    for name, value in given.items():
        if value == "":
            raise SettingsError(f"expected a value for {name}; received an empty one")
    return given


def _shown(value: object) -> str:
    """Return a default as one would type it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value.relative_to(PROJECT_FOLDER) if isinstance(value, Path) else value)


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence, as all our errors do."""

    def error(self, message: str):
        raise SettingsError(f"{message}; --help lists the flags")


def _parse(row: dataclasses.Field, value: object):
    """Return a value of the row's kind, or raise a `SettingsError` that says what was expected."""
    kind = row.metadata["kind"]
    try:
        return kind.parse(value)
    except (ValueError, LookupError, OverflowError) as error:
        raise SettingsError(
            f"expected {row.name.upper()} to be {kind.expected}; received {str(value)!r}"
        ) from error
