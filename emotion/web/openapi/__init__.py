"""The description of the API (OpenAPI 3.1), from its addresses, its views and `replies`."""

import re
from collections import namedtuple

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from emotion.images.guards import readable_types
from emotion.web.factory import api  # with every view
from emotion.web.openapi import replies
from emotion.web.settings import Settings
from emotion.web.videos.files import FILE_TYPES
from emotion.web.visitors import COOKIE

REF = "#/components/schemas/{model}"
TEXT, BINARY = {"type": "string"}, {"type": "string", "format": "binary"}
DOCUMENT = {"application/json": {"schema": {"type": "object"}}}
JPEG = {"image/jpeg": {"schema": BINARY}}
FILES = {kind: {"schema": BINARY} for kind in FILE_TYPES.values()}

PROBLEMS = {  # status -> name and words of every problem that there is
    400: ("BadRequest", "Something is missing, or asks for what is not offered."),
    401: ("Unauthorized", "This is for the operator, by HTTP Basic with the operator's token."),
    403: ("Forbidden", "The sender's cookie is missing, or a page of another site sent this."),
    404: ("NotFound", "It does not exist, has expired, or was deleted."),
    405: ("MethodNotAllowed", "The address exists but not with this method."),
    409: ("Conflict", "The server as it runs now cannot do this; the detail says why."),
    413: ("ContentTooLarge", "The body or the file has too many bytes."),
    415: ("UnsupportedMediaType", "The file or the body is of no type that can be read."),
    416: ("RangeNotSatisfiable", "The file ends before this part."),
    422: ("UnprocessableContent", "The photo is damaged, too small or too large in pixels."),
    429: ("TooManyRequests", "One address sent or asked for too much."),
    500: ("InternalServerError", "A mistake of the server's own; it is in its log."),
    503: ("ServiceUnavailable", "Busy, or without its model, database or folder at the moment."),
    507: ("InsufficientStorage", "The server's disk is full."),
}
PART = {"Content-Range": {"description": "which part, and how long it is", "schema": TEXT}}
RETRY = {"description": "seconds after which the same request may succeed"}
RETRY_AFTER = {"Retry-After": RETRY | {"schema": {"type": "integer", "minimum": 1}}}
SIGN_IN = {"WWW-Authenticate": {"description": "how to sign in", "schema": TEXT}}
METHODS = {"Allow": {"description": "the methods it has", "schema": TEXT}}
HEADERS = {401: SIGN_IN, 405: METHODS, 416: PART, 429: RETRY_AFTER, 503: RETRY_AFTER}

SENDING = (400, 403, 413, 415, 422, 429, 503, 507)
SENDING_MANY = (400, 403, 413, 429, 503, 507)
SENDING_VIDEO = (400, 403, 409, 413, 415, 429, 503, 507)
SENDER = (403, 404, 503)
SAYING = (*SENDER, 400, 413, 415, 429, 507)
EXPLAINING = (400, 404, 409, 429, 503)

TAGS = {
    "photos": "Send photos; see and delete what is kept of them.",
    "faces": "Why a face got its answer, and what people say about it.",
    "sets": "Photos that belong together.",
    "videos": "Send videos; follow the analysis; see and delete its results.",
    "mine": "What this sender has sent, known by a cookie.",
    "server": "The models, the use of the server, and this description.",
}
IN_ADDRESSES = {
    "face_id": replies.FACE_KEY,
    **dict.fromkeys(("photo_id", "set_id", "video_id"), replies.KEY),
    "number": {"type": "integer", "minimum": 0, "examples": [1]},
    "kind": {"enum": ["annotated", "blurred"], "type": "string"},
    "key": TEXT | {"examples": [replies.EXAMPLE_NAMES["key"]]},
    "name": {"enum": list(FILE_TYPES), "type": "string"},
}


