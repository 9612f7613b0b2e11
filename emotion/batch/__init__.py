"""Many photos, on all processors of a machine or of a cluster, to one table."""

from emotion.batch.executors import ClusterWorkers as ClusterWorkers
from emotion.batch.executors import LocalWorkers as LocalWorkers
from emotion.batch.executors import Workers as Workers
from emotion.batch.outputs import BatchOutputs as BatchOutputs
from emotion.batch.run import BatchProgress as BatchProgress
from emotion.batch.run import BatchReport as BatchReport
from emotion.batch.run import run_batch as run_batch
from emotion.batch.worker import BatchSettings as BatchSettings
