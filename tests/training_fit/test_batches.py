import numpy as np
from training_data import make_dataset

from emotion.training.fitting.batches import FaceBatches, batch_multiple, mix
from emotion.training.fitting.targets import Targets, build_targets
from emotion.training.settings import TrainingSettings

DATA = make_dataset(train=50, validation=0, test=0)


def batches_of(data=DATA, size: int = 16, **options) -> FaceBatches:
    targets = build_targets(data, TrainingSettings(label_smoothing=0.0))
    return FaceBatches(data.images, targets, size, **options)


def joined(batches: FaceBatches) -> list[np.ndarray]:
    parts = zip(*(batches[index] for index in range(len(batches))), strict=True)
    return [np.concatenate(part) for part in parts]


def test_batches_hold_every_image_once_in_the_order_of_the_seed():
    orders = [batches_of(seed=seed).order.tolist() for seed in ((7, 0), (7, 0), (7, 1))]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(len(DATA)))
    for seed, order in ((None, range(len(DATA))), ((7, 0), orders[0])):
        faces, labels, weights = joined(batches_of(seed=seed))
        assert faces.dtype == labels.dtype == weights.dtype == np.float32
        np.testing.assert_allclose(faces[..., 0] * 255, DATA.images[order], atol=1e-4)
        np.testing.assert_array_equal(labels.argmax(axis=1), DATA.labels[order])
        np.testing.assert_array_equal(weights, 1)


def test_a_batch_is_the_same_whenever_it_is_asked_for():
    for change in ({"augmentation": "strong"}, {"mixup": 0.4}):
        one, other = (batches_of(seed=(7, 3), **change) for _ in range(2))
        one[0], one[1]
        for ours, theirs in zip(one[2], other[2], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        next_epoch = batches_of(seed=(7, 4), **change)
        assert np.abs(one[2][0] - next_epoch[2][0]).mean() > 0.01


def test_two_heads_go_by_their_names():
    votes = np.eye(7, dtype=np.float32)[np.arange(210) % 7]
    votes[2] = 0
    faces, values, weights = batches_of(make_dataset(votes=votes))[0]
    assert faces.shape == (16, 48, 48, 1)
    assert values.keys() == weights.keys() == {"emotion", "votes"}
    np.testing.assert_array_equal(values["votes"], votes[:16])
    assert weights["votes"].tolist() == [1, 1, 0] + [1] * 13


def test_added_faces_count_nothing_and_the_mean_stays(monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "4")
    multiples = [batch_multiple(name) for name in ("cnn", "mini_xception", "mobilenetv2")]
    assert multiples == [1, 4, 4]
    batches = batches_of(multiple_of=4)
    faces, _, weights = joined(batches)
    assert [len(batches[index][0]) for index in range(len(batches))] == [16, 16, 16, 4]
    assert (weights[50:] == 0).all()
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-6)
    np.testing.assert_array_equal(faces[50:], faces[:2])


def test_loss_of_a_mixture_is_the_mixture_of_the_losses():
    random = np.random.default_rng(0)
    values = [random.dirichlet(np.ones(7), 8).astype(np.float32) for _ in range(2)]
    weights = [np.arange(8, dtype=np.float32), np.float32([0, 0, 0, 0, 1, 1, 1, 1])]
    faces = random.random((8, 4, 4), dtype=np.float32)
    mixed, mixed_values, mixed_weights = mix(faces, values, weights, 0.4, np.random.default_rng(5))
    again = np.random.default_rng(5)
    share, others = again.beta(0.4, 0.4), again.permutation(8)
    np.testing.assert_allclose(mixed, share * faces + (1 - share) * faces[others], rtol=1e-5)
    logs = np.log(random.dirichlet(np.ones(7), 8))
    for head in range(2):
        losses = -(values[head] * logs).sum(axis=1) * weights[head]
        partners = -(values[head][others] * logs).sum(axis=1) * weights[head][others]
        expected = share * losses + (1 - share) * partners
        received = -(mixed_values[head] * logs).sum(axis=1) * mixed_weights[head]
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)


def test_no_weight_makes_no_target_and_smaller_faces_are_means():
    targets = Targets((np.eye(4, dtype=np.float32),), (np.zeros(4, np.float32),))
    batches = FaceBatches(DATA.images[:4], targets, 4, seed=(1, 1), mixup=0.2)
    _, values, weights = batches[0]
    assert np.isfinite(values).all()
    assert (weights == 0).all()
    faces, _, _ = batches_of(size=50, side=24)[0]
    expected = DATA.images.reshape(50, 24, 2, 24, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(faces[..., 0] * 255, expected, atol=1)
