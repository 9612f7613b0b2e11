"""Every kind of error, with what the web app answers to it.

A message says what was expected, what was received, and what to do.
"""

import errno

LATER = "Please try again later, or tell the person who runs this server."


class EmotionError(Exception):
    """The base of every error that a user can cause.

    Attributes:
        status: the HTTP status.
        title: the heading of the page.
        advice: what the visitor can do.
        public: what the visitor is told; None is the message itself.
        again: the form to offer once more, "photo" or "video"; "" is none.
        retry_after_s: seconds after which the same request may work; None if it will not.
    """

    status = 500
    title = "Something went wrong here"
    advice = (
        "It is our mistake, not yours, and it has been logged. The people who run this server "
        "can find it by the code {code}."
    )
    public: str | None = ""
    again = ""
    retry_after_s: int | None = None


# Photos


class ImageError(EmotionError):
    """An image cannot be used."""

    status = 422
    title = "The photo cannot be used"
    advice = "Save a new copy as JPEG and try again."
    public = None
    again = "photo"


class EmptyImageError(ImageError):
    """The file is empty."""

    status = 400
    title = "The file is empty"
    advice = "Does it open on your device?"


class ImageTooLargeError(ImageError):
    """The file has more bytes than allowed."""

    status = 413
    title = "The file is too large"
    advice = "A smaller copy of the photo works as well."


class ImageTypeError(ImageError):
    """The bytes are not an image of a type that is read."""

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


# Models, data, devices, files


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


# Requests


class UploadError(EmotionError):
    """A request does not bring what is expected, such as one photo in its field."""

    status = 400
    title = "No photo arrived"
    advice = "Choose one photo, then press the button again."
    public = None
    again = "photo"


class VideoUploadError(UploadError):
    """A request does not bring one video in the field that is expected."""

    title = "No video arrived"
    advice = "Choose one video, then press the button again."
    again = "video"


class ChoiceError(UploadError):
    """A request chooses something, such as a model or an emotion, that is not offered."""

    title = "This cannot be chosen"
    advice = "Go back and choose one that is offered."


class RequestTooLargeError(EmotionError):
    """A request is refused for its size, before its files are looked at."""

    status = 413
    title = "The file is too large"
    advice = "A smaller copy of the photo works as well; send many photos in several turns."
    public = None
    again = "photo"


class VideoTooLargeError(RequestTooLargeError):
    """A video has more bytes than allowed."""

    advice = "Cut it, or save it with a smaller picture: a face needs only a hundred pixels."
    again = "video"


class VideoTypeError(EmotionError):
    """The file is no video of a kind that is read."""

    status = 415
    title = "Not a video we can read"
    advice = "Save or export it as MP4 and try again. Photos have their own form."
    public = None
    again = "video"


class EmptyVideoError(VideoTypeError):
    """The file is empty."""

    status = 400
    title = "The file is empty"
    advice = "Does it play on your device?"


class NoVideosError(EmotionError):
    """This server takes no videos."""

    status = 409
    title = "No videos here"
    advice = ""
    public = None


class FormExpiredError(EmotionError):
    """A form lacks its token, or brings an old one."""

    status = 400
    title = "The form has expired"
    advice = (
        "Go back, reload the page and send it again. If that does not help, allow this site to "
        "set its cookie."
    )
    public = None


class NotSenderError(EmotionError):
    """Only the sender may see or do this."""

    status = 403
    title = "Only for the sender"
    advice = "Use the browser that sent it. The link to a single photo or video works for everyone."
    public = None


class GoneError(EmotionError):
    """A result was deleted, has expired, or never existed."""

    status = 404
    title = "This result is gone"
    advice = "Results are removed when they expire, or when their owner deletes them."
    public = None


# Limits


class RateError(EmotionError):
    """One address sends or asks for more than it may."""

    status = 429
    title = "Too many at once"
    public = None


class BusyError(EmotionError):
    """As many photos are being read as the server takes at a time."""

    status = 503
    title = "Busy"
    advice = "Please try again."
    public: str | None = "Many photos are being read at the moment."
    again = "photo"
    retry_after_s = 2


class ClientBusyError(BusyError):
    """As many photos of one address are being read as it may have at a time."""

    public = None


class QueueFullError(EmotionError):
    """The queue of videos is full."""

    status = 503
    title = "Busy"
    advice = "Please try again in a minute."
    public = "The queue of videos is full."
    again = "video"
    retry_after_s = 60


# What the server keeps


class StorageError(EmotionError):
    """The results cannot be written; `is_full` if the disk is full."""

    status = 503
    title = "The results could not be kept"
    advice = LATER
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
