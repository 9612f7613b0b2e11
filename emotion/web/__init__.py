"""The web app; `factory` builds it, and importing this package alone loads no Flask."""

import importlib


def __getattr__(name: str):
    # a seam, until all callers name `factory`
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(importlib.import_module("emotion.web.factory"), name)
