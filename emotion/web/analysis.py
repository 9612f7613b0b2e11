"""Where some rooms still look for names that moved; goes with the last of them."""

from emotion.web.models.facts import model_facts, without_folders
from emotion.web.photos.pictures import reduced
from emotion.web.photos.uploads import MODEL_FIELD, uploaded_files
from emotion.web.services import Services, current_services

__all__ = [
    "MODEL_FIELD",
    "Services",
    "current_services",
    "model_facts",
    "reduced",
    "uploaded_files",
    "without_folders",
]
