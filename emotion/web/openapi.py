"""The description of the API (OpenAPI 3.1): what can be asked, and every answer to it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from emotion.images.guards import readable_types
from emotion.web import replies
from emotion.web.settings import Settings
from emotion.web.videos.files import FILE_TYPES
from emotion.web.visitors import COOKIE

VERSION = "1.0.0"
REF = "#/components/schemas/{model}"
TEXT, BINARY = {"type": "string"}, {"type": "string", "format": "binary"}
RETRY_AFTER = {
    "Retry-After": {
        "description": "seconds after which the same request may succeed",
        "schema": {"type": "integer", "minimum": 1},
    }
}
ALLOW = {"Allow": {"description": "the methods it has", "schema": TEXT}}
CONTENT_RANGE = {"Content-Range": {"description": "which part, and how long it is", "schema": TEXT}}

PROBLEMS = {
    400: ("BadRequest", "Something is missing, or asks for what is not offered.", {}),
    403: (
        "Forbidden",
        "Only the sender may do this, and the sender's cookie is missing; or a browser sent this "
        "from a page of another site.",
        {},
    ),
    404: ("NotFound", "It does not exist, has expired, or was deleted.", {}),
    405: ("MethodNotAllowed", "The address exists but not with this method.", ALLOW),
    409: ("Conflict", "The server as it runs now cannot do this; the detail says why.", {}),
    413: ("ContentTooLarge", "The body or the file has too many bytes.", {}),
    415: ("UnsupportedMediaType", "The file or the body is of no type that can be read.", {}),
    416: ("RangeNotSatisfiable", "The file ends before this part.", CONTENT_RANGE),
    422: ("UnprocessableContent", "The photo is damaged, too small or too large in pixels.", {}),
    429: ("TooManyRequests", "One address sent or asked for too much.", RETRY_AFTER),
    500: ("InternalServerError", "A mistake of the server's own; it is in its log.", {}),
    503: (
        "ServiceUnavailable",
        "Busy, or without its model, database or folder at the moment.",
        RETRY_AFTER,
    ),
    507: ("InsufficientStorage", "The server's disk is full.", {}),
}
"""Status -> name, words and headers of every problem that there is."""

SENDING = (400, 403, 413, 415, 422, 429, 503, 507)
SENDING_VIDEO = (400, 403, 409, 413, 415, 429, 503, 507)
AS_SENDER = (403, 404, 503)

TAGS = {
    "photos": "Send photos; see and delete what is kept of them.",
    "faces": "Why a face got its answer, and what people say about it.",
    "sets": "Photos that belong together.",
    "videos": "Send videos; follow the analysis; see and delete its results.",
    "mine": "What this sender has sent, known by a cookie.",
    "server": "The models, the use of the server, and this description.",
}

PARAMETERS = {
    **dict.fromkeys(("photo_id", "set_id", "video_id"), replies.KEY),
    "number": {"type": "integer", "minimum": 0, "examples": [1]},
    "kind": {"enum": ["annotated", "blurred"], "type": "string"},
    "key": TEXT | {"examples": [replies.EXAMPLE_MODEL]},
    "name": {"enum": list(FILE_TYPES), "type": "string"},
}
"""The schemas of what stands in addresses."""

WITH_COOKIE = [{"visitor": []}, {}]
"""The cookie is used if there is one; without it nothing is one's own."""

ONLY_SENDER = [{"visitor": []}]
"""Without the cookie of its sender, the answer is 403."""


@dataclass(frozen=True)
class Operation:
    """One method of one address.

    Attributes:
        name: its id.
        method: in small letters.
        path: its address below the root.
        summary: what it does.
        reply: the model of the reply, media type -> schema, or None for an empty one.
        problems: statuses of the problems it may meet, besides 500.
        words: what the reply is.
        status: if all goes well.
        more: other fields of OpenAPI's operation object.
    """

    name: str
    method: str
    path: str
    summary: str
    reply: type[BaseModel] | Mapping | None
    problems: tuple[int, ...] = ()
    words: str = ""
    status: int = 200
    more: Mapping = field(default_factory=dict)


def describe(settings: Settings, root: str) -> dict:
    """Return the description of the API.

    Args:
        settings: how the server runs; sizes and times are in the description.
        root: the address below which the API lies, such as "/api/v1".
    """
    operations = list(_operations(settings))
    used = [each.reply for each in operations if isinstance(each.reply, type)]
    models = dict.fromkeys([*used, replies.NewOpinion, replies.Problem])
    _, schemas = models_json_schema(
        [(model, "serialization") for model in models],
        ref_template=REF,
        schema_generator=_WithoutTitles,
    )
    paths: dict = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method] = _described(each)
    problem = {"application/problem+json": {"schema": _ref(replies.Problem)}}
    return {
        "openapi": "3.1.0",
        "info": _info(settings),
        "servers": [{"url": root}],
        "tags": [{"name": name, "description": words} for name, words in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "responses": {
                name: {"description": words, "headers": headers, "content": problem}
                for name, words, headers in PROBLEMS.values()
            },
            "securitySchemes": {
                "visitor": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": "The session cookie that comes with the first photo or video; "
                    "over TLS its name begins with `__Host-`.",
                }
            },
        },
    }


