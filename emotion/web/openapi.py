"""The description of the API (OpenAPI 3.1): what can be asked, and every answer to it."""

from collections.abc import Iterable, Mapping

from emotion.images.guards import readable_types
from emotion.web.openapi_schemas import (
    EXAMPLE_ID,
    EXAMPLE_MODEL,
    EXAMPLE_SET,
    EXAMPLE_VIDEO,
    count,
    key,
    ref,
    schemas,
    text,
)
from emotion.web.settings import Settings
from emotion.web.videos.files import FILE_TYPES
from emotion.web.visitors import COOKIE

VERSION = "1.0.0"

RETRY_AFTER = {
    "description": "seconds after which the same request may succeed",
    "schema": {"type": "integer", "minimum": 1},
}

PROBLEMS = {
    400: ("BadRequest", "The request lacks something, or asks for what there is not.", {}),
    403: (
        "Forbidden",
        "The sender alone may do this, and the sender's cookie is missing; or a browser sent this "
        "from a page of another site.",
        {},
    ),
    404: ("NotFound", "There is no such thing, its time is up, or it was deleted.", {}),
    405: (
        "MethodNotAllowed",
        "The address exists but not with this method.",
        {"Allow": {"description": "the methods it has", "schema": {"type": "string"}}},
    ),
    409: ("Conflict", "The server as it runs now cannot do this; the detail says why.", {}),
    413: ("ContentTooLarge", "The body or the file has too many bytes.", {}),
    415: ("UnsupportedMediaType", "The file or the body is of no type that can be read.", {}),
    416: (
        "RangeNotSatisfiable",
        "The file ends before the part that is asked for.",
        {"Content-Range": {"description": "how long it is", "schema": {"type": "string"}}},
    ),
    422: ("UnprocessableContent", "The photo is damaged, too small or too large in pixels.", {}),
    429: (
        "TooManyRequests",
        "More than one address may send or ask for in a while.",
        {"Retry-After": RETRY_AFTER},
    ),
    500: ("InternalServerError", "A mistake of the server's own; it is in its log.", {}),
    503: (
        "ServiceUnavailable",
        "Busy, or without its model, database or folder at the moment.",
        {"Retry-After": RETRY_AFTER},
    ),
    507: ("InsufficientStorage", "The server's disk is full.", {}),
}
"""Status -> name, words and headers of every problem that there is."""

SENDING = (400, 403, 413, 415, 422, 429, 503, 507)
"""What may come of sending a photo."""

SENDING_VIDEO = (400, 403, 409, 413, 415, 429, 503, 507)
"""What may come of sending a video, whose work comes later."""

AS_SENDER = (403, 404, 503)
"""What may come of what the sender alone may do with what is kept."""


def describe(settings: Settings, root: str) -> dict:
    """Return the description of the API.

    Args:
        settings: how the server runs; sizes and times are in the description.
        root: the address below which the API lies, such as "/api/v1".
    """
    return {
        "openapi": "3.1.0",
        "info": _info(settings),
        "servers": [{"url": root}],
        "tags": [{"name": name, "description": words} for name, words in TAGS.items()],
        "paths": _paths(settings),
        "components": {
            "schemas": schemas(),
            "responses": {name: _problem(*rest) for name, *rest in PROBLEMS.values()},
            "securitySchemes": {
                "visitor": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": "The session cookie that the first kept photo or video brings; "
                    "over TLS its name begins with `__Host-`.",
                }
            },
        },
    }


TAGS = {
    "photos": "Send photos; see and delete what is kept of them.",
    "faces": "Why a face got its answer, and what people say about it.",
    "sets": "Photos that belong together.",
    "videos": "Send videos; see how far the work is; see and delete what came of it.",
    "mine": "What this sender has sent, known by a cookie.",
    "server": "The models, the use of the server, and this description.",
}


def _info(settings: Settings) -> dict:
    """Return what the API is, in words."""
    lines = [
        "Finds the faces in photos and videos and reads their expressions. An address with a key "
        "of 22 characters shows its photo or video to everybody who has it. Sets, feedback, "
        "`/mine` and deleting are for the sender alone: send back the cookie that came with the "
        "first upload; without it the answer is 403, and `/mine` is empty.",
        _keeping(settings),
        "Each problem is a Problem (RFC 9457, `application/problem+json`), also those of addresses "
        "that do not exist (404) and of methods that an address does not have (405). Every GET "
        "answers HEAD too.",
    ]
    return {
        "title": "Facial emotion recognition",
        "version": VERSION,
        "summary": "Faces and their emotions in photos and videos",
        "description": "\n\n".join(lines),
        "license": {"name": "MIT", "identifier": "MIT"},
    }


