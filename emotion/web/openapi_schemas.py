"""The schemas of the API's description: what each reply holds, in JSON Schema 2020-12."""

from collections.abc import Mapping, Sequence

from emotion.faces import Face
from emotion.rows import SCHEMA, results_to_dict
from emotion.web.storage import ID_PATTERN
from emotion.web.videos.files import LINKS
from emotion.web.videos.queue import STATES

EXAMPLE_ID = "Zk3mB0aF4qTt1nSg8vXw2Q"
EXAMPLE_SET = "rY7cHc2LpE5uJd9oNf6iKA"
EXAMPLE_VIDEO = "Qv8xTn3LrWc0yGm5KhB2sA"
EXAMPLE_SHA256 = "78e88e0b0625db529f33624088c14cfb49908a6f7a1993ba5cdf6f0b70133202"
EXAMPLE_MODEL = "detection_model"
EXAMPLE_TITLE = "as most people see a face (FER+)"
SUMMARY_SCHEMA = 1
"""What `emotion.video.summary` writes; its module needs more than a description does."""


def schemas() -> dict:
    """Return name -> schema of everything that a reply is made of."""
    return {
        "Results": _results(),
        "Face": _face(),
        "Photo": _photo(),
        "VideoFiles": _links(*LINKS),
        "FaceLinks": _links("page", "picture", "explanation", "feedback"),
        "Explanation": _explanation(),
        "Opinion": _opinion(),
        "NewOpinion": _new_opinion(),
        "PhotoSet": _photo_set(),
        "EmotionShare": _emotion_share(),
        "Mine": _mine(),
        "Video": _video(),
        "VideoProgress": _video_progress(),
        "VideoSummary": _video_summary(),
        "Model": _model(),
        "ModelWithCard": _model_with_card(),
        "Models": thing({"models": list_of(ref("Model"))}, "The default comes first."),
        "Monitoring": _monitoring(),
        "Problem": _problem(),
    }


# The parts that schemas are built from


def ref(name: str) -> dict:
    """Return the mention of a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def thing(properties: Mapping[str, dict], description: str = "", optional: Sequence[str] = ()):
    """Return the schema of an object that has these properties and no others."""
    return {
        "type": "object",
        **({"description": description} if description else {}),
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def text(description: str = "", **more) -> dict:
    """Return the schema of a text."""
    return {"type": "string", **({"description": description} if description else {}), **more}


def count(description: str = "", least: int = 0) -> dict:
    """Return the schema of a whole number."""
    content = {"type": "integer", "minimum": least}
    return content | ({"description": description} if description else {})


def seconds(description: str = "") -> dict:
    """Return the schema of a length of time."""
    content = {"type": "number", "minimum": 0}
    return content | ({"description": f"{description}, in seconds".lstrip(", ")})


def share(description: str = "") -> dict:
    """Return the schema of a share or a probability."""
    content = {"type": "number", "minimum": 0, "maximum": 1}
    return content | ({"description": description} if description else {})


def yes_or_no(description: str = "") -> dict:
    """Return the schema of a truth value."""
    return {"type": "boolean", **({"description": description} if description else {})}


def list_of(items: Mapping, description: str = "", **more) -> dict:
    """Return the schema of a list."""
    content = {"type": "array", "items": items}
    return content | ({"description": description} if description else {}) | more


def or_null(schema: Mapping) -> dict:
    """Return the schema of something that may be missing."""
    if "$ref" in schema:
        return {"oneOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def key(description: str, example: str) -> dict:
    """Return the schema of the key of a photo or a set."""
    return text(description, pattern=f"^{ID_PATTERN.pattern}$", examples=[example])


def moment(description: str) -> dict:
    """Return the schema of a time."""
    return text(description, format="date-time", examples=["2026-11-21T19:52:07Z"])


def sha256() -> dict:
    """Return the schema of the SHA-256 of a model's weights."""
    words = "SHA-256 of the weights file, in hexadecimal"
    return text(words, pattern="^[0-9a-f]{64}$", examples=[EXAMPLE_SHA256])


def _links(*names: str) -> dict:
    """Return the schema of addresses on this server."""
    return thing({name: text(format="uri-reference") for name in names})


# Photos and faces


def example_results() -> dict:
    """Return results as they are for a photo with one face."""
    values = (0.01, 0.002, 0.008, 0.95, 0.01, 0.01, 0.01)
    names = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    face = Face((412, 160, 236, 236), 8.4127, dict(zip(names, values, strict=True)))
    results = results_to_dict([face], (1024, 768), EXAMPLE_MODEL, EXAMPLE_SHA256)
    results["model"] |= {"key": EXAMPLE_MODEL, "title": EXAMPLE_TITLE}
    return results


