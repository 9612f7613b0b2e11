import numpy as np
import pytest

from emotion.drawing import UNSURE_COLOR_RGB, annotate, blur_faces
from emotion.faces import Face
from emotion.labels import COLORS_RGB, EMOTIONS, color_rgb


def make_face(box, emotion="happy", probability=0.6) -> Face:
    rest = (1 - probability) / 6
    return Face(box, 5.0, {name: probability if name == emotion else rest for name in EMOTIONS})


def grey(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def changed(drawn: np.ndarray, before: np.ndarray | int = 128) -> np.ndarray:
    return (drawn != before).any(axis=2)


def test_a_copy_has_a_box_of_the_color_of_the_emotion():
    image = grey(400, 400)
    for emotion in EMOTIONS:
        face = make_face((100, 100, 200, 200), emotion)
        drawn = annotate(image, [face])
        assert tuple(drawn[200, 100]) == COLORS_RGB[emotion]
        assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)
    for draw in (annotate, blur_faces):
        assert (draw(image, []) == 128).all()
        assert draw(image, [face]) is not image
    assert (image == 128).all()
    names = (*EMOTIONS, "contempt", "bored")
    assert len({color_rgb(name, names) for name in names}) == len(names)


def test_unsure_box_is_dashed_and_has_no_color_of_a_class():
    chances = dict.fromkeys(EMOTIONS, 0.042) | {"angry": 0.41, "fear": 0.38}
    drawn = annotate(grey(400, 400), [Face((100, 100, 200, 200), 5.0, chances, sure=False)])
    for line in (drawn[110:290, 100], drawn[299, 110:290]):
        assert {tuple(pixel) for pixel in line} == {(255, 255, 255), (0, 0, 0)}
    assert tuple(drawn[100, 100]) == tuple(drawn[299, 299]) == UNSURE_COLOR_RGB
    colors = {tuple(pixel) for pixel in drawn.reshape(-1, 3)}
    assert not colors & (set(COLORS_RGB.values()) - {COLORS_RGB["neutral"]})  # letters have greys


def test_labels_of_a_crowd_cover_neither_faces_nor_each_other():
    boxes = [(40 + 300 * n, 80 + 220 * row, 120, 120) for row in range(3) for n in range(4)]
    image, faces = grey(1280, 960), [make_face(box) for box in boxes]
    drawn = annotate(image, faces)
    for x, y, width, height in boxes:
        assert (drawn[y + 7 : y + height - 7, x + 7 : x + width - 7] == 128).all()
    alone = [annotate(image, [face], [number]) for number, face in enumerate(faces, 1)]
    together = np.sum([changed(each) for each in alone], axis=0)
    assert together.max() == 1
    assert np.array_equal(together > 0, changed(drawn))


def test_numbers_of_tracks_take_the_place_of_positions():
    image, faces = grey(400, 300), [make_face((50, 60, 80, 80)), make_face((250, 60, 80, 80))]
    rows, columns = np.nonzero(changed(annotate(image, faces, [1, 12]), annotate(image, faces)))
    assert rows.max() < 62  # the label of the second face, no box
    assert columns.min() >= 245


def test_bars_stand_beside_a_face_and_never_on_it():
    for size_wh, box in (
        ((640, 480), (240, 120, 160, 160)),
        ((640, 480), (520, 350, 120, 130)),
        ((640, 480), (160, 40, 320, 400)),
        ((480, 640), (100, 100, 280, 280)),  # beside it there is no room
    ):
        image, face = grey(*size_wh), make_face(box)
        bars = changed(annotate(image, [face], bars=True), annotate(image, [face]))
        x, y, width, height = box
        assert bars.sum() > 100 * 60
        assert not bars[y : y + height, x : x + width].any()
    image, crowded = grey(640, 480), [make_face((10, 10, 620, 460))]  # no room, no bars
    assert np.array_equal(annotate(image, crowded, bars=True), annotate(image, crowded))


def test_a_bar_is_as_long_as_its_class_is_probable():
    def yellow_pixels(probability: float) -> int:
        face = make_face((240, 120, 160, 160), "happy", probability)
        panel = annotate(grey(640, 480), [face], bars=True)[:, 408:]  # beside the box
        level = np.array(COLORS_RGB["happy"]) * 0.85 + 128 * 0.15
        return int((np.abs(panel - level).max(axis=2) < 4).sum())

    third, whole = yellow_pixels(0.33), yellow_pixels(0.99)
    assert whole > 300
    assert third / whole == pytest.approx(1 / 3, abs=0.06)


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_faces_of_any_size_and_place_are_blurred_and_nothing_far_from_them():
    for box in ((0, 0, 60, 40), (0, 0, 9, 9), (50, 30, 10, 10), (30, 20, 4, 4)):
        x, y, width, height = box
        blurred = changed(blur_faces(noise(60, 40), [make_face(box)]), noise(60, 40))
        assert blurred[y : y + height, x : x + width].mean() > 0.9
    inside = changed(blur_faces(noise(400, 300), [make_face((150, 100, 80, 80))]), noise(400, 300))
    assert inside[100:180, 150:230].mean() > 0.99
    assert not inside[:65, :130].any()


@pytest.mark.parametrize("side", [24, 80, 320])
def test_no_detail_of_a_face_is_left_at_any_size(side):
    rows, columns = np.indices((2 * side, 2 * side)) // max(1, side // 40)
    detail = np.where((rows + columns) % 2, 50, -50)[..., None]
    plain, face = grey(2 * side, 2 * side), make_face((side // 2, side // 2, side, side))
    one, other = (blur_faces((plain + sign * detail).astype(np.uint8), [face]) for sign in (1, -1))
    inside = slice(side // 2, side // 2 + side)
    left = np.abs(one[inside, inside].astype(int) - other[inside, inside])
    assert left.max() <= 12