def _keeping(settings: Settings) -> str:
    """Return how long this server keeps what it finds."""
    if settings.keeps_nothing:
        return "This server keeps nothing: only `/recognize` reads photos, and it takes no videos."
    return f"This server removes what it kept after {settings.keep_hours:g} hours."


def _problem(words: str, headers: Mapping[str, dict]) -> dict:
    """Return the response to a problem."""
    return {
        "description": words,
        **({"headers": dict(headers)} if headers else {}),
        "content": {"application/problem+json": {"schema": ref("Problem")}},
    }


# What all operations are built from


def operation(
    name: str,
    tag: str,
    summary: str,
    success: Mapping[str, dict],
    problems: Iterable[int] = (),
    body: Mapping | None = None,
    **more,
) -> dict:
    """Return an operation.

    Args:
        name: its id.
        tag: the group it belongs to.
        summary: what it does.
        success: status -> response where all goes well.
        problems: statuses of the problems it may meet, beside 500.
        body: what the request brings.
        more: other fields of OpenAPI's operation object.
    """
    failures = {
        str(status): {"$ref": f"#/components/responses/{PROBLEMS[status][0]}"}
        for status in sorted({*problems, 500})
    }
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        **more,
        **({"requestBody": body} if body else {}),
        "responses": {**success, **failures},
    }


def answer(schema: str, words: str) -> dict:
    """Return the responses of an operation that answers 200 with JSON."""
    content = {"application/json": {"schema": ref(schema)}}
    return {"200": {"description": words, "content": content}}


def done(words: str) -> dict:
    """Return the responses of an operation that answers nothing."""
    return {"204": {"description": words}}


def parameter(name: str, schema: Mapping, place: str = "path") -> dict:
    """Return a parameter; those of the path are required."""
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


PHOTO_ID = parameter("photo_id", key("key of the photo", EXAMPLE_ID))
SET_ID = parameter("set_id", key("key of the set", EXAMPLE_SET))
NUMBER = parameter("number", count("number of the face in the photo", least=1) | {"examples": [1]})
VIDEO_ID = parameter("video_id", key("key of the video", EXAMPLE_VIDEO))
WITH_COOKIE = [{"visitor": []}, {}]
"""The cookie is used where there is one; without it there is simply nothing of one's own."""

ONLY_SENDER = [{"visitor": []}]
"""Without the cookie of who sent it, the answer is 403."""


def _paths(settings: Settings) -> dict:
    """Return path -> operations."""
    return {
        **_photo_paths(settings),
        **_face_paths(),
        **_set_paths(),
        **_video_paths(settings),
        **_server_paths(),
    }


# Photos


def _photo_paths(settings: Settings) -> dict:
    of_photo = {"parameters": [PHOTO_ID]}
    return {
        "/recognize": {"post": _recognize(settings)},
        "/photos": {"post": _add_photo(settings)},
        "/photos/{photo_id}": of_photo | {"get": _get_photo(), "delete": _delete_photo()},
        "/photos/{photo_id}/{kind}.jpg": of_photo | {"get": _get_picture()},
    }


def _recognize(settings: Settings) -> dict:
    return operation(
        "recognize",
        "photos",
        "Find the faces in a photo; nothing is stored",
        answer("Results", "What was found; no face is an empty list."),
        SENDING,
        _form(settings),
        security=[],
    )


def _add_photo(settings: Settings) -> dict:
    content = {"application/json": {"schema": ref("Photo")}}
    where = {"description": "the photo's address", "schema": text(format="uri-reference")}
    created = {"description": "Read and kept.", "headers": {"Location": where}, "content": content}
    return operation(
        "addPhoto",
        "photos",
        "Find the faces in a photo and keep what was found",
        {"201": created},
        (*SENDING, 409),
        _form(settings, _set_fields(settings)),
        description="Without `set`, the photo begins one. To add to it, send the key from the "
        "first reply and the cookie that came with it. The set keeps why a photo could not be read "
        "until that position is sent again. 409: this server keeps nothing.",
        security=WITH_COOKIE,
    )


