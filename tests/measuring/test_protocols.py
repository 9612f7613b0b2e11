import json
from dataclasses import replace

import numpy as np
import pytest
from training_data import make_dataset, write_csv, write_votes

import emotion_model_training
from emotion.errors import TrainingError
from emotion.labels import CONTEMPT, FERPLUS_COLUMNS
from emotion.model.runtime import load_model
from emotion.training.data.votes import VOTE_COLUMNS
from emotion.training.measuring.protocols import read_lists

USAGES = {"train": "Training", "test": "PublicTest", "private_test": "PrivateTest"}
COLUMN_OF = {name: column for column, name in FERPLUS_COLUMNS.items()}
# the votes of the images of each test part, in turn
VOTED = ({"happiness": 6, "anger": 4}, {"contempt": 9}, {"fear": 5, "sadness": 5}, {"NF": 10})
LABELS = ("happy", CONTEMPT, None, None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write fer2013.csv and its votes with 8 images in PublicTest and 4 in PrivateTest."""
    folder = tmp_path_factory.mktemp("data")
    dataset = make_dataset(140, 0, 12)
    splits = np.array(["train"] * 140 + ["test"] * 8 + ["private_test"] * 4)
    votes = [{COLUMN_OF[dataset.class_names[label]]: 10} for label in dataset.labels[:140]]
    votes += VOTED * 3
    rows = [[row.get(name, 0) for name in VOTE_COLUMNS] for row in votes]
    write_csv(folder / "fer2013.csv", replace(dataset, splits=splits))
    write_votes(folder / "fer2013new.csv", [USAGES[split] for split in splits], rows)
    return folder, dataset.images[140:], [dataset.class_names[n] for n in dataset.labels[140:]]


@pytest.fixture
def evaluate(data, tiny_model, capsys):
    """Return a function from flags to the JSON that `evaluate` prints."""
    folder = data[0]
    where = [f"--dataset={folder}/fer2013.csv", f"--votes={folder}/fer2013new.csv"]

    def run(*flags):
        arguments = ["evaluate", str(tiny_model), *where, f"--runs={folder}/runs", *flags]
        assert emotion_model_training.main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_each_protocol_measures_its_images_on_the_part_that_papers_report(
    data, evaluate, tiny_model
):
    _, images, labels = data
    model = load_model(tiny_model)
    answers = model.predict(images[..., None].astype(np.float32) / 255).argmax(axis=1)
    voted = [*LABELS * 3]
    for protocol, wanted, kept in (
        ("fer2013", labels, (*labels,)),
        ("ferplus", voted, ("happy",)),
        ("ferplus8", voted, ("happy", CONTEMPT)),
    ):
        for flags, part, place in (
            ((), "PrivateTest", slice(8, 12)),
            (("--split", "test"), "PublicTest", slice(0, 8)),
        ):
            pairs = zip(wanted[place], answers[place], strict=True)
            right = [model.class_names[n] == label for label, n in pairs if label in kept]
            summary = evaluate("--protocol", protocol, *flags)
            assert summary["accuracy"] == pytest.approx(np.mean(right))
            one_crop, with_mirror, *published = summary["protocol"]["rows"]
            assert (one_crop["images"], one_crop["accuracy"]) == (len(right), summary["accuracy"])
            assert [word in one_crop["what"] for word in (part, "served")] == [True, True]
            assert "served" not in with_mirror["what"]
            assert min(row["accuracy"] for row in published) > 0.7


def test_lists_of_images_by_ferplus_name_and_by_file_name(evaluate, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("3/fer0000148.jpg\n1_fer0000149.png 8 2\nfer0000001.png\n")
    (row,) = evaluate("--protocol", "fer2013", "--subset", f"turned={path}")["subsets"]
    assert (row["what"], row["images"]) == ("turned", 2)
    path.write_text("a/x 1.jpg\ny.jpg\r\nabsent.jpg\n")
    chosen, (note,) = read_lists([f"some={path}"], ["a/x 1.jpg", "b/x 1.jpg", "c/y.jpg"])
    assert chosen["some"].tolist() == [True, False, True]
    assert "1 of 3" in note
    for text in (f"some={path}", f"{tmp_path}/none"):
        with pytest.raises(TrainingError):
            read_lists([text], ["z.jpg"])


def test_other_parts_are_refused_and_votes_are_asked_for(data, tiny_model, capsys):
    folder = data[0]
    for flags, word in (("fer2013 --split train", "PublicTest"), ("ferplus", "--votes")):
        command = f"evaluate {tiny_model} --dataset {folder}/fer2013.csv --runs {folder}/runs"
        assert emotion_model_training.main(f"{command} --protocol {flags}".split()) == 1
        assert word in capsys.readouterr().err
