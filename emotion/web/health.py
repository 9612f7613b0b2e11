"""Whether the app can do its work, cheaply enough to be asked every few seconds."""

import os
from pathlib import Path

from emotion.web.analysis import Services

NOBODY = "nobody"


def trouble(services: Services) -> str:
    """Return what keeps the app from its work, in words without paths; "" where all is well.

    Raises:
        DatabaseError: the database cannot be reached.
    """
    settings = services.settings
    if not settings.keeps_nothing and not can_be_written(settings.uploads):
        return "The folder for results cannot be written to."
    # any question that has to reach the database
    services.database.photos_of_visitor(NOBODY, services.storage.clock())
    return ""


def can_be_written(folder: Path) -> bool:
    """Tell whether files can be made in a folder, which may still have to be made itself."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
