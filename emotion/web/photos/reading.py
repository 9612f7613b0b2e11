"""What is done with pixels, each as a plain function: the tasks of `job`, which runs them.

A task takes bytes and plain types, and answers with plain types and named bytes. No Flask here.
"""

from collections.abc import Mapping, Sequence

from emotion.errors import ImageError
from emotion.explain import draw_heat, explain
from emotion.faces import verdict
from emotion.images.decoding import ENOUGH_PIXELS, decode_photo
from emotion.images.encoding import encode_png
from emotion.images.guards import ImageLimits
from emotion.recognizer import Recognizer
from emotion.rows import face_from_dict, results_to_dict
from emotion.web.photos.pictures import crop_from_picture, drawn_picture, labels_of, pictures_of

MOST_FACES = 100  # of one photo, the largest

Answer = tuple[dict, Mapping[str, bytes]]


def read(
    recognizer: Recognizer,
    content: bytes,
    max_bytes: int,
    max_pixels: int,
    pictures: bool = False,
    whole: bool = False,
) -> Answer:
    """Find and read the faces of a photo; with `pictures` of it, or searched as a `whole`."""
    enough = None if whole else ENOUGH_PIXELS
    photo = decode_photo(content, ImageLimits(max_bytes, max_pixels), enough)
    found = recognizer.detect(photo)
    largest = sorted(found, key=lambda each: -each.box_xywh[2])[:MOST_FACES]
    sights = recognizer.look(photo, [each for each in found if each in largest])
    faces, model = [sight.face for sight in sights], recognizer.model
    results = results_to_dict(faces, photo.size_wh, model.name, model.sha256)
    results["faces_left_out"] = len(found) - len(faces)
    answer = {"results": results, "verdicts": list(map(verdict, faces))}
    answer["candidates"] = [face.candidates for face in faces]
    answer["labels"] = labels_of(faces, photo.size_wh) if pictures else None
    return answer, pictures_of(photo.full, sights) if pictures else {}


def explain_face(recognizer: Recognizer, content: bytes, emotion: str) -> Answer:
    """See which parts of a face spoke for an emotion; content is its `input` picture."""
    reasons = explain(recognizer.model, crop_from_picture(content), emotion)
    about = {name: round(getattr(reasons, name), 6) for name in ("before", "hidden", "elsewhere")}
    heat = [[round(value, 3) for value in row] for row in reasons.heat.tolist()]
    picture = encode_png(draw_heat(reasons.crop, reasons.heat))
    return about | {"holds": reasons.holds, "heat": heat}, {"heat.png": picture}


def answer(recognizer: Recognizer, content: bytes) -> Answer:
    """Read a face again, perhaps by another model; content is its `input` picture."""
    model, bounds = recognizer.model, recognizer.thresholds
    values = model.answer(crop_from_picture(content)[None])[0].astype(float)
    values /= values.sum()
    said = {"sure": bounds.met_by(values), "agreement": bounds.agreement(values)}
    return said | {"probabilities": dict(zip(model.class_names, values.tolist(), strict=True))}, {}


def draw(_: Recognizer, content: bytes, faces: Sequence[Mapping], size_wh, kind: str) -> Answer:
    """Draw boxes on a kept photo, or hide its faces; see `drawn_picture`."""
    seen = [face_from_dict(face) for face in faces]
    return {}, {f"{kind}.jpg": drawn_picture(content, seen, tuple(size_wh), kind)}


def nothing(_: Recognizer, __: bytes) -> Answer:
    """Only load the model."""
    return {}, {}


TASKS = {"nothing": nothing, "read": read, "explain": explain_face, "answer": answer, "draw": draw}


def out_of_memory(megabytes: int) -> ImageError:
    """Return the error of a photo that needs more memory than a task may have."""
    words = f"expected a photo that can be read in {megabytes} MB of memory; received a larger one"
    return ImageError(words)
