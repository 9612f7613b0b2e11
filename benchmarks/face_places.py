"""Fit the network that tells the detector's cascades where to look; run by hand.

Faces are FER2013's training tiles put before pieces of photos without faces (--faceless, a folder
of your own); the rest are such pieces alone: first at random, then those that the network so far
takes for faces, and tiles far off the middle or of the wrong size. A fully convolutional network in
the manner of the first stage of Zhang et al. (2016), "Joint Face Detection and Alignment using
Multi-task Cascaded Convolutional Networks".

    python benchmarks/face_places.py --fer2013 fer2013.csv --votes fer2013new.csv \
        --faceless photos --output models/face_places.onnx
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from face_template import disc, read_faces

from emotion.detection.places import PLACE_STRIDE_PX as STRIDE_PX
from emotion.detection.places import PLACE_WINDOW_PX as WINDOW_PX
from emotion.detection.places import even_contrast

CANVAS_PX = 2 * WINDOW_PX - 1
"""What is made of each example: the contrast of a window depends on what is around it."""

CHANNELS = (16, 32, 32)
WINDOWS_A_PHOTO = 80
MINED_A_PHOTO = 40
OFF_FACES = 6000
DISCS = 800
HEIGHT_PX = 300
"""Short side of the photos that windows are cut from."""


def main(arguments: list[str] | None = None) -> int:
    """Fit the network and save it."""
    options = parse(arguments)
    chance = np.random.default_rng(options.seed)
    tiles = np.stack(read_faces(options))
    photos = read_photos(options.faceless)
    pieces = [piece for photo in photos for piece in random_pieces(photo, chance)]
    pieces += [cv2.resize(disc(chance), (CANVAS_PX, CANVAS_PX)) for _ in range(DISCS)]
    network = build()
    for number, epochs in enumerate(options.epochs):
        if number:
            mined = [piece for photo in photos for piece in mistakes(photo, network, chance)]
            pieces += mined
            print(f"round {number}: {len(mined)} mistakes, {len(pieces)} pieces", file=sys.stderr)
        is_last = number == len(options.epochs) - 1
        fit(network, tiles, pieces, epochs, is_last, chance)
    save(network, options.output)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fer2013", type=Path, required=True, help="fer2013.csv")
    parser.add_argument("--votes", type=Path, required=True, help="FER+'s fer2013new.csv")
    parser.add_argument("--faceless", type=Path, required=True, help="photos without any face")
    parser.add_argument("--faces", type=int, default=14000, help="tiles to use (%(default)s)")
    parser.add_argument("--epochs", type=int, nargs="+", default=[2, 2, 4], help="by round")
    parser.add_argument("--output", type=Path, required=True, help="the .onnx to write")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def read_photos(folder: Path) -> list[np.ndarray]:
    """Return the photos of a folder in grey, small, in the order of their names."""
    photos = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(folder.iterdir())]
    return [
        cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for photo in photos
        if photo is not None
        for scale in [min(1.0, HEIGHT_PX / min(photo.shape))]
    ]


def random_pieces(photo: np.ndarray, chance: np.random.Generator) -> list[np.ndarray]:
    """Return squares of all sizes from anywhere in a photo."""
    short = min(photo.shape)
    sides = np.exp(chance.uniform(np.log(CANVAS_PX), np.log(short), WINDOWS_A_PHOTO)).astype(int)
    pieces = []
    for side in sides:
        top, left = (chance.integers(0, length - side + 1) for length in photo.shape)
        piece = photo[top : top + side, left : left + side]
        pieces.append(cv2.resize(piece, (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_AREA))
    return pieces


def mistakes(photo: np.ndarray, network, chance: np.random.Generator) -> list[np.ndarray]:
    """Return pieces around the windows of a photo that look most like faces to the network."""
    turned = np.rot90(photo, chance.integers(0, 4))[:, :: chance.choice([-1, 1])]
    margin = (CANVAS_PX - WINDOW_PX) // 2
    found = []
    for octaves in np.arange(0, 4, 0.5) + chance.uniform(0, 0.5):
        side = 2.0**-octaves
        copy = cv2.resize(np.ascontiguousarray(turned), None, fx=side, fy=side, interpolation=3)
        if min(copy.shape) < WINDOW_PX:
            break
        heights = network(even_contrast(copy)[None, :, :, None]).numpy()[0, :, :, 0]
        bordered = cv2.copyMakeBorder(copy, *[margin] * 4, cv2.BORDER_REPLICATE)
        for row, column in zip(*np.nonzero(heights > -2), strict=True):
            y, x = row * STRIDE_PX, column * STRIDE_PX
            piece = bordered[y : y + CANVAS_PX, x : x + CANVAS_PX]
            found.append((float(heights[row, column]), piece.copy()))
    found.sort(key=lambda one: -one[0])
    return [piece for _, piece in found[:MINED_A_PHOTO]]


def build():
    """Return the network: three convolutions without padding, so that it takes any size."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.Conv2D(CHANNELS[0], 5, strides=2, activation="relu"),
            layers.Conv2D(CHANNELS[1], 3, strides=2, activation="relu"),
            layers.Conv2D(CHANNELS[2], 4, activation="relu"),
            layers.Conv2D(1, 1),
        ]
    )