def _results() -> dict:
    content = thing(
        {
            "schema": {"const": SCHEMA, "description": "version of this form"},
            "model": thing(
                {"name": text(), "sha256": sha256(), **_model_names()}, "What read the emotions."
            ),
            "image": thing({"width": count(least=1), "height": count(least=1)}, "In pixels."),
            "faces": list_of(ref("Face"), "from left to right; the first has the number 1"),
        },
        "What was found in a photo.",
    )
    return content | {"examples": [example_results()]}


def _face() -> dict:
    sides = {"width": count(least=1), "height": count(least=1)}
    place = {"x": {"type": "integer"}, "y": {"type": "integer"}}
    names = list_of(text())
    return thing(
        {
            "box": thing(place | sides, "Left, top, width and height in the upright photo."),
            "score": {"type": "number", "description": "how sure it is a face; higher is surer"},
            "emotion": text("the most probable emotion"),
            "confidence": share("its probability"),
            "probabilities": {
                "type": "object",
                "description": "of each emotion, in the order of the model; they sum to 1",
                "additionalProperties": share(),
            },
            "sure": yes_or_no("whether the answer is clear enough to be relied upon"),
            "verdict": text("the answer in a few words"),
            "candidates": names | {"minItems": 1, "maxItems": 3, "description": "what it may be"},
            "runner_up": or_null(text("the second of them, null where there is one")),
            "notes": names | {"description": "what may make the answer unreliable"},
        },
        "A face and its emotion.",
    )


def _photo() -> dict:
    links = _links("self", "page", "set", "annotated", "blurred", "thumbnail")
    links["properties"]["set"] = or_null(links["properties"]["set"])
    links["properties"]["faces"] = list_of(ref("FaceLinks"), "in the order of the faces")
    links["required"].append("faces")
    return thing(
        {
            "id": key("the photo's key: who knows it can see the photo", EXAMPLE_ID),
            "set": or_null(key("key of its set; null unless the sender asks", EXAMPLE_SET)),
            "created": moment("when it came"),
            "expires": moment("when it is removed"),
            "links": links,
            "results": ref("Results"),
        },
        "A photo that is kept.",
    )


def _explanation() -> dict:
    row = list_of({"type": "number"}, minItems=48, maxItems=48)
    words = (
        "48 rows of 48: by how much the log-odds of the emotion fall where a part of the face is "
        "hidden; below zero where it spoke against"
    )
    return thing(
        {
            "emotion": text("what is explained"),
            "before": share("its probability with the whole face in view"),
            "hidden": share("with the fifth of the face hidden that spoke most for it"),
            "elsewhere": share("with as much hidden elsewhere, mean of several places"),
            "holds": yes_or_no("whether hiding that fifth lowers it, and more than elsewhere"),
            "heat": list_of(row, words, minItems=48, maxItems=48),
        },
        "Which parts of a face spoke for an emotion (occlusion, Zeiler and Fergus 2014).",
    )


def _opinion() -> dict:
    return thing(
        {
            "emotion": text("what somebody sees in the face"),
            "given": text("what the model answered"),
            "agrees": yes_or_no("whether both are the same"),
            "kept": yes_or_no("whether the face is kept for training"),
            "said": moment("when it was said"),
        },
        "What was said about a face.",
    )


def _new_opinion() -> dict:
    words = "also keep the 48 x 48 grey crop of the face, for training"
    content = thing(
        {
            "emotion": text("one of the emotions of the model that read the photo"),
            "keep": yes_or_no(words) | {"default": False},
        },
        optional=("keep",),
    )
    return content | {"examples": [{"emotion": "happy", "keep": False}]}


# Sets, and the sender's own


def _photo_set() -> dict:
    one = thing(
        {
            "position": count("number in the set", least=1),
            "problem": or_null(text("why it could not be read, null where it could")),
            "photo": or_null(ref("Photo")),
        }
    )
    return thing(
        {
            "id": key("the set's key, of use to the sender alone", EXAMPLE_SET),
            "links": _links("self", "page", "csv", "annotated", "blurred"),
            "photos": list_of(one, "by position"),
            "faces": count("in all photos together"),
            "summary": list_of(ref("EmotionShare"), "of all faces; empty without any"),
        },
        "Photos that belong together.",
    )