def _set_fields(settings: Settings) -> dict:
    """Return the fields of a form that say where a kept photo belongs."""
    most = settings.max_photos
    return {
        "set": key(f"a set of one's own, of up to {most} photos", EXAMPLE_SET),
        "position": count("place in the order of the set, else last", least=1) | {"maximum": most},
    }


def _form(settings: Settings, more: Mapping[str, dict] | None = None) -> dict:
    """Return the form that brings a photo."""
    types = ", ".join(readable_types())
    photo = text(
        f"one file of at most {settings.max_upload_mb:g} MB (of 1,048,576 bytes) and "
        f"{settings.max_megapixels:g} million pixels; read are {types}",
        format="binary",
    )
    return form_with("photo", photo, more)


def form_with(name: str, file: Mapping, more: Mapping[str, dict] | None = None) -> dict:
    """Return a form that brings a file, and may choose a model."""
    model = text("key of an offered model; else the default", examples=[EXAMPLE_MODEL])
    schema = {
        "type": "object",
        "properties": {name: file, "model": model, **(more or {})},
        "required": [name],
    }
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _get_photo() -> dict:
    words = "What was found in it, until when it is kept, and its links."
    return operation(
        "getPhoto", "photos", "A kept photo", answer("Photo", words), (404,), security=WITH_COOKIE
    )


def _delete_photo() -> dict:
    words = "It, its results and the faces kept from it for training are gone."
    return operation(
        "deletePhoto",
        "photos",
        "Delete a photo at once",
        done(words),
        AS_SENDER,
        security=ONLY_SENDER,
    )


def _get_picture() -> dict:
    kind = {"enum": ["annotated", "blurred"], "type": "string"}
    return operation(
        "getPicture",
        "photos",
        "The photo with boxes, or with boxes and faces that nobody can recognize",
        {
            "200": {
                "description": "In the photo's own size, without its metadata.",
                "content": {"image/jpeg": {"schema": text(format="binary")}},
            }
        },
        (404, 429, 503),
        parameters=[parameter("kind", kind)],
    )


# Faces


def _face_paths() -> dict:
    of_face = {"parameters": [PHOTO_ID, NUMBER]}
    address = "/photos/{photo_id}/faces/{number}"
    return {
        f"{address}/explanation": of_face | {"get": _explain()},
        f"{address}/feedback": of_face
        | {"get": _get_opinion(), "put": _put_opinion(), "delete": _delete_opinion()},
    }


def _explain() -> dict:
    emotion = text("one of the model's; else its answer", examples=["happy"])
    return operation(
        "explainFace",
        "faces",
        "Which parts of a face spoke for an emotion",
        answer("Explanation", "The parts, and a check that hiding them counts."),
        (400, 404, 409, 429, 503),
        description="409: the model that read the photo is not in use any more.",
        parameters=[parameter("emotion", emotion, "query")],
    )


def _get_opinion() -> dict:
    return operation(
        "getFeedback",
        "faces",
        "What was said about a face",
        answer("Opinion", "The opinion; 404 where there is none."),
        AS_SENDER,
        security=ONLY_SENDER,
    )


def _put_opinion() -> dict:
    return operation(
        "putFeedback",
        "faces",
        "Say which emotion a face shows; an earlier word is replaced",
        answer("Opinion", "The opinion as it is noted."),
        (*AS_SENDER, 400, 413, 415, 429, 507),
        {"required": True, "content": {"application/json": {"schema": ref("NewOpinion")}}},
        security=ONLY_SENDER,
    )


def _delete_opinion() -> dict:
    words = "What was said is gone, and the face if it was kept; so it is if nothing was said."
    return operation(
        "deleteFeedback",
        "faces",
        "Take back what was said",
        done(words),
        AS_SENDER,
        security=ONLY_SENDER,
    )


# Sets, and the sender's own


def _set_paths() -> dict:
    return {
        "/sets/{set_id}": {"parameters": [SET_ID], "get": _get_set(), "delete": _delete_set()},
        "/mine": {"get": _get_mine(), "delete": _delete_mine()},
    }


def _get_set() -> dict:
    words = "The photos by position, and what all their faces show together."
    summary = "The photos of a set and their summary"
    return operation(
        "getSet", "sets", summary, answer("PhotoSet", words), AS_SENDER, security=ONLY_SENDER
    )


def _delete_set() -> dict:
    summary = "Delete all photos of a set"
    words = "All of them are gone, and the faces kept from them for training."
    return operation("deleteSet", "sets", summary, done(words), AS_SENDER, security=ONLY_SENDER)


