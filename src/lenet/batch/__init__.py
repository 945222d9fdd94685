"""Many pictures into Parquet, here or on a cluster."""

from lenet.batch.reading import Batch, claimed, count, plan, read_here, read_on_ray

__all__ = ["Batch", "claimed", "count", "plan", "read_here", "read_on_ray"]
