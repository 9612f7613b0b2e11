"""What can go wrong, in a few kinds; every message says what was expected and what was received."""


class EmotionError(Exception):
    """The one base of every error a user can cause; a front door turns it into a sentence."""


class ImageError(EmotionError):
    """An image cannot be used."""


class EmptyImageError(ImageError):
    """There are no bytes at all."""


class ImageTooLargeError(ImageError):
    """The file has more bytes than allowed."""


class ImageTypeError(ImageError):
    """The bytes are not an image of a type that is read."""


class ImageDimensionsError(ImageError):
    """The image has too many pixels, or a side that is too long or too short."""


class DamagedImageError(ImageError):
    """The image is of a known type but cannot be decoded to its end."""


class ModelError(EmotionError):
    """A model is missing, damaged, or disagrees with its card."""


class DatasetError(EmotionError):
    """A dataset is missing, damaged, or not laid out as expected."""


class SourceError(EmotionError):
    """A camera, video, photo or display cannot be used."""


class TrainingError(EmotionError):
    """Training cannot start, or cannot be resumed with these settings."""


class TableError(EmotionError):
    """A table cannot be written, or is not one that was written here."""
