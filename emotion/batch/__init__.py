"""Many photos, on all processors of a machine or of a cluster, to one table."""

from emotion.batch.executors import ClusterWorkers, LocalWorkers, Workers
from emotion.batch.outputs import BatchOutputs
from emotion.batch.run import BatchProgress, BatchReport, BatchSettings, run_batch

__all__ = [
    "BatchOutputs",
    "BatchProgress",
    "BatchReport",
    "BatchSettings",
    "ClusterWorkers",
    "LocalWorkers",
    "Workers",
    "run_batch",
]
