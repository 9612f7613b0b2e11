"""JSON views: recognition for programs, which stores nothing, and the state of the app."""

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from emotion.errors import ModelError
from emotion.web.analysis import current_services, model_facts, read_request, without_folders
from emotion.web.problems import Problem, as_json

api = Blueprint("api", __name__)

NO_STORE = {"Cache-Control": "no-store"}


@api.post("/api/v1/recognize")
def recognize() -> ResponseReturnValue:
    """Answer with the faces of a photo, in the schema of `results_to_dict`."""
    return jsonify(read_request(current_services()).results), NO_STORE


@api.get("/healthz")
def health() -> ResponseReturnValue:
    """Answer whether a model is loaded and which one, or why not."""
    services = current_services()
    folder = services.settings.model.parent
    try:
        model = services.require_recognizer().model
    except ModelError as error:
        problem = Problem(503, "No model is loaded", without_folders(str(error), folder))
        return as_json(problem, dict(NO_STORE))
    return jsonify({"status": "ok", "model": model_facts(model, folder)}), NO_STORE
