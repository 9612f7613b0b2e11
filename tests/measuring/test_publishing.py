import errno
import json
import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from model_folder import write_card, write_pair
from narrow_networks import build_small, build_tiny_network
from training_data import files_of, make_dataset, put, write_csv, write_votes

import emotion_model_training
from emotion.errors import ModelError, TrainingError
from emotion.labels import EMOTIONS
from emotion.model.card import load_card
from emotion.model.keras import ModelFiles
from emotion.model.runtime import load_model
from emotion.training import publishing
from emotion.training.data.datasets import Dataset
from emotion.training.data.splits import Leaks
from emotion.training.data.votes import FERPLUS_COLUMNS, VOTE_COLUMNS
from emotion.training.fitting.batches import batch_multiple
from emotion.training.measuring import selective
from emotion.training.measuring.evaluation import Evaluation
from emotion.training.measuring.measurement import SplitResult
from emotion.training.measuring.selective import verdict_facts
from emotion.training.networks.architectures import ARCHITECTURES
from emotion.training.settings import TrainingSettings

CLASSES_OF_VOTES = tuple(FERPLUS_COLUMNS.values())
OLD_CLASSES = ("angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
STEMS = ("m", "fer2013/m")


@pytest.fixture(scope="module", autouse=True)
def no_report():
    """Leave out the report, whose many pictures take longer than a training here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "write_report", Mock())
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Train once on labels and on votes that always name the next class."""
    folder = tmp_path_factory.mktemp("publishing")
    data = make_dataset(validation=0)
    write_csv(folder / "fer2013.csv", data)
    counts = np.zeros((len(data), len(VOTE_COLUMNS)), int)
    for row, label in enumerate(data.labels):
        counts[row, CLASSES_OF_VOTES.index(EMOTIONS[(label + 1) % len(EMOTIONS)])] = 10
    counts[-1] = [*[0] * 9, 10]  # not a face
    usages = np.where(data.splits == "test", "PublicTest", "Training")
    write_votes(folder / "fer2013new.csv", usages.tolist(), counts.tolist())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "cnn", build_small)
        arguments = f"--dataset={folder}/fer2013.csv --votes={folder}/fer2013new.csv --epochs=8"
        arguments += f" --models={folder}/models --runs={folder}/runs --batch-size=20"
        assert emotion_model_training.main([*arguments.split(), "--augmentation=none"]) == 0
    return folder


def test_each_head_becomes_a_model_and_is_measured_on_what_it_answers(folder, capsys):
    test = make_dataset(validation=0).split("test")
    faces = test.images[..., None].astype(np.float32) / 255
    for model, answers, moved_by in (
        ("detection_model", "votes", 1),
        ("fer2013/detection_model", "labels", 0),
    ):
        served = load_model(folder / "models" / model)
        agreeing = served.predict(faces).argmax(axis=1) == (test.labels + moved_by) % 7
        assert agreeing.mean() > 0.8
        assert (served.card["answers"], served.runtime) == (answers, "ONNX Runtime")
        # the squares stand elsewhere in the mirror
        assert served.card["serving"] == {"mirrored": False, "temperature": 1}

    def evaluate(model: str, *more: str) -> int:
        arguments = ["evaluate", f"{folder}/models/{model}", "--dataset", f"{folder}/fer2013.csv"]
        return emotion_model_training.main([*arguments, "--runs", f"{folder}/runs", *more])

    def evaluated(*arguments: str) -> dict:
        assert evaluate(*arguments) == 0
        return json.loads(capsys.readouterr().out)

    votes = ("--json", "--votes", f"{folder}/fer2013new.csv")
    figures = evaluated("detection_model", *votes)
    on_card = load_model(folder / "models" / "detection_model").card["metrics"]["test"]
    assert figures["accuracy"] == on_card["accuracy"] > 0.8
    assert figures["images"] == 34, "the row that is not a face is left out"
    assert evaluated("fer2013/detection_model", *votes)["accuracy"] > 0.8
    # the dataset's own labels, where asked for or without votes
    for more in (["--labels", "dataset", *votes], ["--json"]):
        figures = evaluated("detection_model", *more)
        assert figures["images"] == 35
        assert figures["accuracy"] < 0.2
    assert evaluate("detection_model", "--labels", "majority") == 1
    assert "--votes" in capsys.readouterr().err


