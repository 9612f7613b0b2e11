"""The emotions: their names, order, colours and the codes each dataset gives them."""

from types import MappingProxyType

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""The seven FER2013 classes in alphabetical order: the order of a model's output without a card."""

COLORS_RGB = MappingProxyType(
    {
        "angry": (213, 94, 0),
        "disgust": (0, 158, 115),
        "fear": (90, 40, 120),
        "happy": (240, 228, 66),
        "neutral": (200, 200, 200),
        "sad": (0, 114, 178),
        "surprise": (86, 180, 233),
    }
)
"""One colour a class: the palette of Okabe and Ito (2008), made to be told apart by colour-blind
people, with a dark purple and a grey beside it. Never the only cue: the name stands beside it."""

OTHER_COLORS_RGB = ((230, 159, 0), (204, 121, 167), (0, 0, 0))
"""Colours for class names that are not among the seven, such as CK+'s contempt."""

EMOJI = MappingProxyType(
    {
        "angry": "😠",
        "disgust": "🤢",
        "fear": "😨",
        "happy": "😊",
        "neutral": "😐",
        "sad": "😢",
        "surprise": "😮",
    }
)

FER2013_CODES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Class of each integer in the `emotion` column of fer2013.csv (Goodfellow et al. 2013)."""

FERPLUS_COLUMNS = MappingProxyType(
    {
        "neutral": "neutral",
        "happiness": "happy",
        "surprise": "surprise",
        "sadness": "sad",
        "anger": "angry",
        "disgust": "disgust",
        "fear": "fear",
    }
)
"""Class of each vote column of fer2013new.csv (Barsoum et al. 2016) that has one of the seven."""


CONTEMPT = "contempt"
"""The class that FER+ and CK+ have beyond the seven, by the name both give it."""

SYNONYMS = MappingProxyType(
    {
        "anger": "angry",
        "disgusted": "disgust",
        "disgusting": "disgust",
        "fearful": "fear",
        "afraid": "fear",
        "scared": "fear",
        "happiness": "happy",
        "joy": "happy",
        "neutrality": "neutral",
        "normal": "neutral",
        "calm": "neutral",
        "sadness": "sad",
        "surprised": "surprise",
        "contemptuous": "contempt",
    }
)
"""What other datasets call a class, in lower case, and its name here."""


def common_name(class_name: str) -> str:
    """Return the name of a class that all datasets are put together under."""
    lower = class_name.strip().lower()
    return SYNONYMS.get(lower, lower)


def color_rgb(class_name: str, class_names: tuple[str, ...] = EMOTIONS) -> tuple[int, int, int]:
    """Return the colour of a class as (red, green, blue), 0-255; stable for any class names."""
    if class_name in COLORS_RGB:
        return COLORS_RGB[class_name]
    others = [name for name in class_names if name not in COLORS_RGB]
    position = others.index(class_name) if class_name in others else 0
    return OTHER_COLORS_RGB[position % len(OTHER_COLORS_RGB)]