def _emotion_share() -> dict:
    return thing(
        {
            "emotion": text(),
            "sure": count("faces whose answer it is"),
            "unsure": count("faces for which it is the most probable of several"),
            "share": share("sure and unsure together, of all faces"),
            "mean_probability": share("over all faces"),
        },
        "One emotion over many faces.",
    )


def _mine() -> dict:
    one = thing(
        {
            "id": key("the photo's key", EXAMPLE_ID),
            "set": key("its set's", EXAMPLE_SET),
            "position": count("number in the set", least=1),
            "created": moment("when it came"),
            "expires": moment("when it is removed"),
            "faces": count("how many were found"),
            "emotions": list_of(text(), "the first emotion of each face"),
            "verdicts": list_of(text(), "the answer for each face in a few words"),
            "model": or_null(thing(_model_names(), "What read them.")),
            "problem": or_null(text("why it could not be read: then there is nothing behind it")),
        }
    )
    video = thing(
        {
            "id": key("the video's key", EXAMPLE_VIDEO),
            **_video_state(),
            "faces": count("how many people were followed"),
            "emotions": list_of(text(), "the longest emotion of each, the first few"),
            "verdicts": list_of(text(), "what each showed for longest, in a few words"),
            "model": or_null(thing(_model_names(), "Null until it is done.")),
            "problem": or_null(text("why it failed, or which part could not be read")),
        }
    )
    lists = {"photos": list_of(one, "newest first"), "videos": list_of(video, "newest first")}
    return thing(lists, "What the sender has sent.")


# Videos


def _video_state() -> dict:
    return {
        "state": {"enum": list(STATES)},
        "created": moment("when it came"),
        "expires": moment("when it is removed; counted from the end of the work"),
    }


def _video() -> dict:
    facts = {
        "width": count("of the upright pictures, in pixels", least=1),
        "height": count(least=1),
        "fps": {"type": "number", "description": "pictures a second, on average"},
        "frames": count("that were read"),
        "duration_s": seconds(),
        "has_sound": yes_or_no("whether it has sound, which is in the annotated video too"),
    }
    model = {
        **_model_names(),
        "name": text(),
        "sha256": sha256(),
        "runtime": text(),
        "notes": list_of(text()),
    }
    links = _links("self", "page")
    links["properties"]["files"] = or_null(ref("VideoFiles"))
    links["required"].append("files")
    return thing(
        {
            "id": key("the video's key: who knows it can see the video", EXAMPLE_VIDEO),
            **_video_state(),
            "before": count("videos that wait before it"),
            "progress": or_null(ref("VideoProgress")),
            "problem": or_null(text("why it failed, or which part could not be read")),
            "links": links,
            "video": or_null(thing(facts, "Null until it is done.")),
            "model": or_null(thing(model, "Null until it is done.")),
            "summary": or_null(ref("VideoSummary")),
        },
        "A video that waits, is worked on, or is kept.",
    )


def _video_progress() -> dict:
    number = {"type": "number", "minimum": 0}
    content = {
        "share": share("how much is done"),
        "frames": count("that are done"),
        "frame_count": count("that there will be"),
        "position_s": seconds("time of the last one in the video"),
        "duration_s": seconds("length of the video"),
        "frames_per_s": {**number, "description": "that are done in a second, of late"},
        "left_s": seconds("how long the work will still take"),
        "faces": count("people that were followed so far"),
    }
    words = "How far the work is; null where it cannot be known, or while nothing is told yet."
    return thing({name: or_null(schema) for name, schema in content.items()}, words)


def _video_summary() -> dict:
    by_name = {"type": "object", "additionalProperties": seconds()}
    shares = {"type": "object", "additionalProperties": share()}
    track = thing(
        {
            "track": count("its number", least=1),
            "first_s": seconds("when it was first seen, in the video"),
            "last_s": seconds("when it was last seen"),
            "frames": count("that it is in"),
            "seconds": seconds("how long it was seen"),
            "emotion": or_null(text("that it showed for longest; null where none was ever sure")),
            "verdict": text("that emotion, or what it may be where it was unsure for longer"),
            "seconds_by_emotion": by_name,
            "unsure_s": seconds("how long no single expression stood out"),
            "shares": shares,
            "mean_probabilities": shares,
        },
        "One face.",
    )
    return thing(
        {
            "schema": {"const": SUMMARY_SCHEMA, "description": "version of this form"},
            "frames": count(),
            "duration_s": seconds(),
            "no_face_s": seconds("how long no face was seen"),
            "one_face_s": seconds(),
            "several_faces_s": seconds(),
            "most_faces": count("at once"),
            "tracks": list_of(track, "by number"),
        },
        "How long each face showed each emotion.",
    )