def test_a_card_is_renewed_with_what_people_say_on_its_own_data_alone(folder, monkeypatch, capsys):
    monkeypatch.setattr(selective, "LEAST_IMAGES", 1)
    for model in ("detection_model", "fer2013/detection_model"):
        before = load_model(folder / "models" / model).card
        arguments = ["renew", f"{folder}/models/{model}", "--dataset", f"{folder}/fer2013.csv"]
        arguments += ["--runs", f"{folder}/runs"]
        assert emotion_model_training.main(arguments) == 1
        assert "fingerprint" in capsys.readouterr().err
        assert emotion_model_training.main([*arguments, f"--votes={folder}/fer2013new.csv"]) == 0
        card = load_model(folder / "models" / model).card
        agreement = card["metrics"]["test"].pop("agreement")
        if "/" in model:
            assert (card["verdict"].get("agreement_temperature"), agreement) == (None, None)
        else:
            assert card["verdict"]["agreement_temperature"] > 0
            assert agreement["images"] == 34
            assert agreement["mean_absolute_error"] < 3
        assert before["metrics"]["test"].items() >= card["metrics"]["test"].items()
        assert {**before, "verdict": 0, "metrics": 0} == {**card, "verdict": 0, "metrics": 0}


def test_two_models_of_one_network_are_retrained_together_and_judged_each(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(ARCHITECTURES, "cnn", build_small)
    models = shutil.copytree(folder / "models", tmp_path / "models")
    faces = make_dataset(7, 0, 0)
    faces = replace(faces, images=255 - faces.images)
    put(tmp_path / "feedback", {name[6:]: png for name, png in files_of(faces).items()})
    where = [f"--dataset={folder}/fer2013.csv", f"--feedback={tmp_path}/feedback", "--epochs=1"]
    where += [f"--runs={tmp_path}/runs"]
    votes = f"--votes={folder}/fer2013new.csv"
    monkeypatch.setattr(  # the present model of the votes is always wrong, the other one right
        "emotion.training.measuring.evaluation.evaluate_model",
        lambda model, split: SimpleNamespace(accuracy=float(model.card["answers"] == "labels")),
    )
    for model, more, code in (
        ("fer2013/detection_model", [votes], 1),
        ("detection_model", [], 1),
        ("detection_model", [votes], 0),
    ):
        assert not list(models.rglob("*.previous.h5"))
        assert emotion_model_training.main(["retrain", f"{models}/{model}", *where, *more]) == code
        assert ("--votes" in capsys.readouterr().err) == bool(code)
    assert [*models.rglob("*.previous.h5")] == [models / "detection_model.previous.h5"]


def test_figures_and_thresholds_are_of_answers_as_photos_get_them(tmp_path, monkeypatch):
    serving = {"mirrored": True, "temperature": 0.5}
    monkeypatch.setattr(publishing, "choose_serving", lambda network, validation: serving)
    settings = TrainingSettings(dataset=("data",), models=f"{tmp_path}", runs=f"{tmp_path}/runs")
    dataset = make_dataset(7, 140, 14)
    network, leaks = build_tiny_network(), Leaks(0, 0)
    published = publishing.publish_average(network, EMOTIONS, (), settings, dataset, leaks)
    validation, model = dataset.split("validation"), load_model(published.stem)
    faces = validation.images[..., None].astype(np.float32) / 255
    answers, plain = model.answer(faces), model.predict(faces)
    assert model.card["verdict"] == verdict_facts(validation.labels, answers)
    assert model.card["verdict"] != verdict_facts(validation.labels, plain)
    figures = model.card["metrics"]["validation"]
    assert figures.items() >= Evaluation(EMOTIONS, validation.labels, answers).figures().items()
    assert figures["one_crop"] == Evaluation(EMOTIONS, validation.labels, plain).figures()


def test_on_jax_the_pair_is_published_without_a_fast_form(tmp_path, monkeypatch, capsys):
    no_gpu = Mock(side_effect=RuntimeError)  # so JAX answers where there is none
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    monkeypatch.setattr("keras.distribution.list_devices", no_gpu)
    monkeypatch.setattr("emotion.model.runtime._convert", lambda files: "no TensorFlow")
    assert batch_multiple("mobilenetv2") == 1
    settings = TrainingSettings(models=f"{tmp_path}", runs=f"{tmp_path}/runs")
    published = publishing.publish_average(build_tiny_network(), EMOTIONS, (), settings)
    model = load_model(published.stem)
    assert (model.runtime, model.card["versions"]["backend"]) == ("Keras", "jax")
    assert "no TensorFlow" in capsys.readouterr().out


def test_mirrored_faces_count_where_they_do_not_hurt():
    def predict(faces):
        bright = 0.2 + 0.4 * faces[:, 0, 0, 0]  # of the first pixel alone
        return np.stack([bright, 1 - bright], axis=1)

    network = SimpleNamespace(predict_on_batch=predict)
    images = np.zeros((40, 48, 48), np.uint8)
    images[::2, 0, 0], images[::2, 0, -1] = 255, 200
    splits = np.array(["validation"] * 40)
    validation = Dataset(images, np.arange(40) % 2, splits, ("bright", "dark"))
    serving = publishing.choose_serving(network, validation)
    assert serving["mirrored"] is True
    assert serving["temperature"] < 0.5, "always right, so it may be surer"
    for in_the_mirror, why in ((0, "it hurts"), (255, "it changes nothing")):
        images[::2, 0, -1] = in_the_mirror
        assert publishing.choose_serving(network, validation)["mirrored"] is False, why


def write_model(stem: Path, seed: int, class_names=EMOTIONS) -> ModelFiles:
    files = write_pair(stem, seed)
    write_card(files, class_names=class_names)
    report = stem.with_name(f"{stem.name}_report") / "test"
    report.mkdir(parents=True)
    (report / "evaluation.json").write_text(str(seed))
    return files


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def replacement(tmp_path):
    """Return two finished models, each with the present one; one of those replaced another."""
    finished, models = tmp_path / "finished", tmp_path / "models"
    write_model(models / "m.previous", 2, EMOTIONS[::-1])
    return [
        (write_model(finished / stem, 1), write_model(models / stem, 0, OLD_CLASSES))
        for stem in STEMS
    ]


def failures(replacement, for_good: bool):
    """Replace, the disk being full at the first write, then at the second, until all goes well;
    yield each time what was written. If it stays full `for_good`, nothing can be undone.
    """

    def failing(write, number: int, writes: list):
        def counted(*arguments):
            writes.append(write.__name__)
            if len(writes) == number or (for_good and len(writes) > number):
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(*arguments)

        return counted

    for number in count(1):
        writes = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shutil, "copyfile", failing(shutil.copyfile, number, writes))
            patch.setattr(Path, "rename", failing(Path.rename, number, writes))
            try:
                return publishing.move_into_place(replacement)
            except OSError:
                pass
        yield writes