# what an endpoint answers: a model, media type -> schema, or None; these problems and 500
Answers = namedtuple("Answers", "id reply problems words status", defaults=[(), "Done.", 200])
ENDPOINTS = {
    "recognize": Answers("recognize", replies.Results, SENDING, "No face is an empty list."),
    "recognize_many": Answers("recognizeMany", replies.Many, SENDING_MANY, "In their order."),
    "add_photo": Answers("addPhoto", replies.Photo, (*SENDING, 409), "Read and kept.", 201),
    "photo": Answers("getPhoto", replies.Photo, (404,), "The results, and when they expire."),
    "delete_photo": Answers("deletePhoto", None, SENDER, status=204),
    "picture": Answers("getPicture", JPEG, (404, 429, 503), "In full size, without metadata."),
    "explanation": Answers("explainFace", replies.Explanation, EXPLAINING, "The parts, checked."),
    "opinion": Answers("getFeedback", replies.Opinion, SENDER, "404 if there is none."),
    "say": Answers("putFeedback", replies.Opinion, SAYING, "The opinion as noted."),
    "withdraw": Answers("deleteFeedback", None, SENDER, status=204),
    "photo_set": Answers("getSet", replies.PhotoSet, SENDER, "The photos, all faces together."),
    "delete_set": Answers("deleteSet", None, SENDER, status=204),
    "mine": Answers("getMine", replies.Mine, (400, 503), "Newest first; empty without the cookie."),
    "delete_mine": Answers("deleteMine", None, (403, 503), status=204),
    "given": Answers("getGivenFaces", replies.GivenFaces, (503,), "Newest first."),
    "withdraw_all_given": Answers("deleteGivenFaces", None, (403, 503), status=204),
    "withdraw_given": Answers("deleteGivenFace", None, SENDER, status=204),
    "add_video": Answers("addVideo", replies.Video, SENDING_VIDEO, "It is in the queue.", 202),
    "queue": Answers("getQueue", replies.VideoQueue, (409, 429, 503), "One would be taken now."),
    "video": Answers("getVideo", replies.Video, (404, 503), "Its place in the queue, or results."),
    "delete_video": Answers("deleteVideo", None, SENDER, status=204),
    "video_file": Answers("getVideoFile", FILES, (404, 416, 503), "The whole file."),
    "offered_models": Answers("getModels", replies.Models, words="The default first."),
    "model": Answers("getModel", replies.ModelWithCard, (404,), "What is known about it."),
    "use": Answers("getMonitoring", DOCUMENT, (401, 404, 429, 503), "Numbers, about no person."),
    "description": Answers("getDescription", DOCUMENT, words="OpenAPI 3.1."),
}
# but not required
COOKIE_WANTED = "add_photo photo mine delete_mine add_video given withdraw_all_given".split()
ABOUT = (
    "Finds the faces in photos and videos and reads their expressions. A photo or video can be "
    "seen by everybody who has its key of 22 characters. Sets, feedback, `/mine` and deleting are "
    "for the sender only: send back the cookie that came with the first upload; without it the "
    "answer is 403, and `/mine` is empty.\n\n{keeping}\n\n"
    "Every problem is a Problem (RFC 9457, `application/problem+json`), also for addresses that do "
    "not exist (404) and for methods that an address does not have (405). Every GET answers HEAD "
    "too."
)


