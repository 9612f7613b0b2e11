"""The models that a visitor may choose among; no Flask here.

These are the pairs (NAME.json and NAME.h5) in the folder of the default model and one level below,
but not those that were replaced (NAME.previous). A model is loaded when a photo first asks for it
and stays, also if its files are replaced, until the app is started again.
"""

import contextlib
import functools
import glob
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from emotion.errors import ChoiceError, ModelError
from emotion.faces import read_thresholds
from emotion.files import sha256_of
from emotion.model.card import Card, read_card
from emotion.model.keras import PREVIOUS_SUFFIX, ModelFiles, stem_of
from emotion.model.runtime import StoredModel, read_model

LOOK_EVERY_S = 3.0  # how long what the folder holds is believed
LOADING_WAIT_S = 15.0  # how long a request waits for another one that loads the same model
# anew when the stamp, which it is given as well, has changed
_hash = functools.lru_cache(256)(lambda stem, _: sha256_of(ModelFiles(stem).weights))


@dataclass(frozen=True)
class OfferedModel:
    key: str  # its name, with its folder if that is not the default's: "fer2013/detection_model"
    title: str  # what it answers as, for people; the key if its card does not say
    card: Mapping | None  # None if it has none that can be read
    stem: Path  # folder and name of its files; not for visitors
    is_default: bool  # whether it reads the photos of those who choose nothing

    names = property(lambda self: {"key": self.key, "title": self.title})


class Models:
    """The models around the default one; safe to share between threads."""

    def __init__(self, default: StoredModel | None, default_stem: Path, load: Callable):
        self.default = default  # None if it could not be loaded
        self._stem, self._load = default_stem, load
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._loaded: dict[str, StoredModel] = {}
        self._failures: dict[str, tuple[tuple, str]] = {}  # key -> stamp of its files, reason
        self._seen: tuple[OfferedModel, ...] = ()
        self._look_at_s = float("-inf")

    def offered(self) -> tuple[OfferedModel, ...]:
        """Return the default model, then the others by key."""
        with self._lock:
            if time.monotonic() >= self._look_at_s:
                self._seen = self._look()
                self._look_at_s = time.monotonic() + LOOK_EVERY_S
            return self._seen

    def find(self, key: str = "") -> OfferedModel:
        """Return the offered model with this key; "" is the default. Raises ChoiceError."""
        offered = self.offered()
        for model in offered:
            if model.key == key or (not key and model.is_default):
                return model
        keys = " or ".join(model.key for model in offered)
        raise ChoiceError(f"expected {keys} as the model; received a name that is not offered")

    def get(self, key: str = "") -> StoredModel:
        """Return an offered model; the first call loads it. Raises ChoiceError, ModelError."""
        model = self.find(key)
        if self.default is None:
            raise ModelError(f"expected {self._stem.name} as the default model; it is not loaded")
        if model.is_default:
            return self.default
        with self._lock:
            lock = self._loading.setdefault(model.key, threading.Lock())
        if not lock.acquire(timeout=LOADING_WAIT_S):
            raise ModelError(f"expected {model.key} to be loaded; it still is being loaded")
        try:
            if stored := self._loaded.get(model.key):
                return stored
            if problem := self.problem(model):
                raise ModelError(problem)
            stamp, stored = _stamp(model.stem), None
            try:
                stored = read_served(model.stem)
                self._load(stored)  # raises ModelError where it does not answer as it should
            except ModelError as error:
                if stored:
                    stored.drop_new_form()
                self._failures[model.key] = (_stamp(model.stem), str(error))
                raise
            if stamp[:3] != _stamp(model.stem)[:3]:
                raise ModelError(f"expected {model.key} to stay as it is; it was replaced")
            with self._lock:
                self._loaded[model.key] = stored
                self._look_at_s = float("-inf")  # now its card is the one it was loaded with
            return stored
        finally:
            lock.release()

    def loaded(self, model: OfferedModel) -> StoredModel | None:
        return self.default if model.is_default else self._loaded.get(model.key)

    def problem(self, model: OfferedModel) -> str | None:
        """Return why a model cannot be loaded; None if it may be, or if its files changed since."""
        stamp, reason = self._failures.get(model.key, (None, None))
        return reason if stamp == _stamp(model.stem) else None

    def sha256(self, model: OfferedModel) -> str | None:
        """Return the SHA-256 of a model's weights: of those served, else of those in its files."""
        stored = self.loaded(model)
        return stored.sha256 if stored else self.sha256_of_files(model)

    def sha256_of_files(self, model: OfferedModel) -> str | None:
        with contextlib.suppress(OSError):  # a file is gone
            return _hash(model.stem, _stamp(model.stem))

    def _look(self) -> tuple[OfferedModel, ...]:
        """Return what is offered now; what is loaded stays on offer."""
        folder, default, models = self._stem.parent, self._stem.name, []
        for key in (default, *sorted({*_pairs_around(folder), *self._loaded} - {default})):
            # the card that a model is served with, or else the one in its folder
            stored = self.default if key == default else self._loaded.get(key)
            card = stored.card if stored else read_card(ModelFiles(folder / key).card)
            title = Card(card).title or key
            models.append(OfferedModel(key, title, card, folder / key, key == default))
        titles = Counter(model.title for model in models)
        return tuple(
            replace(one, title=f"{one.title}: {one.key}") if titles[one.title] > 1 else one
            for one in models
        )


def _pairs_around(folder: Path) -> Iterator[str]:
    for pattern in ("*.json", "*/*.json"):
        # unlike pathlib's, this one passes over what is hidden, closed or gone meanwhile
        for name in glob.iglob(pattern, root_dir=folder):  # noqa: PTH207
            files = ModelFiles(folder / (key := name.removesuffix(".json")))
            is_pair = files.architecture.is_file() and files.weights.is_file()
            if is_pair and key.isprintable() and not key.endswith(PREVIOUS_SUFFIX):
                yield key


def _stamp(stem: Path) -> tuple:
    """Return what changes when a file of a model does; the fast form, which loading makes, last."""
    files, stamps = ModelFiles(stem), []
    for path in (files.architecture, files.weights, files.card, files.fast_form):
        try:
            found = path.stat()
            stamps.append((found.st_ino, found.st_size, found.st_mtime_ns))
        except OSError:
            stamps.append(None)
    return tuple(stamps)


def read_served(stem: Path) -> StoredModel:
    """Return a model as its files hold it, with a card that can be served; raises ModelError."""
    stored = read_model(stem_of(stem))
    read_thresholds(stored.card)
    return stored


def model_facts(model: StoredModel, folder: Path, names: Mapping[str, str]) -> dict:
    """Return the names, SHA-256, runtime and notes of a model, without paths."""
    notes = [without_folders(note, folder) for note in model.notes]
    about = {"name": model.name, "sha256": model.sha256, "runtime": model.runtime}
    return {**names, **about, "notes": notes}


def without_folders(text: str, folder: Path) -> str:
    """Return a message that names files but not their folders, which are not for visitors."""
    for known in (folder, folder.resolve()):
        text = text.replace(str(known), folder.name)
    return re.sub(r"(?<![\w./])/(?:[^\s/'\",;:()]+/)+", "", text)