class _WithoutTitles(GenerateJsonSchema):
    """Schemas without a title for each field, which would only repeat its name."""

    def field_title_should_be_set(self, schema) -> bool:
        return False


def _info(settings: Settings) -> dict:
    keeping = f"This server removes what it kept after {settings.keep_hours:g} hours."
    if settings.keeps_nothing:
        keeping = "This server keeps nothing: only `/recognize` reads photos; it takes no videos."
    lines = [
        "Finds the faces in photos and videos and reads their expressions. A photo or video can be "
        "seen by everybody who has its key of 22 characters. Sets, feedback, `/mine` and deleting "
        "are for the sender only: send back the cookie that came with the first upload; without it "
        "the answer is 403, and `/mine` is empty.",
        keeping,
        "Every problem is a Problem (RFC 9457, `application/problem+json`), also for addresses "
        "that do not exist (404) and for methods that an address does not have (405). Every GET "
        "answers HEAD too.",
    ]
    return {
        "title": "Facial emotion recognition",
        "version": VERSION,
        "summary": "Faces and their emotions in photos and videos",
        "description": "\n\n".join(lines),
        "license": {"name": "MIT", "identifier": "MIT"},
    }


def _described(each: Operation) -> dict:
    """Return an operation as OpenAPI writes it."""
    parts = each.path.split("/")
    tag = "faces" if "faces" in parts else parts[1]
    tag = {"recognize": "photos"}.get(tag, tag if tag in TAGS else "server")
    more = dict(each.more)
    headers, part = more.pop("headers", {}), more.pop("part", None)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": PARAMETERS[name]}
        for name in re.findall(r"{(\w+)}", each.path)
    ] + more.pop("parameters", [])
    success: dict = {"description": each.words or "Done.", "headers": headers}
    if isinstance(each.reply, type):
        success["content"] = {"application/json": {"schema": _ref(each.reply)}}
    elif each.reply is not None:
        success["content"] = each.reply
    responses = {str(each.status): success}
    if part:
        responses["206"] = success | part
    for status in sorted({*each.problems, 500}):
        responses[str(status)] = {"$ref": f"#/components/responses/{PROBLEMS[status][0]}"}
    return {
        "operationId": each.name,
        "tags": [tag],
        "summary": each.summary,
        "parameters": parameters,
        **more,
        "responses": responses,
    }


def _ref(model: type[BaseModel]) -> dict:
    return {"$ref": REF.format(model=model.__name__)}


def _form(name: str, words: str, **more) -> dict:
    """Return the body of a request that brings a file, and may choose a model."""
    properties = {
        name: BINARY | {"description": words},
        "model": TEXT | {"description": "key of an offered model; else the default"},
        **more,
    }
    schema = {"type": "object", "properties": properties, "required": [name]}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _place(words: str) -> dict:
    where = TEXT | {"format": "uri-reference"}
    return {"Location": {"description": words, "schema": where}}