def fit(network, tiles, pieces, epochs: int, is_last: bool, chance: np.random.Generator) -> None:
    """Fit the network to faces and to what are none, varied anew each time."""
    import keras

    steps = epochs * ((len(tiles) + len(pieces)) // 256)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps, alpha=0.01 if is_last else 0.3)
    network.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True))
    for _ in range(epochs):
        images, labels = examples(tiles, pieces, chance)
        history = network.fit(images, labels, batch_size=256, epochs=1, verbose=0)
        print(f"{len(labels)} examples, loss {history.history['loss'][0]:.4f}", file=sys.stderr)


def examples(tiles, pieces, chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return windows (N, side, side, 1) and 1 or 0 for each, (N, 1, 1, 1)."""
    faces = [face(tile, pieces, chance, True) for tile in tiles]
    off = [
        face(tile, pieces, chance, False) for tile in tiles[chance.permutation(len(tiles))[:6000]]
    ]
    canvases = [*faces, *off, *(flipped(piece, chance) for piece in pieces)]
    margin = (CANVAS_PX - WINDOW_PX) // 2
    inner = np.s_[margin : margin + WINDOW_PX, margin : margin + WINDOW_PX]
    images = np.stack([even_contrast(worse(canvas, chance))[inner] for canvas in canvases])
    labels = np.repeat([1.0, 0.0], [len(faces), len(canvases) - len(faces)]).astype(np.float32)
    return images[..., np.newaxis], labels.reshape(-1, 1, 1, 1)


def face(tile, pieces, chance: np.random.Generator, is_right: bool) -> np.ndarray:
    """Return a canvas with a tile in its middle, or clearly off it or of another size."""
    scale, shift = np.exp(chance.uniform(-0.24, 0.24)), chance.uniform(-2.6, 2.6, 2)
    if not is_right:
        scale *= np.exp(chance.choice([-0.8, 0.0, 0.8]))
        shift += chance.choice([-9, 9]) * np.eye(2)[chance.integers(2)]
    scale *= WINDOW_PX / tile.shape[0]
    turn = cv2.getRotationMatrix2D((tile.shape[1] / 2 - 0.5,) * 2, chance.normal(0, 12), scale)
    turn[:, 2] += CANVAS_PX / 2 - tile.shape[0] / 2 + shift
    soft = cv2.GaussianBlur(flipped(tile, chance), (0, 0), 0.45 / scale)
    size_wh = (CANVAS_PX, CANVAS_PX)
    if chance.random() < 0.3:
        return cv2.warpAffine(soft, turn, size_wh, borderMode=cv2.BORDER_REPLICATE)
    ground = pieces[chance.integers(len(pieces))].copy()
    return cv2.warpAffine(soft, turn, size_wh, ground, borderMode=cv2.BORDER_TRANSPARENT)


def flipped(picture: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Return a picture or its mirror image."""
    return np.ascontiguousarray(picture[:, :: chance.choice([-1, 1])])


def worse(canvas: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Return a canvas in other light, perhaps blurred, noisy or compressed."""
    if chance.random() < 0.3:
        canvas = cv2.GaussianBlur(canvas, (0, 0), chance.uniform(0.3, 1.2))
    gain, level = chance.uniform(0.2, 1.2), chance.uniform(-20, 20)
    noise = chance.normal(0, chance.uniform(0, 5), canvas.shape)
    lit = np.clip((canvas - 128.0) * gain + 128 * min(gain, 1) + level + noise, 0, 255)
    lit = lit.astype(np.uint8)
    if chance.random() < 0.2:
        quality = int(chance.integers(10, 60))
        _, content = cv2.imencode(".jpg", lit, [cv2.IMWRITE_JPEG_QUALITY, quality])
        lit = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    return lit


def save(network, path: Path) -> None:
    """Write the network as ONNX, for one grey copy of any size."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    nodes, weights, source = [], [], "copy"
    for number, layer in enumerate(network.layers):
        kernel, bias = layer.get_weights()
        weights.append(numpy_helper.from_array(kernel.transpose(3, 2, 0, 1).copy(), f"w{number}"))
        weights.append(numpy_helper.from_array(bias, f"b{number}"))
        is_last = number == len(network.layers) - 1
        target = "heights" if is_last else f"c{number}"
        inputs = [source, f"w{number}", f"b{number}"]
        nodes.append(helper.make_node("Conv", inputs, [target], strides=list(layer.strides)))
        if not is_last:
            source = f"r{number}"
            nodes.append(helper.make_node("Relu", [target], [source]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, rows, columns])
        for name, rows, columns in (("copy", "height", "width"), ("heights", "rows", "columns"))
    ]
    graph = helper.make_graph(nodes, "face_places", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save_model(model, str(path))


if __name__ == "__main__":
    sys.exit(main())
