"""What a training would take and write, told after a few of its steps."""

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from emotion.text import clock, counted, size
from emotion.training.data.dataset import Dataset
from emotion.training.fitting.batches import FaceBatches
from emotion.training.fitting.fitting import Run
from emotion.training.networks.architectures import start_from
from emotion.training.settings import TrainingSettings

STEPS = 5
LONGEST_S = 20  # two steps are timed in any case


def dry_run_lines(dataset: Dataset, settings: TrainingSettings) -> list[str]:
    """Return time, memory and files of a training; nothing is kept. Raises as `fit` does."""
    count = settings.batch_size * (STEPS + 1)
    splits = [np.flatnonzero(dataset.splits == name) for name in ("train", "validation")]
    sample = dataset.where(np.concatenate([np.resize(rows, count) for rows in splits]))
    with tempfile.TemporaryDirectory() as spare:  # for what teachers answer
        # a small dataset is repeated to fill the steps
        run = Run(sample, replace(settings, runs=spare, duplicates="keep"))
    start_from(run.network, settings)
    run.enter(run.stages[-1])  # in which all of the network learns
    batches = run.batches(settings.epochs - 1)  # of faces at full size
    validation = replace(run.validation_batches, batch_size=settings.batch_size)
    of_training, of_validation = map(len, splits)
    epoch_s = of_training * _seconds_an_image(run.trainer.train_on_batch, batches)
    epoch_s += of_validation * _seconds_an_image(run.trainer.test_on_batch, validation)
    parameters = counted(run.network.count_params(), "parameter")
    steps = counted(-(-of_training // batches.batch_size), "step")
    kept = sum(keras.ops.convert_to_numpy(one).nbytes for one in run.variables())
    lines = [
        f"Network: {settings.architecture}, {parameters}, {settings.resolved_precision()}",
        f"Time: about {clock(epoch_s)} an epoch ({steps} of {batches.batch_size} images), "
        f"{clock(epoch_s * settings.epochs)} for {counted(settings.epochs, 'epoch')} at most",
    ]
    with contextlib.suppress(ImportError):  # Windows does not have it
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        lines.append(f"Memory: {size(peak)} so far, with the data")
    target = Path(settings.models) / settings.name
    files = f"{target}.json, .h5 ({size(4 * run.network.count_params())}), .onnx, .card.json"
    return [
        *lines,
        f"Checkpoint: {size(kept)} in {settings.run_folder()} after each epoch, removed at the end",
        f"Model: {files} and {target}_report" + ", and one of the labels" * run.second_head,
        "Dry run: nothing was trained or written",
    ]


def _seconds_an_image(step: Callable, batches: FaceBatches) -> float:
    """Return the mean time for an image after the first step, which compiles."""
    times = []
    for batch in [batches[index] for index in range(len(batches))]:
        step(*batch)
        times.append(time.monotonic())
        if len(times) > 1 and times[-1] - times[0] > LONGEST_S:
            break
    return (times[-1] - times[0]) / (len(times) - 1) / batches.batch_size
