"""The replies of the API as pydantic models, which describe themselves in JSON Schema."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from emotion.faces import Face as FoundFace
from emotion.labels import EMOTIONS
from emotion.rows import SCHEMA, results_to_dict
from emotion.web.storage import ID_PATTERN
from emotion.web.videos.files import LINKS
from emotion.web.videos.queue import STATES

EXAMPLE_SHA256 = "78e88e0b0625db529f33624088c14cfb49908a6f7a1993ba5cdf6f0b70133202"
EXAMPLE_NAMES = {"key": "detection_model", "title": "everyday photos (FER+)"}
ID = "Zk3mB0aF4qTt1nSg8vXw2Q"
KEY = {"type": "string", "pattern": f"^{ID_PATTERN.pattern}$", "examples": [ID]}
FACE_KEY = {"type": "string", "pattern": "^[0-9a-f]{32}$", "examples": [EXAMPLE_SHA256[:32]]}
CHANCES = dict(zip(EMOTIONS, (0.01, 0.002, 0.008, 0.95, 0.01, 0.01, 0.01), strict=True))
EXAMPLE_FACE = FoundFace((412, 160, 236, 236), 8.4127, CHANCES, agreement=6)
EXAMPLE = results_to_dict([EXAMPLE_FACE], (1024, 768), EXAMPLE_NAMES["key"], EXAMPLE_SHA256)
EXAMPLE["model"] |= EXAMPLE_NAMES


def about(kind, description: str, **more):
    return Annotated[kind, Field(description=description, **more)]


def every(kind, names: str) -> dict:
    return dict.fromkeys(names.split(), kind)


Count = Annotated[int, Field(ge=0)]
FromOne = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
People = Annotated[int, Field(ge=0, le=10)]
Seconds = Annotated[float, Field(ge=0)]
Link = Annotated[str, Field(json_schema_extra={"format": "uri-reference"})]
WHEN = {"format": "date-time", "examples": ["2026-11-21T19:52:07Z"]}
Moment = Annotated[str, Field(json_schema_extra=WHEN)]
Key = Annotated[str, Field(json_schema_extra=KEY)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", examples=[EXAMPLE_SHA256])]
VERSION = Field(alias="schema", description="version of this form")


class Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


def reply(name: str, base: type[Reply] = Reply, /, **fields) -> type[Reply]:
    return create_model(name, __base__=base, **fields)


Detail = about(str, "what was expected and what was received, in a sentence")
WRONG = {"__doc__": "What went wrong (RFC 9457).", "type": Literal["about:blank"]}
Problem = reply("Problem", **WRONG, title=str, status=int, detail=Detail)

# Photos and faces
Size = reply("Size", **every(FromOne, "width height"))
Box = reply("Box", Size, **every(int, "x y"))
Face = reply(
    "Face",
    box=Box,
    score=about(float, "how sure it is a face, 0 to 1"),
    emotion=str,
    confidence=Share,
    probabilities=about(dict[str, Share], "in the model's order; they sum to 1"),
    sure=about(bool, "whether the answer is clear enough to rely on"),
    agreement=about(People | None, "how many of 10 would name the emotion; null: it cannot say"),
    verdict=about(str, "the answer in a few words"),
    candidates=about(list[str], "what it may be", min_length=1, max_length=3),
    runner_up=about(str | None, "the second candidate; null if there is one only"),
    notes=about(list[str], "what may make the answer unreliable"),
)
ModelNames = reply(
    "ModelNames",
    key=about(str, "what a photo asks for it by", examples=[EXAMPLE_NAMES["key"]]),
    title=about(str, "for people", examples=[EXAMPLE_NAMES["title"]]),
)
ModelName = reply("ModelName", ModelNames, name=str, sha256=Sha256)


class Results(Reply):
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})
    schema_: Literal[SCHEMA] = VERSION
    model: ModelName
    image: Size
    faces: about(list[Face], "from left to right; the first has the number 1")
    faces_left_out: about(int, "smaller ones, where there are very many") = 0


OneOfMany = reply("OneOfMany", results=Results | None, problem=about(str | None, "why not"))
Many = reply("Many", photos=list[OneOfMany])
FaceLinks = reply("FaceLinks", **every(Link, "page picture explanation feedback"))
OfPhoto = every(Link, "self page annotated blurred thumbnail")
PhotoLinks = reply("PhotoLinks", **OfPhoto, set=Link | None, faces=list[FaceLinks])
PhotoKey = about(Key, "who knows it can see the photo")
SetKey = about(Key | None, "the key of its set; null unless the sender asks")
Kept = {"id": PhotoKey, "set": SetKey, **every(Moment, "created expires")}
FileName = about(str, "of the file, if `keep_names` was sent, for the sender; else empty")
Photo = reply("Photo", **Kept, name=FileName, links=PhotoLinks, results=Results)
Row = Annotated[list[float], Field(min_length=48, max_length=48)]
Heat = Annotated[list[Row], Field(min_length=48, max_length=48)]
Explanation = reply(
    "Explanation",
    __doc__="Which parts of a face spoke for an emotion (occlusion, Zeiler and Fergus 2014).",
    emotion=str,
    before=about(Share, "its probability with the whole face in view"),
    hidden=about(Share, "with the fifth of the face hidden that spoke most for it"),
    elsewhere=about(Share, "with as much hidden elsewhere, mean of several places"),
    holds=about(bool, "whether hiding that fifth lowers it, and more than elsewhere"),
    heat=about(Heat, "how much the log-odds of the emotion fall if a part of the face is hidden"),
)
WORDS = {"__doc__": "What somebody sees in a face, what the model gave, and if the face is kept."}
Opinion = reply(
    "Opinion", **WORDS, **every(str, "emotion given"), **every(bool, "agrees kept"), said=Moment
)


class NewOpinion(Reply):
    model_config = ConfigDict(json_schema_extra={"examples": [{"emotion": "happy"}]})
    emotion: about(str, "one of the emotions of the model that read the photo")
    keep: about(bool, "also give the 48 x 48 grey crop for training, until you withdraw it") = False


# Sets, and the sender's own
SetLinks = reply("SetLinks", **every(Link, "self page csv annotated blurred"))
WhyNot = about(str | None, "why it, or a part of a video, could not be read")
PhotoInSet = reply("PhotoInSet", position=FromOne, problem=WhyNot, photo=Photo | None)
Shares = every(Share, "share mean_probability")
EmotionShare = reply("EmotionShare", emotion=str, **every(Count, "sure unsure"), **Shares)
InSet = {"photos": list[PhotoInSet], "faces": Count, "summary": list[EmotionShare]}
PhotoSet = reply("PhotoSet", id=about(Key, "of use to its sender only"), links=SetLinks, **InSet)
Own = reply(
    "Own",
    id=Key,
    **every(Moment, "created expires"),
    faces=about(Count, "in a video: people that were followed"),
    emotions=about(list[str], "of each face, in a video the longest of the first few"),
    verdicts=list[str],
    model=about(ModelNames | None, "null until a video is done"),
    problem=WhyNot,
)
OwnPhoto = reply("OwnPhoto", Own, set=Key, position=FromOne)
OwnVideo = reply("OwnVideo", Own, state=Literal[STATES])
GivenFace = reply(
    "GivenFace",
    id=Annotated[str, Field(json_schema_extra=FACE_KEY)],
    emotion=str,
    given=Moment,
    approved=about(Moment | None, "null while it waits; no model learns from it until then"),
)
GivenFaces = reply("GivenFaces", faces=list[GivenFace])
Total = reply("Total", **every(Count, "photos videos"))
Mine = reply("Mine", photos=list[OwnPhoto], videos=list[OwnVideo], total=Total)

# Videos
VideoFiles = reply("VideoFiles", **dict.fromkeys(LINKS, Link))
VideoLinks = reply("VideoLinks", **every(Link, "self page"), files=VideoFiles | None)
VideoModel = reply("VideoModel", ModelName, runtime=str, notes=list[str])
VideoProgress = reply(
    "VideoProgress",
    __doc__="How far the analysis is; null if it is not known (yet).",
    share=Share | None,
    **every(Count | None, "frames frame_count"),
    **every(Seconds | None, "position_s duration_s left_s"),
    frames_per_s=about(Seconds | None, "recently"),
    faces=about(Count | None, "people followed so far"),
)
Fps = about(float, "frames a second, on average")
OfVideo = {"fps": Fps, "frames": Count, "duration_s": Seconds, "has_sound": bool}
VideoFacts = reply("VideoFacts", Size, **OfVideo)
Track = reply(
    "Track",
    track=about(FromOne, "its number"),
    frames=Count,
    **every(Seconds, "first_s last_s seconds unsure_s"),
    emotion=about(str | None, "that it showed for longest; null if none was ever sure"),
    verdict=about(str, "that emotion, or what it may be if it was unsure for longer"),
    seconds_by_emotion=dict[str, Seconds],
    **every(dict[str, Share], "shares mean_probabilities"),
)
# what `emotion.video.summary` writes; importing that takes longer than a description should
VideoSummary = reply(
    "VideoSummary",
    schema_=(Literal[1], VERSION),
    frames=Count,
    **every(Seconds, "duration_s no_face_s one_face_s several_faces_s"),
    most_faces=about(Count, "at the same time"),
    tracks=list[Track],
)
Video = reply(
    "Video",
    id=about(Key, "who knows it can see the video"),
    state=Literal[STATES],
    created=Moment,
    expires=about(Moment, "counted from the end of the analysis"),
    before=about(Count, "videos that wait before it"),
    progress=VideoProgress | None,
    problem=about(str | None, "why it failed, or which part could not be read"),
    links=VideoLinks,
    video=about(VideoFacts | None, "null until it is done, as are model and summary"),
    model=VideoModel | None,
    summary=VideoSummary | None,
)
VideoQueue = reply("VideoQueue", waiting=about(Count, "videos of everybody"))

# The server
Model = reply(
    "Model",
    ModelNames,
    default=about(bool, "whether it reads the photos that ask for none"),
    classes=about(list[str], "the emotions that it tells apart"),
    sha256=Sha256 | None,
    problem=about(str | None, "why it cannot be used at the moment"),
    links=reply("ModelLinks", **every(Link, "self page")),
)
ModelWithCard = reply("ModelWithCard", Model, card=dict | None)
Models = reply("Models", models=list[Model])
