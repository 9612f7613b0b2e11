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

# the votes of the images of each test part, in turn, and the labels they give
VOTED = ({"happiness": 6, "anger": 4}, {"contempt": 9}, {"fear": 5, "sadness": 5}, {"NF": 10})
LABELS = ("happy", CONTEMPT, None, None)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Write fer2013.csv and votes with 8 images in PublicTest and 4 in PrivateTest after 140."""
    folder, dataset = tmp_path_factory.mktemp("data"), make_dataset(140, 0, 12)
    column_of = {name: column for column, name in FERPLUS_COLUMNS.items()}
    votes = [{column_of[dataset.class_names[label]]: 10} for label in dataset.labels[:140]]
    rows = [[row.get(name, 0) for name in VOTE_COLUMNS] for row in [*votes, *VOTED * 3]]
    splits = np.array(["train"] * 140 + ["test"] * 8 + ["private_test"] * 4)
    write_csv(folder / "fer2013.csv", replace(dataset, splits=splits))
    usages = ["Training"] * 140 + ["PublicTest"] * 8 + ["PrivateTest"] * 4
    write_votes(folder / "fer2013new.csv", usages, rows)
    return folder, dataset.where(splits != "train")


@pytest.fixture
def evaluate(faces, tiny_model, capsys):
    """Return a function from flags to the JSON that `evaluate` prints, or its error."""
    folder = faces[0]

    def run(flags: str):
        command = f"evaluate {tiny_model} --dataset {folder}/fer2013.csv --runs {folder}/runs"
        code = emotion_model_training.main(f"{command} --json --protocol {flags}".split())
        said = capsys.readouterr()
        return said.err if code else json.loads(said.out)

    return run


def test_each_protocol_measures_the_part_that_papers_report(faces, evaluate, tiny_model):
    folder, dataset = faces
    model = load_model(tiny_model)
    answers = model.predict(dataset.images[..., None].astype(np.float32) / 255).argmax(axis=1)
    own = [dataset.class_names[label] for label in dataset.labels]
    for protocol, wanted, kept in (
        ("fer2013", own, own),
        ("ferplus", LABELS * 3, ["happy"]),
        ("ferplus8", LABELS * 3, ["happy", CONTEMPT]),
    ):
        for flags, part, place in (
            ("", "PrivateTest", slice(8, 12)),
            ("--split test", "PublicTest", slice(0, 8)),
        ):
            pairs = zip(wanted[place], answers[place], strict=True)
            right = [model.class_names[n] == label for label, n in pairs if label in kept]
            summary = evaluate(f"{protocol} --votes {folder}/fer2013new.csv {flags}")
            assert summary["accuracy"] == pytest.approx(np.mean(right))
            one_crop, with_mirror, *published = summary["protocol"]["rows"]
            assert (one_crop["images"], one_crop["accuracy"]) == (len(right), summary["accuracy"])
            assert [word in one_crop["what"] for word in (part, "served")] == [True, True]
            assert "served" not in with_mirror["what"]
            assert min(row["accuracy"] for row in published) > 0.7
    assert "PublicTest" in evaluate("fer2013 --split train")
    assert "--votes" in evaluate("ferplus")


def test_lists_of_images_by_ferplus_name_and_by_file_name(faces, evaluate, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("3/fer0000148.jpg\n1_fer0000149.png 8 2\nfer0000001.png\n")
    flags = f"fer2013 --votes {faces[0]}/fer2013new.csv --subset turned={path}"
    (row,) = evaluate(flags)["subsets"]
    assert (row["what"], row["images"]) == ("turned", 2)
    path.write_text("a/x 1.jpg\ny.jpg\r\nabsent.jpg\n")
    chosen, (note,) = read_lists([f"some={path}"], ["a/x 1.jpg", "b/x 1.jpg", "c/y.jpg"])
    assert chosen["some"].tolist() == [True, False, True]
    assert "1 of 3" in note
    for text in (f"some={path}", f"{tmp_path}/none"):
        with pytest.raises(TrainingError):
            read_lists([text], ["z.jpg"])