def _get_mine() -> dict:
    return operation(
        "getMine",
        "mine",
        "What the sender has sent and is still kept",
        answer("Mine", "Newest first; an empty list without the cookie."),
        (503,),
        security=WITH_COOKIE,
    )


def _delete_mine() -> dict:
    return operation(
        "deleteMine",
        "mine",
        "Delete all that the sender has sent",
        done("All of it is gone, kept faces too; without the cookie there is nothing to delete."),
        (403, 503),
        security=WITH_COOKIE,
    )


# Videos


def _video_paths(settings: Settings) -> dict:
    of_video = {"parameters": [VIDEO_ID]}
    return {
        "/videos": {"post": _add_video(settings)},
        "/videos/{video_id}": of_video | {"get": _get_video(), "delete": _delete_video()},
        "/videos/{video_id}/files/{name}": of_video | {"get": _get_video_file()},
    }


def _add_video(settings: Settings) -> dict:
    file = text(
        f"one file of at most {settings.max_video_mb:g} MB (of 1,048,576 bytes) and "
        f"{settings.max_video_minutes:g} minutes; read are MP4, MOV, WebM, MKV, AVI, MPEG and Ogg",
        format="binary",
    )
    content = {"application/json": {"schema": ref("Video")}}
    where = {"description": "the video's address", "schema": text(format="uri-reference")}
    taken = {
        "description": "It waits for its turn; its address tells how far the work is.",
        "headers": {"Location": where},
        "content": content,
    }
    return operation(
        "addVideo",
        "videos",
        "Follow the faces of a video; the work goes on after the answer",
        {"202": taken},
        SENDING_VIDEO,
        form_with("video", file),
        description="Ask its address until `state` is `done` or `failed`; what is wrong with the "
        "file is in `problem` then. 409: this server takes no videos. 503: too many wait.",
        security=WITH_COOKIE,
    )


def _get_video() -> dict:
    words = "Where it is in the queue, how far the work is, or what came of it."
    return operation("getVideo", "videos", "A video", answer("Video", words), (404, 503))


def _delete_video() -> dict:
    words = "It and its results are gone; work on it stops."
    return operation(
        "deleteVideo",
        "videos",
        "Cancel or delete a video at once",
        done(words),
        AS_SENDER,
        security=ONLY_SENDER,
    )


def _get_video_file() -> dict:
    content = {kind: {"schema": text(format="binary")} for kind in FILE_TYPES.values()}
    part = {"description": "which part it is", "schema": {"type": "string"}}
    return operation(
        "getVideoFile",
        "videos",
        "A file that a video became",
        {
            "200": {"description": "The whole file.", "content": content},
            "206": {
                "description": "The part that the header `Range` asks for.",
                "headers": {"Content-Range": part},
                "content": content,
            },
        },
        (404, 416, 503),
        description="The annotated video, a picture of it, the timeline, the tables with a row a "
        "face a frame, and the summary; 404 until it is done.",
        parameters=[
            parameter("name", {"enum": list(FILE_TYPES), "type": "string"}),
            parameter("Range", text(examples=["bytes=0-1023"]), "header"),
        ],
    )


# The server


def _server_paths() -> dict:
    name = parameter("key", text("key of the model", examples=[EXAMPLE_MODEL]))
    return {
        "/models": {"get": _get_models()},
        "/models/{key}": {"parameters": [name], "get": _get_model()},
        "/monitoring": {"get": _get_monitoring()},
        "/openapi.json": {"get": _get_description()},
    }


def _get_models() -> dict:
    words = "The default first."
    return operation("getModels", "server", "The models on offer", answer("Models", words))


def _get_model() -> dict:
    words = "What is known about it."
    summary = "A model and its card; slashes in its key may stand as they are or as %2F"
    return operation("getModel", "server", summary, answer("ModelWithCard", words), (404,))


def _get_monitoring() -> dict:
    return operation(
        "getMonitoring",
        "server",
        "How the server is used, and whether its model is due for retraining",
        answer("Monitoring", "Numbers alone; 404 where the server does not tell."),
        (404, 503),
    )


def _get_description() -> dict:
    content = {"application/json": {"schema": {"type": "object"}}}
    success = {"200": {"description": "OpenAPI 3.1.", "content": content}}
    return operation("getDescription", "server", "This description", success)