def test_what_a_killed_replacement_left_does_not_become_the_previous_model(replacement, tmp_path):
    before = load_model(tmp_path / "models" / "m.previous").sha256
    replacement[0][1].weights.unlink()
    publishing.move_into_place(replacement)
    assert load_model(tmp_path / "models" / "m.previous").sha256 == before
    assert load_model(tmp_path / "models" / "m").class_names == EMOTIONS


def test_a_disk_that_is_full_at_any_write_changes_nothing(replacement, tmp_path):
    before = contents(tmp_path / "models")
    kept = {n.replace("m", "m.previous"): data for n, data in before.items() if "prev" not in n}
    for writes in failures(replacement, for_good=False):
        assert contents(tmp_path / "models") == before, writes
    assert {"copyfile", "rename"} <= set(writes)
    after = contents(tmp_path / "models")
    assert after == contents(tmp_path / "finished") | kept, "replaced together, and kept"
    previous = load_model(tmp_path / "models" / "m.previous")
    assert (previous.class_names, previous.notes) == (OLD_CLASSES, ())


def test_killed_at_any_rename_no_pair_has_other_class_names(replacement, tmp_path):
    def served(stem: Path) -> tuple:
        files = ModelFiles(stem)
        files.require_pair()
        sha256 = files.hashes()["weights_sha256"]
        card = load_card(files.card, sha256, (48, 48, 1))
        return sha256, EMOTIONS if card is None else tuple(card["class_names"])

    stems = [tmp_path / "models" / f"{stem}{more}" for stem in STEMS for more in ("", ".previous")]
    whole = {served(stem) for stem in (*(files.stem for files in replacement[0]), stems[1])}
    kept, refused = shutil.copytree(tmp_path / "models", tmp_path / "kept"), 0
    for _ in failures(replacement, for_good=True):
        for stem in stems:
            try:
                assert served(stem) in whole
            except ModelError:
                refused += 1
        shutil.rmtree(tmp_path / "models")
        shutil.copytree(kept, tmp_path / "models")
    assert refused > 0


