"""A run directory: what is to be trained in it, and how far it has come."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lenet.errors import LeNetError, RecipeError, RunError
from lenet.files import TEMPORARY_SUFFIX, write_text
from lenet.results.records import METRICS_FILE, RECORD_FILE
from lenet.schema import RunFile, read, to_json
from lenet.training.recipe import Recipe, from_dict

RECIPE_FILE = "recipe.json"
LOCK_FILE = ".lock"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run directory and what is to be trained in it."""

    path: Path
    recipe_name: str
    recipe: Recipe
    seed: int
    images: str | None = None
    """The user's own pictures, as named on the command line; copied into the folder."""
    start: str | None = None
    """The model whose weights the run begins with; copied too."""

    @property
    def is_finished(self) -> bool:
        """Whether the record, the last file written, is there."""
        return (self.path / RECORD_FILE).is_file()

    def lock(self) -> FileLock:
        """The lock that a process holds while it trains here; the system frees it at its end."""
        return FileLock(self.path / LOCK_FILE)

    @property
    def is_locked(self) -> bool:
        """Whether a process trains here now."""
        try:
            with self.lock().acquire(timeout=0):
                return False
        except Timeout:
            return True

    @property
    def num_epochs_done(self) -> int:
        """Whole epochs that a resume would not repeat."""
        try:
            return len((self.path / METRICS_FILE).read_text(encoding="utf-8").splitlines())
        except OSError:
            return 0


def create_run(
    path: Path,
    recipe_name: str,
    recipe: Recipe,
    seed: int,
    *,
    images: str | None = None,
    start: str | None = None,
) -> Run:
    """Make a run directory.

    Raises:
        RunError: The folder holds a run or other files, or can't be made.
    """
    if not 0 <= seed < 2**32:
        raise RecipeError(f"`seed` (={seed}) must be between 0 and 2**32 - 1")
    content = RunFile(
        recipe_name=recipe_name, seed=seed, recipe=asdict(recipe), images=images, start=start
    )
    with errors_named(path):
        path.mkdir(parents=True, exist_ok=True)
        # Half-written files are left alone: they may be those of a process that trains here.
        if any(file.suffix != TEMPORARY_SUFFIX for file in path.iterdir()):
            is_run = (path / RECIPE_FILE).is_file()
            raise RunError(
                f"{path}: expected a new or empty folder, found "
                + ("a run; `--resume` goes on with it" if is_run else "other files")
                + ", `--out` names another folder"
            )
        write_text(path / RECIPE_FILE, to_json(content, indent=1) + "\n")
    return open_run(path)


def open_run(path: Path) -> Run:
    """Read a run directory's recipe.

    Raises:
        RunError: Not a run directory.
        RecipeError: Its recipe is not one of this version.
    """
    file = path / RECIPE_FILE
    if not file.is_file():
        raise RunError(f"{path}: not a run directory: no {RECIPE_FILE} in it")
    content = read(file, RunFile)
    recipe = from_dict(content.recipe, source=str(file))
    return Run(
        path=path,
        recipe_name=content.recipe_name,
        recipe=recipe,
        seed=content.seed,
        images=content.images,
        start=content.start,
    )


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Say of which run it is that a file can't be written."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        if isinstance(error, LeNetError):
            raise
        raise RunError(
            f"{path}: can't write this run: {error.strerror or error}; "
            "when the cause is gone, `lenet train --resume --out` with this folder goes on"
        ) from None
