"""Numbers and names in words, the same on every page, in every message and in every terminal."""

import base64
from collections.abc import Sequence

NOTHING = "–"  # where there is no number


def percent(probability: float) -> str:
    """Return a probability as a percentage that never claims certainty: "93%", "<1%", ">99%"."""
    if probability > 0.99:
        return ">99%"
    return "<1%" if probability < 0.01 else f"{probability:.0%}"


def share(value: float | None, digits: int = 0) -> str:
    """Return a measured share as a percentage; "0%" and "100%" only where it is exactly that."""
    if value is None:
        return NOTHING
    step = 10**-digits
    if 0 < 100 * value < step / 2:
        return f"<{step:g}%"
    if 100 - step / 2 <= 100 * value < 100:
        return f">{100 - step:g}%"
    return f"{value:.{digits}%}"


def decimal(value: float | None, digits: int = 3) -> str:
    """Return a number with that many decimals, a dash for None."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def points(difference: float) -> str:
    """Return the difference of two shares in percentage points, with its sign: "+1.2"."""
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "±0.0"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 face", "1,200 faces"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Return words as a list in a sentence: "angry, fear or sad"."""
    *start, end = words
    return f"{', '.join(start)} {last} {end}" if start else end


def clock(seconds: float) -> str:
    """Return a time as m:ss, or as h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def length(seconds: float) -> str:
    """Return how long something lasts: "0.25 s", "12.5 s", "1:05"."""
    if round(seconds, 1) >= 60:
        return clock(seconds)
    return f"{seconds:.1f} s" if seconds >= 1 or not seconds else f"{seconds:.2f} s"


def duration(seconds: float) -> str:
    """Return a length of time in words: "2 days", "24 hours", "30 minutes", "4 seconds"."""
    seconds = round(seconds / 60) * 60 if seconds >= 60 else max(1, seconds)
    units = (("day", 86400, 2), ("hour", 3600, 1), ("minute", 60, 1), ("second", 1, 0))
    name, unit_s, _ = next(unit for unit in units if seconds >= unit[1] * unit[2])
    amount = f"{seconds / unit_s:.1f}".removesuffix(".0")
    return f"{amount} {name}" + ("" if amount == "1" else "s")


def size(number_of_bytes: float) -> str:
    """Return a number of bytes in the unit that suits it: "850 bytes", "12 kB", "4.4 MB"."""
    if number_of_bytes < 1000:
        return counted(int(number_of_bytes), "byte")
    if number_of_bytes < 1_000_000:
        return f"{number_of_bytes / 1000:.0f} kB"
    return f"{number_of_bytes / 1_000_000:,.1f} MB"


def sentence(words: object) -> str:
    """Return words with a capital at the start and a full stop at the end; "" stays as it is."""
    text = str(words).strip()
    end = "" if not text or text.endswith((".", "!", "?")) else "."
    return text[:1].upper() + text[1:] + end


def first_line(words: object) -> str:
    """Return the first line of what a library said, without control characters."""
    lines = str(words).strip().splitlines() or [type(words).__name__]
    return printable(lines[0])


def printable(text: str, instead: str = "?") -> str:
    """Return text without the characters that would steer a terminal."""
    return "".join(letter if letter.isprintable() else instead for letter in text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as aligned lines, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    forms = [f"{'>' if number else '<'}{width}" for number, width in enumerate(widths)]
    return ["  ".join(map(format, row, forms)).rstrip() for row in (head, *rows)]


def data_url(content: bytes, kind: str = "png") -> str:
    """Return a picture of a kind, "png" or "jpeg", as an address that contains it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
