"""The emotions: their names, order, colours, and what each dataset calls them."""

import re

# of FER2013, in alphabetical order: the order of a model's output without a card
EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")

# The palette of Okabe and Ito (2008), which colour-blind people can tell apart, with a dark purple
# and a grey beside it. Never the only cue: the name stands beside the colour.
COLORS_RGB = {
    "angry": (213, 94, 0),
    "disgust": (0, 158, 115),
    "fear": (90, 40, 120),
    "happy": (240, 228, 66),
    "neutral": (200, 200, 200),
    "sad": (0, 114, 178),
    "surprise": (86, 180, 233),
}
OTHER_COLORS_RGB = ((230, 159, 0), (204, 121, 167), (0, 0, 0))  # of classes beyond the seven
LABELS = dict(  # what people read; data has the names above
    zip(EMOTIONS, "Angry Disgusted Afraid Happy Neutral Sad Surprised".split(), strict=True)
)
EMOJI = dict(zip(EMOTIONS, "😠🤢😨😊😐😢😮", strict=True))

# Goodfellow et al. 2013: the class of each integer in the column `emotion` of fer2013.csv
FER2013_CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
# Li et al. 2017: the class of each of RAF-DB's numbers, which begin at 1
RAF_DB_CODES = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")

CONTEMPT = "contempt"  # the class that FER+ and CK+ have beyond the seven

# what other datasets call a class
SYNONYMS = {
    "angry": ("anger",),
    "disgust": ("disgusted", "disgusting"),
    "fear": ("fearful", "afraid", "scared"),
    "happy": ("happiness", "joy"),
    "neutral": ("neutrality", "normal", "calm"),
    "sad": ("sadness",),
    "surprise": ("surprised",),
    CONTEMPT: ("contemptuous",),
}


def common_name(class_name: str) -> str:
    """Return the name of a class that all datasets are put together under."""
    lower = class_name.strip().lower()
    return next((name for name, others in SYNONYMS.items() if lower in others), lower)


# Barsoum et al. 2016: vote columns of fer2013new.csv, and the class of each
_VOTED = "neutral happiness surprise sadness anger disgust fear".split()
FERPLUS_COLUMNS = {column: common_name(column) for column in _VOTED}


def label(class_name: str) -> str:
    """Return what people read for a class."""
    return LABELS.get(class_name, class_name)


def with_labels(text: str) -> str:
    """Return a text that names classes, such as a verdict, with their labels."""
    return re.sub("[a-z]+", lambda word: label(word[0]), text)


def color_rgb(class_name: str, class_names: tuple[str, ...] = EMOTIONS) -> tuple[int, int, int]:
    """Return the colour of a class as (red, green, blue), 0-255; stable for any class names."""
    if class_name in COLORS_RGB:
        return COLORS_RGB[class_name]
    others = [name for name in class_names if name not in COLORS_RGB]
    position = others.index(class_name) if class_name in others else 0
    return OTHER_COLORS_RGB[position % len(OTHER_COLORS_RGB)]
