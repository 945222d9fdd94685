"""Speed of this machine's engines, measured in turns."""

from lenet.bench.measure import BenchRecord, Result, run_bench

__all__ = ["BenchRecord", "Result", "run_bench"]