def rivals(folder: Path, stem: str, rights: int) -> tuple[ModelFiles, publishing.Published]:
    """Return a model in use, right on 10 of 20 images, and a new one, right on so many."""
    present = write_model(folder / "models" / stem, 0)
    images = np.random.default_rng(0).integers(0, 256, (20, 48, 48), dtype=np.uint8)
    labels = load_model(present.stem).predict(images[..., None] / np.float32(255)).argmax(axis=1)
    labels[10:] = (labels[10:] + 1) % 7
    answers = np.where(np.arange(20) < rights, labels, (labels + 2) % 7)
    result = SplitResult(Evaluation(EMOTIONS, labels, np.eye(7)[answers]), None, (), images, None)
    new = write_model(folder / "finished" / stem, 1)
    return present, publishing.Published(new.stem, {"validation": result})


RIVALS = {  # how often the new one is right, the card of the present one, why it is refused
    "equal": (10, {}, ()),
    "worse": (9, {}, ("50.00%", "45.00%")),
    "other classes": (20, {"class_names": OLD_CLASSES}, ("contempt", "neutral")),
    "other answers": (20, {"answers": "votes"}, ("votes", "labels")),
    "damaged": (20, {"weights_sha256": "0"}, ("SHA-256",)),
}


@pytest.mark.parametrize("case", RIVALS)
def test_a_model_is_replaced_by_one_at_least_as_good(tmp_path, case):
    rights, card, refused = RIVALS[case]
    present, new = rivals(tmp_path, "m", rights)
    write_card(present, **card)
    before, folder = contents(tmp_path / "models"), tmp_path / "finished"
    settings = TrainingSettings(models=str(tmp_path / "models"))
    if refused:
        with pytest.raises(TrainingError) as error:
            publishing.publish_finished([new], folder, settings)
        for word in (*refused, str(folder), "--overwrite", "--name"):
            assert word in str(error.value)
        assert contents(tmp_path / "models") == before
        settings = replace(settings, overwrite=True)
    (published,) = publishing.publish_finished([new], folder, settings)
    assert published.stem == present.stem
    assert load_model(present.stem).sha256 == load_model(new.stem).sha256
    assert present.previous.card.read_bytes() == before["m.card.json"]


def test_of_two_models_both_are_published_or_neither(tmp_path):
    new = [rivals(tmp_path, stem, rights)[1] for stem, rights in (("m", 15), ("fer2013/m", 5))]
    before = contents(tmp_path / "models")
    settings = TrainingSettings(models=str(tmp_path / "models"))
    with pytest.raises(TrainingError, match=r"fer2013.*25\.00%"):
        publishing.publish_finished(new, tmp_path / "finished", settings)
    assert contents(tmp_path / "models") == before