def _operations(settings: Settings) -> Iterator[Operation]:
    """Yield every operation of the API."""
    photo = (
        f"one file of at most {settings.max_upload_mb:g} MB (of 1,048,576 bytes) and "
        f"{settings.max_megapixels:g} million pixels; can be {', '.join(readable_types())}"
    )
    video = (
        f"one file of at most {settings.max_video_mb:g} MB (of 1,048,576 bytes) and "
        f"{settings.max_video_minutes:g} minutes; can be MP4, MOV, WebM, MKV, AVI, MPEG or Ogg"
    )
    most = settings.max_photos
    of_set = {
        "set": replies.KEY | {"description": f"a set of your own, of up to {most} photos"},
        "position": {
            "type": "integer",
            "minimum": 1,
            "maximum": most,
            "description": "place in the order of the set, else last",
        },
    }
    sender, cookie = {"security": ONLY_SENDER}, {"security": WITH_COOKIE}
    one_photo, one_face = "/photos/{photo_id}", "/photos/{photo_id}/faces/{number}"
    yield Operation(
        *("recognize", "post", "/recognize", "Find the faces in a photo; nothing is stored"),
        *(replies.Results, SENDING, "What was found; no face is an empty list."),
        more={"requestBody": _form("photo", photo), "security": []},
    )
    yield Operation(
        *("addPhoto", "post", "/photos", "Find the faces in a photo and keep what was found"),
        *(replies.Photo, (*SENDING, 409), "Read and kept.", 201),
        cookie
        | {
            "requestBody": _form("photo", photo, **of_set),
            "headers": _place("the photo's address"),
            "description": "Without `set`, the photo starts a new one. To add to it, send the key "
            "from the first reply and the cookie that came with it. If a photo cannot be read, the "
            "set keeps the reason until that position is sent again. 409: this server keeps "
            "nothing.",
        },
    )
    yield Operation(
        *("getPhoto", "get", one_photo, "A kept photo", replies.Photo, (404,)),
        "What was found in it, when it expires, and its links.",
        more=cookie,
    )
    yield Operation(
        *("deletePhoto", "delete", one_photo, "Delete a photo at once", None, AS_SENDER),
        *("It is gone, with its results and the faces kept for training.", 204, sender),
    )
    yield Operation(
        *("getPicture", "get", f"{one_photo}/{{kind}}.jpg"),
        "The photo with boxes, or with boxes and faces that nobody can recognize",
        *({"image/jpeg": {"schema": BINARY}}, (404, 429, 503)),
        "In the photo's own size, without its metadata.",
    )
    emotion = TEXT | {"description": "one of the model's; else its answer", "examples": ["happy"]}
    yield Operation(
        *("explainFace", "get", f"{one_face}/explanation"),
        "Which parts of a face spoke for an emotion",
        *(replies.Explanation, (400, 404, 409, 429, 503)),
        "The parts, and a check that hiding them counts.",
        more={
            "parameters": [{"name": "emotion", "in": "query", "schema": emotion}],
            "description": "409: the model that read the photo is not in use any more.",
        },
    )
    yield Operation(
        *("getFeedback", "get", f"{one_face}/feedback", "What was said about a face"),
        *(replies.Opinion, AS_SENDER, "The opinion; 404 if there is none.", 200, sender),
    )
    opinion = {"application/json": {"schema": _ref(replies.NewOpinion)}}
    yield Operation(
        *("putFeedback", "put", f"{one_face}/feedback"),
        "Say which emotion a face shows; it replaces an earlier opinion",
        *(replies.Opinion, (*AS_SENDER, 400, 413, 415, 429, 507), "The opinion as noted."),
        more=sender | {"requestBody": {"required": True, "content": opinion}},
    )
    yield Operation(
        *("deleteFeedback", "delete", f"{one_face}/feedback", "Take back what was said"),
        *(None, AS_SENDER, "It is gone, and the face if it was kept.", 204, sender),
    )
    yield Operation(
        *("getSet", "get", "/sets/{set_id}", "The photos of a set and their summary"),
        *(replies.PhotoSet, AS_SENDER, "The photos by position, and all their faces together."),
        more=sender,
    )
    yield Operation(
        *("deleteSet", "delete", "/sets/{set_id}", "Delete all photos of a set"),
        *(None, AS_SENDER, "They are gone, with the faces kept for training.", 204, sender),
    )
    yield Operation(
        *("getMine", "get", "/mine", "What the sender has sent and is still kept", replies.Mine),
        *((503,), "Newest first; empty lists without the cookie.", 200, cookie),
    )
    yield Operation(
        *("deleteMine", "delete", "/mine", "Delete everything that the sender has sent", None),
        *((403, 503), "It is gone; without the cookie there is nothing to delete.", 204, cookie),
    )
    yield Operation(
        *("addVideo", "post", "/videos", "Follow the faces of a video, after the answer"),
        *(replies.Video, SENDING_VIDEO, "It is in the queue; its address shows the progress."),
        202,
        cookie
        | {
            "requestBody": _form("video", video),
            "headers": _place("the video's address"),
            "description": "Ask its address until `state` is `done` or `failed`; then `problem` "
            "says what is wrong with the file. 409: this server takes no videos. 503: the queue is "
            "full.",
        },
    )
    yield Operation(
        *("getVideo", "get", "/videos/{video_id}", "A video", replies.Video, (404, 503)),
        "Its place in the queue, the progress, or the results.",
    )
    yield Operation(
        *("deleteVideo", "delete", "/videos/{video_id}", "Cancel or delete a video at once", None),
        *(AS_SENDER, "It and its results are gone.", 204, sender),
    )
    wanted = {"name": "Range", "in": "header", "schema": TEXT | {"examples": ["bytes=0-1023"]}}
    yield Operation(
        *("getVideoFile", "get", "/videos/{video_id}/files/{name}", "A file made from a video"),
        {kind: {"schema": BINARY} for kind in FILE_TYPES.values()},
        *((404, 416, 503), "The whole file."),
        more={
            "part": {"description": "The part in the header `Range`.", "headers": CONTENT_RANGE},
            "parameters": [wanted],
            "description": "The annotated video, a picture of it, the timeline, the tables with a "
            "row a face a frame, and the summary; 404 until it is done.",
        },
    )
    yield Operation("getModels", "get", "/models", "The models on offer", replies.Models)
    yield Operation(
        *("getModel", "get", "/models/{key}"),
        "A model and its card; slashes in its key may stand as they are or as %2F",
        *(replies.ModelWithCard, (404,)),
    )
    yield Operation(
        *("getMonitoring", "get", "/monitoring"),
        "How the server is used, and whether its model is due for retraining",
        *(replies.Monitoring, (404, 503), "Numbers only; 404 if the server does not tell."),
    )
    document = {"application/json": {"schema": {"type": "object"}}}
    yield Operation("getDescription", "get", "/openapi.json", "This description", document)