def describe(settings: Settings, root: str) -> dict:
    """Return the description of the API below `root`, such as "/api/v1", on a server so set."""
    models = [each.reply for each in ENDPOINTS.values() if isinstance(each.reply, type)]
    models = dict.fromkeys([*models, replies.NewOpinion, replies.Problem], "serialization").items()
    _, schemas = models_json_schema([*models], ref_template=REF)
    app, bodies, paths = Flask("description"), _bodies(settings), {}
    app.register_blueprint(api)
    for rule in app.url_map.iter_rules():
        endpoint = rule.endpoint.removeprefix("api.")
        if endpoint in ENDPOINTS:
            path = re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"{\1}", rule.rule).removeprefix(root)
            (method,) = rule.methods - {"HEAD", "OPTIONS"}
            summary = app.view_functions[rule.endpoint].__doc__.splitlines()[0]
            operation = _operation(endpoint, path) | {"summary": summary} | bodies.get(endpoint, {})
            paths.setdefault(path, {})[method.lower()] = operation
    problem = {"application/problem+json": _ref(replies.Problem)}
    keeping = "This server keeps nothing: only `/recognize` reads photos; it takes no videos."
    if not settings.keeps_nothing:
        keeping = f"This server removes what it kept after {settings.keep_hours:g} hours."
    cookie = "The session cookie of the first upload; over TLS its name begins with `__Host-`."
    visitor = {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": cookie}
    info = {"title": "Facial emotion recognition", "version": "1.0.0"}
    info |= {"summary": "Faces and their emotions in photos and videos"}
    info |= {"description": ABOUT.format(keeping=keeping)}
    return {
        "openapi": "3.1.0",
        "info": info | {"license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": root}],
        "tags": [{"name": name, "description": words} for name, words in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "responses": {
                name: {"description": words, "headers": HEADERS.get(status, {}), "content": problem}
                for status, (name, words) in PROBLEMS.items()
            },
            "securitySchemes": {"visitor": visitor, "key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: str, path: str) -> dict:
    answers = ENDPOINTS[endpoint]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": IN_ADDRESSES[name]}
        for name in re.findall(r"{(\w+)}", path)
    ]
    content = answers.reply
    if isinstance(content, type):
        content = {"application/json": _ref(content)}
    success = {"description": answers.words} | ({"content": content} if content else {})
    if answers.status in (201, 202):
        where = TEXT | {"format": "uri-reference"}
        success["headers"] = {"Location": {"description": "its address", "schema": where}}
    responses = {str(answers.status): success}
    if endpoint == "explanation":
        words = "one of the model's emotions; else its answer"
        emotion = TEXT | {"description": words, "examples": ["happy"]}
        parameters.append({"name": "emotion", "in": "query", "schema": emotion})
    if endpoint == "mine":
        for name, words in (("offset", "how many to pass over"), ("limit", "the most of a kind")):
            number = {"type": "integer", "minimum": int(name == "limit"), "description": words}
            parameters.append({"name": name, "in": "query", "schema": number})
    if endpoint == "video_file":
        wanted = TEXT | {"examples": ["bytes=0-1023"]}
        parameters.append({"name": "Range", "in": "header", "schema": wanted})
        responses["206"] = success | {"description": "The part asked for.", "headers": PART}
    for problem in sorted({*answers.problems, 500}):
        responses[str(problem)] = {"$ref": f"#/components/responses/{PROBLEMS[problem][0]}"}
    place = "photos" if endpoint.startswith("recognize") else path.split("/")[1]
    tag = "faces" if "/faces/" in path else place if place in TAGS else "server"
    operation = {"operationId": answers.id, "tags": [tag], "parameters": parameters}
    operation["responses"] = responses
    if endpoint in COOKIE_WANTED:
        operation["security"] = [{"visitor": []}, {}]
    elif set(SENDER) <= set(answers.problems):
        operation["security"] = [{"visitor": []}]  # without it the answer is 403
    return operation


def _ref(model: type[BaseModel]) -> dict:
    return {"schema": {"$ref": REF.format(model=model.__name__)}}


def _bodies(settings: Settings) -> dict[str, dict]:
    most, unit = settings.max_photos, "MB (of 1,048,576 bytes)"
    photo = f"at most {settings.max_upload_mb:g} {unit} and {settings.max_megapixels:g} million "
    photo += f"pixels; can be {', '.join(readable_types())}"
    video = f"at most {settings.max_video_mb:g} {unit} and {settings.max_video_minutes:g} minutes; "
    video += "can be MP4, MOV, WebM, MKV, AVI, MPEG or Ogg"
    order = {"description": "place in the order of the set, else last"}
    own = replies.KEY | {"description": f"a set of your own, of up to {most} photos"}
    names = TEXT | {"description": "'on' keeps the name of the file for its sender"}
    place = order | {"type": "integer", "minimum": 1, "maximum": most}
    of_set = {"keep_names": names, "set": own, "position": place}

    def form(name: str, file: str, many: bool = False, **more: dict) -> dict:
        model = TEXT | {"description": "key of an offered model; else the default"}
        one = BINARY | {"description": f"{'a' if many else 'one'} file of {file}"}
        files = {"type": "array", "items": one, "minItems": 1, "maxItems": most} if many else one
        properties = {name: files, "model": model, **more}
        schema = {"type": "object", "properties": properties, "required": [name]}
        return {"multipart/form-data": {"schema": schema}}

    contents = {
        "recognize": form("photo", photo) | JPEG,
        "recognize_many": form("photo", photo, many=True),
        "add_photo": form("photo", photo, **of_set) | JPEG,
        "add_video": form("video", video),
        "say": {"application/json": _ref(replies.NewOpinion)},
    }
    bodies = {name: {"required": True, "content": content} for name, content in contents.items()}
    return {name: {"requestBody": body} for name, body in bodies.items()}
