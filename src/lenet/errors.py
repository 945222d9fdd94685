"""The exception tree of the package.

LeNetError            anything a user can cause; the CLI prints it and exits 1
    DataError         a data file is broken (also a ValueError)
    DownloadError     every source of a data set failed (also an OSError)
    RecipeError       a recipe's field is out of range (also a ValueError)
    CheckpointError   a model file or resume state can't be read (also a ValueError)
    PictureError      a picture can't be read (also a ValueError)
    RunError          a run directory can't be used as asked (also an OSError)
    ClusterError      a cluster can't be used as asked (also an OSError)
    ExportError       a model can't be exported as asked, or faithfully (also a ValueError)
    DivergenceError   the loss is no longer a finite number (also an ArithmeticError)
"""

from collections.abc import Sequence


def install_hint(extra: str) -> str:
    """Return what to do to get the packages of an extra; the name `lenet` is not on PyPI."""
    return f"in a clone of lenet, `pip install '.[{extra}]'` installs it"


class LeNetError(Exception):
    """Base of every error that a user can cause and mend."""


class DataError(LeNetError, ValueError):
    """A data file does not hold what it should."""


class DownloadError(LeNetError, OSError):
    """Every source of a data set failed.

    Attributes:
        failures: (source, reason) of each source tried, in the order tried.
    """

    def __init__(self, message: str, failures: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)


class RecipeError(LeNetError, ValueError):
    """A field of a recipe has a value that is not allowed."""


class CheckpointError(LeNetError, ValueError):
    """A model file or resume state can't be read."""


class PictureError(LeNetError, ValueError):
    """A picture can't be read, or is not one."""


class RunError(LeNetError, OSError):
    """A run directory can't be created, continued or read as asked."""


class ClusterError(LeNetError, OSError):
    """A Ray cluster can't be reached, or what it takes is not installed."""


class ExportError(LeNetError, ValueError):
    """A model can't be exported as asked, or the export differs from its source."""


class DivergenceError(LeNetError, ArithmeticError):
    """The training loss became infinite or not a number."""
