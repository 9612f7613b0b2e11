"""What may be wrong with a video that is sent, beside what its work finds out later."""

from emotion.errors import EmotionError

VIDEO_ENDPOINTS = ("videos.upload", "api.add_video")
"""Where videos are sent to: what these bring may be larger than photos."""


class VideoTypeError(EmotionError):
    """What was sent is no video of a kind that is read."""


class EmptyVideoError(EmotionError):
    """There are no bytes at all."""


class NoVideosError(EmotionError):
    """This server, as it runs, takes no videos."""


class QueueFullError(EmotionError):
    """As many videos wait as may."""
