"""What a training would take and write, told after a few of its steps."""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from emotion.text import clock, counted, size
from emotion.training.data.dataset import Dataset
from emotion.training.fitting.fitting import Run
from emotion.training.networks.architectures import start_from
from emotion.training.settings import TrainingSettings

STEPS = 6  # the first one compiles, and is not counted
LONGEST_S = 20  # after which there are no more steps than two


def dry_run_lines(dataset: Dataset, settings: TrainingSettings) -> list[str]:
    """Return time, memory and files of a training; nothing is kept. Raises as `fit` does."""
    splits = [np.flatnonzero(dataset.splits == name) for name in ("train", "validation")]
    rows = [np.resize(split, STEPS * settings.batch_size) for split in splits]
    with tempfile.TemporaryDirectory() as spare:  # for what teachers answer
        # a small dataset is repeated to fill the steps
        once = replace(settings, runs=spare, duplicates="keep")
        run = Run(dataset.where(np.concatenate(rows)), once)
    start_from(run.network, settings)
    run.enter(run.stages[-1])  # in which all of the network learns
    learned = run.batches(settings.epochs - 1)  # of faces at full size
    checked = replace(run.validation_batches, batch_size=settings.batch_size)
    steps, epoch_s = -(-len(splits[0]) // learned.batch_size), 0.0
    both = (run.trainer.train_on_batch, learned), (run.trainer.test_on_batch, checked)
    for (step, batches), split in zip(both, splits, strict=True):
        times = []
        for batch in [batches[index] for index in range(len(batches))]:
            if len(times) < 2 or times[-1] - times[0] < LONGEST_S:
                step(*batch)
                times.append(time.monotonic())
        epoch_s += (times[-1] - times[0]) / (len(times) - 1) / batches.batch_size * len(split)
    parameters, stem = run.network.count_params(), Path(settings.models) / settings.name
    kept = size(sum(keras.ops.convert_to_numpy(one).nbytes for one in run.variables()))
    lines = [
        f"Network: {settings.architecture}, {parameters:,} parameters, "
        f"{settings.resolved_precision()}",
        f"Time: about {clock(epoch_s)} an epoch ({counted(steps, 'step')} of {learned.batch_size} "
        f"images), {clock(epoch_s * settings.epochs)} for {settings.epochs} epochs at most",
        f"Checkpoint: {kept} in {settings.run_folder()} after each epoch, removed at the end",
        f"Model: {stem}.json, .h5 ({size(4 * parameters)}), .onnx, .card.json and {stem}_report"
        + ", and one that answers as the labels" * run.second_head,
        "Dry run: nothing was trained or written",
    ]
    if sys.platform != "win32":
        import resource  # which Windows does not have

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
        lines.insert(2, f"Memory: {size(peak)} so far, with the data")
    return lines
