"""Many photos, on all processors of a machine or of a cluster, to one table."""

from emotion.batch.outputs import BatchOutputs
from emotion.batch.running import BatchProgress, BatchReport, BatchSettings, run_batch
from emotion.batch.workers import ClusterWorkers, LocalWorkers, Workers

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
