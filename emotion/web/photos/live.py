"""The page of the live camera, whose frames are read, answered and forgotten."""

import time

from flask import Blueprint, jsonify, render_template
from flask.typing import ResponseReturnValue

from emotion.faces import CANDIDATE_SHARE, MOST_CANDIDATES, read_thresholds, unsure_word
from emotion.images.guards import ImageLimits
from emotion.labels import EMOJI, color_rgb, label
from emotion.model.runtime import StoredModel
from emotion.web.api import NO_STORE
from emotion.web.limits import client_key
from emotion.web.photos.uploads import uploaded_files
from emotion.web.services import current_services
from emotion.web.settings import MOST_FRAME_BYTES

live = Blueprint("live", __name__)

# More frames may come than photos, so each must be light.
MOST_FRAME = ImageLimits(MOST_FRAME_BYTES, 1920 * 1080)


@live.get("/live")
def page() -> ResponseReturnValue:
    words = words_for_script(current_services().require_model())
    return render_template("live.html", words=words), NO_STORE


@live.post("/live/frame")
def frame() -> ResponseReturnValue:
    """Answer with the faces of one frame; nothing of it is kept or counted."""
    services = current_services()
    model = services.require_model()
    (file,) = uploaded_files(most=1)
    most = services.settings.image_limits
    max_bytes = min(most.max_bytes, MOST_FRAME.max_bytes)
    limits = {"max_bytes": max_bytes, "max_pixels": min(most.max_pixels, MOST_FRAME.max_pixels)}
    started_s = time.perf_counter()
    with services.gate.place(client_key()) as client:
        answer, _ = services.workers.call(client, model, "read", file.read(), **limits, whole=True)
    # tells the page how long a frame waited and was read (W3C)
    timing = f"read;dur={(time.perf_counter() - started_s) * 1000:.1f}"
    return jsonify(answer["results"]), NO_STORE | {"Server-Timing": timing}


def words_for_script(model: StoredModel) -> dict:
    """Return what the script needs to put averaged answers in the words of `emotion.faces`."""
    names, thresholds = model.class_names, read_thresholds(model.card)
    return {
        "classes": [
            {"name": name, "label": label(name), "emoji": EMOJI.get(name, "")}
            | {"color": list(color_rgb(name, names))}
            for name in names
        ],
        "sureFrom": thresholds.sure_from,
        "clearMargin": thresholds.clear_margin,
        "agreementTemperature": thresholds.agreement_temperature,
        "unsure": unsure_word(thresholds.agreement_temperature is not None),
        "candidateShare": CANDIDATE_SHARE,
        "mostCandidates": MOST_CANDIDATES,
    }
