"""What `Recognizer` returns: the faces of a photo as a tuple that shows itself in notebooks."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from emotion.drawing import annotate, blur_faces
from emotion.errors import ImageError, TableError
from emotion.faces import Face, people_say, short_verdict, verdict
from emotion.images.decoding import Photo
from emotion.images.encoding import encode_jpeg, write_image
from emotion.images.sources import PhotoLike, open_photo
from emotion.labels import EMOTIONS
from emotion.rows import photo_columns, photo_rows, results_to_dict
from emotion.tables import PANDAS_TYPES
from emotion.text import counted, data_url, percent, printable

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped, unused-ignore]

SHOWN_PX = 640  # longer side of a photo in a notebook, at most
SHOWN_QUALITY = 85  # of JPEGs in notebooks, which are not for keeping
THUMBNAIL_PX = 240  # longer side of a photo in a contact sheet, at most
MOST_THUMBNAILS = 24  # in a contact sheet; each adds about 15 KB to a notebook
MOST_NAMED = 3  # faces in the one-line form of a photo


@dataclass(frozen=True)
class Origin:  # where the faces of a photo come from
    name: str  # the photo's path as it was given, or another name
    class_names: tuple[str, ...]
    model_name: str
    model_sha256: str
    size_wh: tuple[int, int] | None = None  # of the upright photo; None: it could not be read
    photo: PhotoLike | None = field(default=None, repr=False)  # to be opened again; None: not kept
    problem: str | None = None  # why it could not be read

    def travelling(self) -> "Origin":
        """Return the same without pixels or bytes; a path stays."""
        return self if isinstance(self.photo, Path) else replace(self, photo=None)


class Recognition(tuple[Face, ...]):
    """The faces of one photo, left to right: a tuple that also draws, tabulates and shows itself.

    What was given, such as a path, is kept and opened again. Pickles carry a path, never pixels.
    """

    _origin: Origin

    def __new__(cls, faces: Iterable[Face], origin: Origin) -> "Recognition":
        recognition = super().__new__(cls, tuple(faces))
        recognition._origin = origin
        return recognition

    @property
    def name(self) -> str:
        """Return what the photo is called: its path as it was given, or "photo"."""
        return self._origin.name

    @property
    def size_wh(self) -> tuple[int, int] | None:
        """Return width and height of the upright photo in pixels, None where there is a problem."""
        return self._origin.size_wh

    @property
    def problem(self) -> str | None:
        """Return why the photo could not be read (with `errors="keep"`), else None."""
        return self._origin.problem

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON, in the schema of the web API; `problem` if there is one."""
        model = self._origin.model_name, self._origin.model_sha256
        results = results_to_dict(self, self.size_wh or (0, 0), *model)
        return results | ({"image": None, "problem": self.problem} if self.problem else {})

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return a pandas DataFrame with one row a face; raises TableError without pandas."""
        table = _table([self], self._origin.class_names)
        return table.dropna(subset="face").drop(columns=["photo", "problem"])

    def annotated(self, *, blur: bool = False) -> npt.NDArray[np.uint8]:
        """Return a copy of the photo with every face boxed, numbered from 1 and labelled.

        It is (H, W, 3) uint8 RGB, upright, of the full size; `blur` makes the faces unrecognisable
        first. Raises ImageError where the photo is not kept, gone or another one by now.
        """
        image = self._photo().full
        return annotate(blur_faces(image, self) if blur else image, self)

    def to_image(self, *, blur: bool = False) -> Image.Image:
        """Return the annotated photo as an image of Pillow's; see `annotated`."""
        return Image.fromarray(self.annotated(blur=blur))

    def save(self, path: str | Path, *, blur: bool = False) -> None:
        """Write the annotated photo (.jpg, .png, .webp), never over itself; raises ImageError."""
        photo = self._origin.photo
        if isinstance(photo, Path) and photo.resolve() == Path(path).resolve():
            raise ImageError(f"expected another file than the photo itself; received {path}")
        write_image(Path(path), self.annotated(blur=blur))

    def without_photo(self) -> "Recognition":
        """Return the same faces without the pixels or bytes of the photo, to save memory."""
        return Recognition(self, self._origin.travelling())

    def __repr__(self) -> str:
        return f"<Recognition of {_title(self)}: {_summary(self)}>"

    def __str__(self) -> str:
        lines = [_title(self)] if self else [_title(self), _summary(self)]
        for number, face in enumerate(self, 1):
            x, y, width, height = face.box_xywh
            place = f"{verdict(face)} (x {x}, y {y}, {width}x{height})"
            words = filter(None, (place, people_say(face), *face.notes))
            lines.append(f"face {number}: {'; '.join(words)}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return Recognition, (tuple(self), self._origin.travelling())

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> "Recognition":
        return self  # nothing in it changes, and a pickle's way would lose the photo

    __copy__ = __deepcopy__

    def _repr_html_(self) -> str:
        return f"<div>{_picture(self, SHOWN_PX)}{_html_table(self)}</div>"

    def _photo(self) -> Photo:
        if self.problem is not None:
            raise ImageError(self.problem)
        if self._origin.photo is None:
            raise ImageError(
                f"expected the photo of {self.name}; received a result without it (pickles, "
                "iterators and without_photo leave it out): recognize the photo again"
            )
        photo = open_photo(self._origin.photo)
        if photo.size_wh != self.size_wh:
            width, height = photo.size_wh
            expected = f"expected the photo that was recognized, {_title(self)}"
            raise ImageError(f"{expected}; it has changed: received {width}x{height}")
        return photo


class Recognitions(tuple[Recognition, ...]):
    """The faces of many photos, in their order: a tuple of `Recognition`."""

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return a pandas DataFrame with one row a face; raises TableError without pandas.

        A photo without a face has one row, in which only `photo` and, if there is one, `problem`
        are filled; `dropna(subset="face")` leaves it out.
        """
        known = [name for recognition in self for name in recognition._origin.class_names]
        return _table(self, tuple(dict.fromkeys(known)) or EMOTIONS)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Recognition: ...

    @overload
    def __getitem__(self, place: slice) -> "Recognitions": ...

    def __getitem__(self, place: SupportsIndex | slice) -> "Recognition | Recognitions":
        if isinstance(place, slice):
            return Recognitions(super().__getitem__(place))
        return super().__getitem__(place)

    def __repr__(self) -> str:
        return f"<Recognitions of {_totals(self)}>"

    def __str__(self) -> str:
        return "\n".join(f"{_title(each)}: {_summary(each)}" for each in self)

    def _repr_html_(self) -> str:
        cells, style = "", f"width:{THUMBNAIL_PX}px;margin:0;overflow-wrap:anywhere"
        for each in self[:MOST_THUMBNAILS]:
            picture = "" if each.problem else _picture(each, THUMBNAIL_PX)
            name, answers = escape(Path(each.name).name), escape(_summary(each))
            caption = f"<figcaption><b>{name}</b><br>{answers}</figcaption>"
            cells += f'<figure style="{style}">{picture}{caption}</figure>'
        rest = len(self) - MOST_THUMBNAILS
        more = f"<p>… and {rest} more; <code>to_dataframe()</code> has all</p>" if rest > 0 else ""
        sheet = f'<div style="display:flex;flex-wrap:wrap;gap:12px">{cells}</div>'
        return f"<div><p>{escape(_totals(self))}</p>{sheet}{more}</div>"


def _table(photos: Iterable[Recognition], class_names: Sequence[str]) -> "pandas.DataFrame":
    """Return the rows of photos, with every column and its type even without a row."""
    try:
        import pandas  # not needed for anything else here, and slow to load
    except ImportError as error:
        raise TableError(
            "expected the package pandas for a DataFrame; it is not installed: pip install pandas"
        ) from error
    rows = [row for each in photos for row in photo_rows(each.name, each.problem or each.to_dict())]
    columns = {}
    for name, kind in photo_columns(class_names).items():
        columns[name] = pandas.Series([row.get(name) for row in rows], dtype=PANDAS_TYPES[kind])
    return pandas.DataFrame(columns)


def _picture(recognition: Recognition, most_px: int) -> str:
    """Return the annotated photo as HTML; a sentence where it cannot be shown."""
    try:
        photo = recognition._photo()
    except ImageError as error:
        return f"<p>{escape(str(error))}</p>"
    scale = min(1.0, most_px / max(photo.size_wh))
    width, height = (max(1, round(side * scale)) for side in photo.size_wh)
    small = cv2.resize(photo.pixels, (width, height), interpolation=cv2.INTER_AREA)
    faces = []
    for face in recognition:
        x, y, wide, high = (round(value * scale) for value in face.box_xywh)
        faces.append(replace(face, box_xywh=(x, y, max(1, wide), max(1, high))))
    # drawn at the small size, so that its text stays legible
    content = encode_jpeg(annotate(small, faces), SHOWN_QUALITY)
    text = escape(f"{recognition.name}: {_summary(recognition)}", quote=True)
    return f'<img alt="{text}" src="{data_url(content, "jpeg")}" style="max-width:100%">'


def _html_table(recognition: Recognition) -> str:
    if not recognition:
        return "" if recognition.problem else "<p>no face found</p>"
    notes = ("notes",) if any(face.notes for face in recognition) else ()
    people = ("of 10 people",) if any(face.agreement is not None for face in recognition) else ()
    titles = ("face", "answer", *people, *recognition._origin.class_names, *notes)
    head, rows = "".join(f"<th>{escape(title)}</th>" for title in titles), ""
    for number, face in enumerate(recognition, 1):
        rows += f"<tr><td>{number}</td><td>{escape(short_verdict(face))}</td>"
        rows += f"<td>{face.agreement}</td>" if people else ""
        for name, value in face.probabilities.items():
            text = escape(percent(value))
            rows += f"<td><b>{text}</b></td>" if name in face.candidates else f"<td>{text}</td>"
        if face.notes:
            rows += f'<td style="text-align:left">{escape("; ".join(face.notes))}</td>'
        rows += "</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _title(recognition: Recognition) -> str:
    """Return name and size of a photo; names may hold what would steer a terminal."""
    name, size_wh = printable(recognition.name), recognition.size_wh
    return name if size_wh is None else f"{name} ({size_wh[0]}x{size_wh[1]})"


def _summary(recognition: Recognition) -> str:
    if not recognition:
        return recognition.problem or "no face found"
    told = [f"{number}: {verdict(face)}" for number, face in enumerate(recognition, 1)]
    rest = len(told) - MOST_NAMED
    return ", ".join(told[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _totals(recognitions: Recognitions) -> str:
    faces = [face for recognition in recognitions for face in recognition]
    answers = Counter(face.emotion if face.sure else "unsure" for face in faces)
    problems = sum(recognition.problem is not None for recognition in recognitions)
    told = ", ".join(f"{count} {name}" for name, count in answers.most_common())
    text = f"{counted(len(recognitions), 'photo')}, {counted(len(faces), 'face')}"
    text += f": {told}" if told else ""
    return text + (f"; {counted(problems, 'photo')} could not be read" if problems else "")