# The server


def _model_names() -> dict:
    return {
        "key": text("what a photo asks for it by", examples=[EXAMPLE_MODEL]),
        "title": text("what it answers as", examples=[EXAMPLE_TITLE]),
    }


def _model_properties() -> dict:
    return {
        **_model_names(),
        "default": yes_or_no("whether it reads the photos that ask for none"),
        "classes": list_of(text(), "the emotions that it tells apart"),
        "sha256": or_null(sha256()),
        "problem": or_null(text("why it cannot be used at the moment")),
        "links": _links("self", "page"),
    }


def _model() -> dict:
    return thing(_model_properties(), "A model that photos can be read with.")


def _model_with_card() -> dict:
    words = "how it was made and how good it is, as its training wrote it; null without a card"
    card = {"type": ["object", "null"], "description": words}
    return thing(_model_properties() | {"card": card}, "A model and its card.")


def _use() -> dict:
    """Return the properties of what was read in some time."""
    return {
        "photos": count(),
        "without_face": count("photos in which no face was found"),
        "faces": count(),
        "unsure_share": or_null(share()),
        "mean_confidence": or_null(share()),
        "emotions": {"type": "object", "additionalProperties": count()},
    }


def _video_use() -> dict:
    return thing(
        {
            "videos": count(),
            "without_face": count("videos in which no face was found"),
            "faces": count("people that were followed"),
            "seconds": seconds("how long the videos were together"),
        },
        "Videos since the start; their faces are not among those of photos.",
    )


def _monitoring() -> dict:
    model = thing({"name": text(), "sha256": text(), **_model_names()}, "Null without a card.")
    return thing(
        {
            "as_of": moment("now"),
            "recent_days": count("what recent means"),
            "model": or_null(model),
            "since": or_null(text("the first day", format="date")),
            "total": thing(_use()),
            "recent": thing(_use()),
            "videos": _video_use(),
            "days": list_of(thing({"day": text(format="date"), **_use()}), "recent ones"),
            "months": list_of(thing({"month": text(pattern="^[0-9]{4}-[0-9]{2}$"), **_use()})),
            "emotions": list_of(_expected_emotion()),
            "confidence": list_of(thing({"from": share(), "to": share(), "faces": count()})),
            "unsure_expected": or_null(share("on the labelled images of the model's data")),
            "opinions": _opinions(),
            "kept": thing({"all": count(), "new": count("since the model was made")}),
            "drift": _drift(),
            "retraining": _retraining(),
        },
        "How the server is used: numbers alone, of no photo and no person.",
    )


def _expected_emotion() -> dict:
    return thing(
        {
            "emotion": text(),
            "faces": count("recent ones"),
            "share": or_null(share("of the recent faces")),
            "expected_share": or_null(share("of the model's answers on its own data")),
            "label_share": or_null(share("of the labels of its data")),
        }
    )


def _opinions() -> dict:
    pair = thing({"given": text(), "chosen": text(), "opinions": count(least=1)})
    return thing(
        {
            "said": count(),
            "agreed": count(),
            "disagreed": count(),
            "disagreed_share": or_null(share()),
            "interval_95": or_null(list_of(share(), minItems=2, maxItems=2)),
            "pairs": list_of(pair, "the model's answer and the person's, most frequent first"),
        }
    )


def _drift() -> dict:
    index = or_null({"type": "number", "description": "population stability index"})
    return thing(
        {
            "faces": count(),
            "least_faces": count("needed to tell"),
            "split": text("what the answers are compared with"),
            "index": index,
            "label_index": index,
            "level": {"enum": ["unknown", "too few faces", "none", "some", "large"]},
            "words": text(),
        }
    )


def _retraining() -> dict:
    check = thing(
        {
            "title": text(),
            "name": text(),
            "due": or_null(yes_or_no("null where too little is known")),
            "words": text(),
        }
    )
    return thing({"due": yes_or_no(), "words": text(), "checks": list_of(check)})


def _problem() -> dict:
    return thing(
        {
            "type": {"const": "about:blank"},
            "title": text("the phrase of the status"),
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": text("what was expected and what was received, in a sentence"),
        },
        "What went wrong (RFC 9457).",
    )
