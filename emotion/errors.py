"""Every kind of error, with what the web app answers to it.

A message says what was expected, what was received, and what to do.
"""

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


class RequestError(EmotionError):
    """A visitor sends or asks for something wrong; the message tells what."""

    status = 400
    public: str | None = None


class ImageError(RequestError):
    """An image cannot be used."""

    status = 422
    title = "The photo cannot be used"
    advice = "Save a new copy as JPEG and try again."
    again = "photo"


class EmptyImageError(ImageError):
    status = 400
    title = "The file is empty"
    advice = "Does it open on your device?"


class ImageTooLargeError(ImageError):
    """The file has more bytes than allowed."""

    status = 413
    title = "The file is too large"
    advice = "A smaller copy of the photo works as well."


class ImageTypeError(ImageError):
    status = 415
    title = "Not a photo we can read"
    advice = "Save or export it as JPEG and try again. Videos have their own form."


class ImageDimensionsError(ImageError):
    """The image has too many pixels, or a side that is too long or too short."""

    title = "The photo is too large or too small"
    advice = "Scale it and try again; a face needs no more than a few hundred pixels."


class DamagedImageError(ImageError):
    """The image is of a known type but cannot be decoded to its end."""

    title = "The photo is damaged"
    advice = "Open it and save a new copy, or send it again: the end may have been lost on the way."


class ModelError(EmotionError):
    """A model is missing, damaged, or disagrees with its card."""

    status = 503
    title = "No model is loaded"
    advice = "Please try again later."
    public: str | None = (
        "Photos cannot be read at the moment: the server runs, but without its model."
    )


class ChosenModelError(ModelError):
    """A model that a visitor chose, other than the default, cannot be loaded."""

    title = "This model cannot be used"
    advice = "Choose another model, or try again later."
    public = None


class DatasetError(EmotionError):
    """A dataset is missing, damaged, or not laid out as expected."""


class SourceError(EmotionError):
    """A camera, video, photo or display cannot be used."""


class TrainingError(EmotionError):
    """Training cannot start, or cannot be resumed with these settings."""


class TableError(EmotionError):
    """A table cannot be written, or is not one that was written here."""


class UploadError(RequestError):
    """A request does not bring what is expected, such as one photo in its field."""

    title = "No photo arrived"
    advice = "Choose one photo, then press the button again."
    again = "photo"


class VideoUploadError(UploadError):
    title = "No video arrived"
    advice = "Choose one video, then press the button again."
    again = "video"


class ChoiceError(UploadError):
    """A request chooses something, such as a model or an emotion, that is not offered."""

    title = "This cannot be chosen"
    advice = "Go back and choose one that is offered."


class RequestTooLargeError(RequestError):
    """A request is refused for its size, before its files are looked at."""

    status = 413
    title = "The file is too large"
    advice = "A smaller copy of the photo works as well; send many photos in several turns."
    again = "photo"


class VideoTooLargeError(RequestTooLargeError):
    advice = "Cut it, or save it with a smaller picture: a face needs only a hundred pixels."
    again = "video"


class VideoTypeError(RequestError):
    status = 415
    title = "Not a video we can read"
    advice = "Save or export it as MP4 and try again. Photos have their own form."
    again = "video"


class EmptyVideoError(VideoTypeError):
    status = 400
    title = "The file is empty"
    advice = "Does it play on your device?"


class NoVideosError(RequestError):
    """This server takes no videos."""

    status = 409
    title = "No videos here"
    advice = ""


class FormExpiredError(RequestError):
    """A form lacks its token, or brings an old one."""

    title = "The form has expired"
    advice = (
        "Go back, reload the page and send it again. If that does not help, allow this site to "
        "set its cookie."
    )


class NotSenderError(RequestError):
    status = 403
    title = "Only for the sender"
    advice = "Use the browser that sent it. The link to a single photo or video works for everyone."


class GoneError(RequestError):
    """A result was deleted, has expired, or never existed."""

    status = 404
    title = "This result is gone"
    advice = "Results are removed when they expire, or when their owner deletes them."


class RateError(RequestError):
    """One address sends or asks for more than it may."""

    status = 429
    title = "Too many at once"


class BusyError(RequestError):
    """The server reads as many photos as it can at a time."""

    status = 503
    title = "Busy"
    advice = "Please try again."
    public: str | None = "Many photos are being read at the moment."
    again = "photo"
    retry_after_s = 2


class ClientBusyError(BusyError):
    """One address has as many photos being read as it may at a time."""

    public = None


class QueueFullError(EmotionError):
    status = 503
    title = "Busy"
    advice = "Please try again in a minute."
    public = "The queue of videos is full."
    again = "video"
    retry_after_s = 60


class StorageError(EmotionError):
    """The results cannot be written; `is_full` if the disk is full."""

    status = 503
    title = "The results could not be kept"
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

    status = 503
    title = "Not possible at the moment"
    advice = "Please try again in a minute."
    public = "The database cannot be reached at the moment."
    retry_after_s = 10
