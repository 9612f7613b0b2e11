"""Fit the three small networks of the face detector; run by hand.

Faces come from photographs with people (--photos, a folder; --faces, a zip or folder of portraits)
and from FER2013's tiles (--fer2013, its zip), all labelled by YuNet, whose file you give. Each is
shown at every size, tilted, covered, dark, blurred and noisy, also pasted on photographs without
faces (--faceless, folders). What the networks so far take for faces there is shown to them again.

    python benchmarks/face_networks.py --yunet face_detection_yunet_2026may.onnx --photos photos \
        --faces lfw.zip --fer2013 archive.zip --faceless no_faces wallpapers --output models

A face is the square that `emotion.detection.yunet` makes of YuNet's box and landmarks.
`emotion.detection.networks` says what the networks take and give.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import keras
import numpy as np
import onnx
from keras import layers, ops

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from face_studio import PLACES_PX, VERIFIER_FACE_PX, Picture, Studio, read_pictures

from emotion.detection import networks
from emotion.detection.boxes import Detection, merge_boxes, overlap_of
from emotion.detection.settings import DetectorSettings
from emotion.detection.views import View, halved_views, upright_cut

ROOM_PX = 4  # around a mined mistake, so that it can be shown shifted


def places_network() -> keras.Model:
    """Return the network of places: convolutions without padding, so that it takes any size."""
    source = flow = keras.Input((None, None, 1))
    for channels, width, stride in ((12, 5, 2), (24, 3, 2), (32, 3, 2), (32, 3, 1), (32, 3, 1)):
        flow = layers.Conv2D(channels, width, stride, activation="relu")(flow)
    return keras.Model(source, layers.Conv2D(4, 1)(flow))


def refiner_network() -> keras.Model:
    """Return the network that says the same as the verifier, at a thirteenth of its cost."""
    source = keras.Input((networks.REFINER_PX, networks.REFINER_PX, 1))
    flow = convolved(source, ((16, 5, 2), (32, 3, 2), (48, 3, 1), (64, 3, 1)))
    flow = layers.Dense(64, activation="relu")(layers.Flatten()(flow))
    return keras.Model(source, layers.Dense(5)(flow))


def verifier_network() -> keras.Model:
    """Return the network that says what is a face, where and how large, and its tilt."""
    source = keras.Input((networks.VERIFIER_PX, networks.VERIFIER_PX, 1))
    flow = convolved(source, ((24, 5, 2), (48, 3, 2), (80, 3, 1), (112, 3, 1), (128, 3, 1)))
    flow = layers.Flatten()(layers.AveragePooling2D(2)(flow))
    flow = layers.Dense(64, activation="relu")(layers.Dropout(0.1)(flow))
    return keras.Model(source, layers.Dense(5)(flow))


def convolved(flow, shapes: Sequence[tuple[int, int, int]]):
    """Return a flow after convolutions of some channels, width and stride."""
    for shape in shapes:
        flow = layers.Conv2D(*shape, use_bias=False)(flow)
        flow = layers.ReLU()(layers.BatchNormalization(momentum=0.95)(flow))
    return flow


def place_loss(wanted, said):
    counts, is_face, logit = wanted[..., 0], wanted[..., 1], said[..., 0]
    chance = ops.sigmoid(logit)
    # what is right already counts less (Lin et al. 2017, "Focal loss for dense object detection")
    focus = ops.where(is_face > 0.5, 1 - chance, chance**1.5)
    error = counts * focus * ops.binary_crossentropy(is_face, logit, from_logits=True)
    boxes = is_face[..., None] * smooth_error(wanted[..., 2:], said[..., 1:])
    total = ops.sum(error) / (ops.sum(counts * is_face) + 16)
    return total + 2 * ops.sum(boxes) / (ops.sum(is_face) + 1)


def verifier_loss(wanted, said):
    is_face, logit = wanted[:, 1], said[:, 0]
    chance = ops.sigmoid(logit)
    focus = (ops.where(is_face > 0.5, 1 - chance, chance) + 1e-3) ** 0.5
    error = wanted[:, 0] * focus * ops.binary_crossentropy(is_face, logit, from_logits=True)
    boxes = wanted[:, 2] * ops.sum(smooth_error(wanted[:, 3:], said[:, 1:]), -1)
    return ops.mean(error) + ops.mean(boxes)


def smooth_error(wanted, said):
    off = ops.abs(said - wanted)
    return ops.where(off < 0.1, 5 * off * off, off - 0.05)


def normal(cuts: np.ndarray) -> np.ndarray:
    """Return cuts, (N, side, side), as `look_closely` gives them to the verifier."""
    cuts = cuts.astype(np.float32)
    cuts = (cuts - cuts.mean((1, 2), keepdims=True)) / (cuts.std((1, 2), keepdims=True) + 8)
    return cuts[..., None]


def fit(network: keras.Model, make, prepare, mine, loss, epochs: int, examples: int) -> None:
    """Fit a network to examples that are made anew, with mistakes mined on the way."""
    optimizer = keras.optimizers.Adam(2e-3, clipnorm=5.0)
    network.compile(optimizer, loss)
    mistakes: list[np.ndarray] = []
    for epoch in range(epochs):
        optimizer.learning_rate = 2e-5 + 1e-3 * (1 + math.cos(math.pi * epoch / epochs))
        if epoch in (epochs // 4, epochs // 2, 3 * epochs // 4):
            mistakes = (mine() + mistakes)[:30000]
        made = [make(mistakes) for _ in range(examples)]
        images, targets = (np.stack(part) for part in zip(*made, strict=True))
        said = network.fit(prepare(images), targets, batch_size=128, verbose=0).history["loss"][0]
        told = f"{epoch + 1}/{epochs}: loss {said:.4f}, {len(mistakes)} mistakes"
        print(told, file=sys.stderr, flush=True)


def false_places(network: keras.Model, studio: Studio) -> list[np.ndarray]:
    """Return pictures around what the network of places takes for faces where there are none."""
    mistakes = []
    for picture in studio.empty:
        for view in halved_views(picture.grey, 2 ** -studio.chance.uniform(0, 1), 40):
            around = cv2.copyMakeBorder(view.grey, *[PLACES_PX] * 4, cv2.BORDER_REPLICATE)
            places = networks.find_places(network.predict_on_batch, View(view.grey, 1.0), -1.0)
            for place in places[:4]:
                x, y, side, _ = place.box_xywh
                left, top = (int(start + side / 2 + PLACES_PX / 2) for start in (x, y))
                cut = around[max(0, top) :, max(0, left) :][:PLACES_PX, :PLACES_PX]
                if cut.shape == (PLACES_PX, PLACES_PX):
                    mistakes.append(cut)
    return mistakes


def false_faces(
    places: keras.Model, looks: Sequence[keras.Model], pictures: list[Picture], studio: Studio
) -> list[np.ndarray]:
    """Return cuts around what networks take for faces where there are none."""
    mistakes, chance = [], studio.chance
    for picture in pictures:
        if picture.kind == "tiles" or (picture.kind == "faces" and chance.random() > 0.3):
            continue
        grey, faces = picture.grey, picture.faces
        if picture.kind == "faceless":
            grey = np.ascontiguousarray(np.rot90(grey, chance.integers(4)))
        truth = [(x - side / 2, y - side / 2, side, side) for x, y, side, *_ in faces]
        for face in found(grey, places, looks):
            if any(overlap_of(face.box_xywh, box)[0] > 0.22 for box in truth):
                continue
            size_px = networks.VERIFIER_PX + ROOM_PX
            spread, views = size_px / VERIFIER_FACE_PX, halved_views(grey, 1.0, 40)
            cut = upright_cut(views, face.box_xywh, spread, face.roll_degrees, size_px)
            mistakes.append(cut)
    return mistakes


def found(grey: np.ndarray, places: keras.Model, looks: Sequence[keras.Model]) -> list[Detection]:
    """Return what may be faces in a picture after looks by networks, more readily than served."""
    settings = DetectorSettings()
    smallest_px = max(settings.smallest_face_px, settings.smallest_face_share * min(grey.shape))
    views = halved_views(grey, networks.PLACE_FACES_PX[0] / smallest_px, 26)
    closer, threshold = [View(grey, 1.0), *views], settings.place_threshold
    faces = [
        face
        for view in views
        for face in networks.find_places(places.predict_on_batch, view, threshold)
    ]
    for number, network in enumerate(looks):
        side_px = network.input_shape[1]
        seen = networks.look_closely(network.predict_on_batch, side_px, closer, faces)
        least = 0 if number + 1 == len(looks) else -3
        faces = merge_boxes(face for face in seen if face.score > least)
    return faces


def save(network: keras.Model, path: Path) -> None:
    """Write a network as ONNX whose weights are 16-bit floats: half as large, the same answers."""
    network.export(path, format="onnx", verbose=False)
    model = onnx.load(path)
    graph = model.graph
    for weights in list(graph.initializer):
        if weights.data_type == onnx.TensorProto.FLOAT and math.prod(weights.dims) > 100:
            half = onnx.numpy_helper.to_array(weights).astype(np.float16)
            graph.initializer.remove(weights)
            graph.initializer.append(onnx.numpy_helper.from_array(half, f"{weights.name}_16"))
            names = [f"{weights.name}_16"], [weights.name]
            graph.node.insert(0, onnx.helper.make_node("Cast", *names, to=onnx.TensorProto.FLOAT))
    onnx.save(model, path)


def main(arguments: list[str] | None = None) -> int:
    """Fit the networks and save them as ONNX."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, about in (
        ("--yunet", "YuNet's .onnx file"),
        ("--photos", "folder of photos with people"),
        ("--faces", "zip or folder of portraits"),
        ("--fer2013", "zip of FER2013"),
    ):
        parser.add_argument(name, type=Path, required=True, help=about)
    parser.add_argument("--faceless", type=Path, nargs="+", required=True, help="without faces")
    parser.add_argument("--epochs", type=int, default=60, help="of each network (%(default)s)")
    parser.add_argument("--examples", type=int, default=12800, help="an epoch (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the .onnx files")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(options.seed)
    pictures = list(read_pictures(options))
    studio = Studio(pictures, options.seed)
    places, refiner, verifier = places_network(), refiner_network(), verifier_network()

    def places_example(mistakes):
        image, targets = studio.places_example(mistakes)
        return studio.lit(image), targets

    def verifier_example(mistakes):
        image, targets = studio.verifier_example(mistakes)
        return studio.lit(image), targets

    length = options.epochs, options.examples
    mine = lambda: false_places(places, studio)  # noqa: E731
    fit(
        places,
        places_example,
        lambda images: networks.centred(images)[..., None],
        mine,
        place_loss,
        *length,
    )
    save(places, options.output / networks.FACE_PLACES.name)
    small_wh = (networks.REFINER_PX,) * 2
    fit(
        refiner,
        verifier_example,
        lambda images: normal(np.stack([cv2.resize(image, small_wh) for image in images])),
        lambda: false_faces(places, [], pictures, studio),
        verifier_loss,
        *length,
    )
    save(refiner, options.output / networks.FACE_REFINER.name)
    mine = lambda: false_faces(places, (refiner, verifier, verifier), pictures, studio)  # noqa: E731
    fit(verifier, verifier_example, normal, mine, verifier_loss, *length)
    save(verifier, options.output / networks.FACE_VERIFIER.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
