"""Every kind of error, and what the web app answers; a message: expected, received, what to do."""

import errno


class EmotionError(Exception):
    """The base of every error that a user can cause."""

    status = 500  # of HTTP
    title = "Something went wrong here"
    advice = (
        "It is our mistake, not yours, and it has been logged. The people who run this server "
        "can find it by the code {code}."
    )
    public: str | None = ""  # what the visitor is told; None: the message itself
    again = ""  # the form to offer once more, "photo" or "video"
    retry_after_s: int | None = None  # when the same request may work; None: never


class DatasetError(EmotionError):
    """A dataset is missing, damaged, or not laid out as expected."""


class SourceError(EmotionError):
    """A camera, video, photo or display cannot be used."""


class TrainingError(EmotionError):
    """Training cannot start, or cannot be resumed with these settings."""


class TableError(EmotionError):
    """A table cannot be written, or is not one that was written here."""


class ModelError(EmotionError):
    """A model is missing, damaged, or disagrees with its card."""

    status, title = 503, "No model is loaded"
    advice = "Please try again later."
    public: str | None = "Photos cannot be read at the moment: the server has no model."


class ChosenModelError(ModelError):  # not the default: a visitor chose it
    title = "This model cannot be used"
    advice = "Choose another model, or try again later."
    public = None


class RequestError(EmotionError):
    """A visitor sends or asks for something wrong; the message tells what."""

    status = 400
    public: str | None = None


class ImageError(RequestError):
    """An image cannot be used."""

    status, title = 422, "The photo cannot be used"
    advice = "Save a new copy as JPEG and try again."
    again = "photo"


class EmptyImageError(ImageError):
    status, title = 400, "The file is empty"
    advice = "Does it open on your device?"


class ImageTooLargeError(ImageError):  # in bytes
    status, title = 413, "The file is too large"
    advice = "A smaller copy of the photo works as well."


class ImageTypeError(ImageError):
    status, title = 415, "Not a photo we can read"
    advice = "Save or export it as JPEG and try again. Videos have their own form."


class ImageDimensionsError(ImageError):  # in pixels; also where a side is too long or too short
    title = "The photo is too large or too small"
    advice = "Scale it and try again; a face needs no more than a few hundred pixels."


class DamagedImageError(ImageError):  # of a known type, but it cannot be decoded to its end
    title = "The photo is damaged"
    advice = "Open it and save a new copy, or send it again: the end may have been lost on the way."


class SlowImageError(ImageError):  # built to be slow, or the server is overloaded
    title = "The photo took too long to read"
    advice = "Save a smaller copy as JPEG and try again."


class UploadError(RequestError):
    """A request does not bring what is expected, such as one photo in its field."""

    title = "No photo arrived"
    advice = "Choose one photo, then press the button again."
    again = "photo"


class VideoUploadError(UploadError):
    title = "No video arrived"
    advice = "Choose one video, then press the button again."
    again = "video"


class ChoiceError(UploadError):  # of a model or an emotion that is not offered
    title = "This cannot be chosen"
    advice = "Go back and choose one that is offered."


class RequestTooLargeError(RequestError):  # before its files are looked at
    status, title = 413, "The file is too large"
    advice = "A smaller copy of the photo works as well; send many photos in several turns."
    again = "photo"


class VideoTooLargeError(RequestTooLargeError):
    advice = "Cut it, or save it with a smaller picture: a face needs only a hundred pixels."
    again = "video"


class VideoTypeError(RequestError):
    status, title = 415, "Not a video we can read"
    advice = "Save or export it as MP4 and try again. Photos have their own form."
    again = "video"


class EmptyVideoError(VideoTypeError):
    status, title = 400, "The file is empty"
    advice = "Does it play on your device?"


class NoVideosError(RequestError):  # on this server
    status, title = 409, "No videos here"
    advice = ""


class FormExpiredError(RequestError):  # it lacks its token, or brings an old one
    title = "The form has expired"
    advice = (
        "Go back, reload the page and send it again. If that does not help, allow this site to "
        "set its cookie."
    )


class NotSenderError(RequestError):
    status, title = 403, "Only for the sender"
    advice = "Use the browser that sent it. The link to a single photo or video works for everyone."


class GoneError(RequestError):  # deleted, expired, or never there
    status, title = 404, "This result is gone"
    advice = "Results are removed when they expire, or when their owner deletes them."


class QuotaError(RequestError):  # as much is kept of one sender as may be
    status, title = 413, "No room for more of your results"
    advice = "Delete some of them in My results, or wait until they expire; then send it again."


class RateError(RequestError):  # one address sends or asks for more than it may
    status, title = 429, "Too many at once"


class WaitingFacesError(RateError):  # given for training, which nobody has looked at yet
    title = "Too many faces wait"
    advice = "Send your answer without the face, or take another one back in My results."


class BusyError(RequestError):  # as many photos are being read as the server can
    status, title = 503, "Busy"
    advice = "Please try again."
    public: str | None = "Many photos are being read at the moment."
    again = "photo"
    retry_after_s = 2


class ClientBusyError(BusyError):  # as many of one address as it may have
    public = None


class QueueFullError(RequestError):
    status, title = 503, "Busy"
    advice = "Please try again in a minute."
    public: str | None = "The queue of videos is full."
    again = "video"
    retry_after_s = 60


class OwnVideosWaitError(QueueFullError):  # as many of one sender as may
    status, title = 429, "Too many at once"
    advice = "Please wait until one of them is analysed."
    public = None


class StorageError(EmotionError):
    """The results cannot be written; `is_full` if the disk is full."""

    status, title = 503, "The results could not be kept"
    advice = "Please try again later, or tell the person who runs this server."
    public = "The server's folder for results cannot be written to at the moment."

    def __init__(self, error: OSError):
        super().__init__(f"expected to write the results; received: {error.strerror or error}")
        self.is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if self.is_full:
            self.status, self.title = 507, "No room for the results"
            self.public = "The server's disk is full, so the results could not be kept."


class DatabaseError(EmotionError):
    """The database cannot be reached or written."""

    status, title = 503, "Not possible at the moment"
    advice = "Please try again in a minute."
    public = "The database cannot be reached at the moment."
    retry_after_s: int | None = 10

    def __init__(self, words: str, is_full: bool = False):
        super().__init__(words)
        if is_full:
            self.status, self.title, self.retry_after_s = 507, "No room for the results", None
            self.public = "The server's disk is full, so nothing could be written."
