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
EXAMPLE_NAMES = {"key": "detection_model", "title": "as most people see a face (FER+)"}
ID = "Zk3mB0aF4qTt1nSg8vXw2Q"
KEY = {"type": "string", "pattern": f"^{ID_PATTERN.pattern}$", "examples": [ID]}


def example_results() -> dict:
    """Return results as they are for a photo with one face."""
    values = (0.01, 0.002, 0.008, 0.95, 0.01, 0.01, 0.01)
    chances = dict(zip(EMOTIONS, values, strict=True))
    face = FoundFace((412, 160, 236, 236), 8.4127, chances, agreement=6)
    results = results_to_dict([face], (1024, 768), EXAMPLE_NAMES["key"], EXAMPLE_SHA256)
    return results | {"model": EXAMPLE_NAMES | results["model"]}


def about(description: str, **more):
    return Field(description=description, **more)


def text(form: str, **more):
    return Annotated[str, Field(json_schema_extra={"format": form, **more})]


Count = Annotated[int, Field(ge=0)]
FromOne = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
Link, Day = text("uri-reference"), text("date")
Moment = text("date-time", examples=["2026-11-21T19:52:07Z"])
Expires = Annotated[Moment, about("when it is removed")]
Month = Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}$")]
Key = Annotated[str, Field(json_schema_extra=KEY)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", examples=[EXAMPLE_SHA256])]
Version = Field(alias="schema", description="version of this form")


class Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


def reply(name: str, base: type[Reply] = Reply, /, **fields) -> type[Reply]:
    """Return a model whose fields say everything."""
    return create_model(name, __base__=base, **fields)


def links(name: str, /, *names: str, **more) -> type[Reply]:
    """Return a model of addresses on this server."""
    return reply(name, **dict.fromkeys(names, Link), **more)


class Problem(Reply):
    """What went wrong (RFC 9457)."""

    type: Literal["about:blank"]
    title: str = about("the phrase of the status")
    status: int = Field(ge=400, le=599)
    detail: str = about("what was expected and what was received, in a sentence")


# Photos and faces
Box = reply("Box", x=int, y=int, width=FromOne, height=FromOne)
Size = reply("Size", width=FromOne, height=FromOne)


class Face(Reply):
    box: Box
    score: float = about("how sure it is a face; higher is surer")
    emotion: str = about("the most probable emotion")
    confidence: Share = about("its probability")
    probabilities: dict[str, Share] = about("of each emotion, in the model's order; they sum to 1")
    sure: bool = about("whether the answer is clear enough to rely on")
    agreement: int | None = about(
        "how many of 10 people would name the emotion; null if the model cannot say", ge=0, le=10
    )
    verdict: str = about("the answer in a few words")
    candidates: list[str] = about("what it may be", min_length=1, max_length=3)
    runner_up: str | None = about("the second candidate; null if there is one only")
    notes: list[str] = about("what may make the answer unreliable")


class ModelNames(Reply):
    key: str = about("what a photo asks for it by", examples=[EXAMPLE_NAMES["key"]])
    title: str = about("for people", examples=[EXAMPLE_NAMES["title"]])


ModelName = reply("ModelName", ModelNames, name=str, sha256=Sha256)


class Results(Reply):
    model_config = ConfigDict(json_schema_extra={"examples": [example_results()]})
    schema_: Literal[SCHEMA] = Version
    model: ModelName
    image: Size
    faces: list[Face] = about("from left to right; the first has the number 1")


FaceLinks = links("FaceLinks", "page", "picture", "explanation", "feedback")
PHOTO_LINKS = ("self", "page", "annotated", "blurred", "thumbnail")
PhotoLinks = links("PhotoLinks", *PHOTO_LINKS, set=Link | None, faces=list[FaceLinks])


class Photo(Reply):
    id: Key = about("the photo's key: who knows it can see the photo")
    set: Key | None = about("the key of its set; null unless the sender asks")
    created: Moment
    expires: Expires
    links: PhotoLinks
    results: Results


Row = Annotated[list[float], Field(min_length=48, max_length=48)]


class Explanation(Reply):
    """Which parts of a face spoke for an emotion (occlusion, Zeiler and Fergus 2014)."""

    emotion: str
    before: Share = about("its probability with the whole face in view")
    hidden: Share = about("with the fifth of the face hidden that spoke most for it")
    elsewhere: Share = about("with as much hidden elsewhere, mean of several places")
    holds: bool = about("whether hiding that fifth lowers it, and more than elsewhere")
    heat: Annotated[list[Row], Field(min_length=48, max_length=48)] = about(
        "48 rows of 48: how much the log-odds of the emotion fall if a part of the face is hidden; "
        "below zero if that part spoke against it"
    )


class Opinion(Reply):
    emotion: str = about("what somebody sees in the face")
    given: str = about("what the model answered")
    agrees: bool = about("whether both are the same")
    kept: bool = about("whether the face is kept for training")
    said: Moment


class NewOpinion(Reply):
    model_config = ConfigDict(json_schema_extra={"examples": [{"emotion": "happy"}]})
    emotion: str = about("one of the emotions of the model that read the photo")
    keep: bool = about("also keep the 48 x 48 grey crop of the face, for training", default=False)


# Sets, and the sender's own
SetLinks = links("SetLinks", "self", "page", "csv", "annotated", "blurred")
WhyNot = Annotated[str | None, about("why it could not be read, null if it could")]
PhotoInSet = reply("PhotoInSet", position=FromOne, problem=WhyNot, photo=Photo | None)


class EmotionShare(Reply):
    emotion: str
    sure: Count = about("faces whose answer it is")
    unsure: Count = about("faces for which it is the most probable of several")
    share: Share = about("sure and unsure together, of all faces")
    mean_probability: Share = about("over all faces")


class PhotoSet(Reply):
    id: Key = about("the set's key, of use to its sender only")
    links: SetLinks
    photos: list[PhotoInSet] = about("by position")
    faces: Count = about("in all photos together")
    summary: list[EmotionShare] = about("of all faces; empty if there is none")


class Own(Reply):
    id: Key
    created: Moment
    expires: Moment
    faces: Count = about("in a video: people that were followed")
    emotions: list[str] = about("the emotion of each face, in a video the longest of the first few")
    verdicts: list[str] = about("the answer for each face in a few words")
    model: ModelNames | None = about("what read them; null until a video is done")
    problem: str | None = about("why it, or a part of a video, could not be read")


OwnPhoto = reply("OwnPhoto", Own, set=Key, position=FromOne)
OwnVideo = reply("OwnVideo", Own, state=Literal[STATES])
Mine = reply("Mine", photos=list[OwnPhoto], videos=list[OwnVideo])

# Videos
VideoFiles = links("VideoFiles", *LINKS)
VideoLinks = links("VideoLinks", "self", "page", files=VideoFiles | None)
VideoModel = reply("VideoModel", ModelName, runtime=str, notes=list[str])


class VideoProgress(Reply):
    """How far the analysis is; null if it is not known (yet)."""

    share: Share | None
    frames: Count | None = about("analysed so far")
    frame_count: Count | None = about("in the whole video")
    position_s: Seconds | None = about("time of the last one in the video")
    duration_s: Seconds | None = about("length of the video")
    frames_per_s: Seconds | None = about("analysed in a second, recently")
    left_s: Seconds | None = about("how long it will still take")
    faces: Count | None = about("people followed so far")


class VideoFacts(Reply):
    width: FromOne
    height: FromOne
    fps: float = about("frames a second, on average")
    frames: Count
    duration_s: Seconds
    has_sound: bool = about("whether it has sound, which the annotated video keeps")


class Track(Reply):
    track: FromOne = about("its number")
    first_s: Seconds = about("when it was first seen")
    last_s: Seconds = about("when it was last seen")
    frames: Count = about("that it is in")
    seconds: Seconds = about("how long it was seen")
    emotion: str | None = about("that it showed for longest; null if none was ever sure")
    verdict: str = about("that emotion, or what it may be if it was unsure for longer")
    seconds_by_emotion: dict[str, Seconds]
    unsure_s: Seconds = about("how long no single emotion stood out")
    shares: dict[str, Share]
    mean_probabilities: dict[str, Share]


class VideoSummary(Reply):
    # what `emotion.video.summary` writes; importing that takes longer than a description should
    schema_: Literal[1] = Version
    frames: Count
    duration_s: Seconds
    no_face_s: Seconds
    one_face_s: Seconds
    several_faces_s: Seconds
    most_faces: Count = about("at the same time")
    tracks: list[Track] = about("by number")


class Video(Reply):
    id: Key = about("the video's key: who knows it can see the video")
    state: Literal[STATES]
    created: Moment
    expires: Expires = about("when it is removed; counted from the end of the analysis")
    before: Count = about("videos that wait before it")
    progress: VideoProgress | None
    problem: str | None = about("why it failed, or which part could not be read")
    links: VideoLinks
    video: VideoFacts | None = about("null until it is done")
    model: VideoModel | None = about("null until it is done")
    summary: VideoSummary | None


# The server
ModelLinks = links("ModelLinks", "self", "page")


class Model(ModelNames):
    default: bool = about("whether it reads the photos that ask for none")
    classes: list[str] = about("the emotions that it tells apart")
    sha256: Sha256 | None
    problem: str | None = about("why it cannot be used at the moment")
    links: ModelLinks


CardContent = Annotated[dict | None, about("how it was made and how good it is")]
ModelWithCard = reply("ModelWithCard", Model, card=CardContent)
Models = reply("Models", models=list[Model])


class Use(Reply):
    photos: Count
    without_face: Count = about("photos in which no face was found")
    faces: Count
    unsure_share: Share | None
    mean_confidence: Share | None
    emotions: dict[str, Count]


DayUse = reply("DayUse", Use, day=Day)
MonthUse = reply("MonthUse", Use, month=Month)


class VideoUse(Reply):
    """Videos since the start; their faces are not among those of photos."""

    videos: Count
    without_face: Count
    faces: Count = about("people that were followed")
    seconds: Seconds = about("length of all videos together")


class ExpectedEmotion(Reply):
    emotion: str
    faces: Count = about("recent ones")
    share: Share | None = about("of the recent faces")
    expected_share: Share | None = about("of the model's answers on its own data")
    label_share: Share | None = about("of the labels of its data")


class Opinions(Reply):
    said: Count
    agreed: Count
    disagreed: Count
    disagreed_share: Share | None
    interval_95: Annotated[list[Share], Field(min_length=2, max_length=2)] | None
    pairs: list[reply("OpinionPair", given=str, chosen=str, opinions=FromOne)] = about(
        "the model's answer and the person's, most frequent first"
    )


class Drift(Reply):
    """How far the answers are from those on the model's own data (population stability index)."""

    faces: Count
    least_faces: Count = about("needed for an answer")
    split: str = about("what the answers are compared with")
    index: float | None
    label_index: float | None
    level: Literal["unknown", "too few faces", "none", "some", "large"]
    words: str


From = Annotated[Share, Field(alias="from")]
ConfidenceBin = reply("ConfidenceBin", from_=From, to=Share, faces=Count)
Check = reply("Check", title=str, name=str, due=bool | None, words=str)


class Monitoring(Reply):
    """How the server is used: numbers only, about no photo and no person."""

    as_of: Moment
    recent_days: Count = about("what recent means")
    model: reply("CardName", ModelNames, name=str, sha256=str) | None
    since: Day | None = about("the first day")
    total: Use
    recent: Use
    videos: VideoUse
    days: list[DayUse]
    months: list[MonthUse]
    emotions: list[ExpectedEmotion]
    confidence: list[ConfidenceBin]
    unsure_expected: Share | None = about("on the labelled images of the model's data")
    opinions: Opinions
    kept: reply("Kept", all=Count, new=Count)
    drift: Drift
    retraining: reply("Retraining", due=bool, words=str, checks=list[Check])
