"""One recipe under many seeds, and many recipes: runs that do not wait for each other."""

from lenet.study.study import run_study
from lenet.study.sweep import parse_sweep, run_sweep
from lenet.study.tasks import SeedTask, StudyWatcher

__all__ = ["SeedTask", "StudyWatcher", "parse_sweep", "run_study", "run_sweep"]
