"""What the tests of the batch share: tiny photos whose corner says what befalls who reads them."""

import contextlib
import csv
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from emotion.batch import Workers
from emotion.detection.boxes import Detection

SIGNS = {"kills": (255, 0, 0), "hangs": (0, 0, 255), "fails": (0, 255, 0), "slow": (255, 255, 0)}


class SignDetector:
    """Finds one face in a photo without a sign; others kill, stop, break or delay the worker."""

    def detect(self, image):
        sign = {pixel: sign for sign, pixel in SIGNS.items()}.get(tuple(image[0, 0].tolist()))
        if sign == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        if sign == "fails":
            raise ZeroDivisionError("a mistake")
        time.sleep({"hangs": 600, "slow": 0.1}.get(sign, 0))
        side = 20 + int(image[-1, -1, 0]) % 20
        return (Detection((4, 4, side, side), 5.0),)


class OtherDetector(SignDetector):
    """Another one."""


class ThreadWorkers(Workers):
    """An executor of threads in this process, as quick to start as a test wants it."""

    def __init__(self, count=1, is_remote=False):
        self.count, self.is_remote, self.opened_times = count, is_remote, 0

    @contextlib.contextmanager
    def opened(self):
        self.opened_times += 1
        with ThreadPoolExecutor(self.count) as executor:
            yield executor
            executor.shutdown(cancel_futures=True)

    def in_hand(self):
        return self.count + 1


def write_photo(path, sign="", number=0):
    """Write a photo, 64x48, lossless; photos of different numbers differ."""
    pixels = np.full((48, 64, 3), 120, np.uint8)
    pixels[8:20, 8:20] = number * 7 % 256
    pixels[-1, -1] = number % 256
    pixels[0, 0] = SIGNS.get(sign, 90)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def write_photos(folder, count, sign=""):
    """Write photos 000.png and so on; return their names."""
    names = [f"{number:03}.png" for number in range(count)]
    for number, name in enumerate(names):
        write_photo(folder / name, sign, number)
    return names


def read_table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def photos_of(path):
    return [row["photo"] for row in read_table(path)]
