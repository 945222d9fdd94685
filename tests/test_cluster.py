"""Ray: what needs it is skipped where it is not installed; a fake stands in for the rest."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lenet.cli import main as cli
from lenet.errors import ClusterError, DataError, RunError
from lenet.parallel.ray_cluster import connected
from lenet.schema import RunRecord, StudyRecord, read
from lenet.study.on_ray import _keep, _run_there, run_on_ray
from lenet.study.study import run_study
from lenet.study.tasks import SeedTask
from lenet.training.recipe import RECIPES, Recipe

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


def test_without_ray_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tiny_mnist: None, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install '\.\[cluster\]'"), connected("local"):
        pass
    assert cli.main(["study", "--ray", "--jobs", "2"]) == 1
    assert "`--jobs` has no effect with `--ray`" in capsys.readouterr().err


def ray_workers(pid: int) -> list[int]:
    """Return the processes that carry out tasks of a study that `pid` runs."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in found.stdout.splitlines()]
    known = {pid}
    for _ in range(5):  # the command, Ray's raylet, its workers
        known |= {int(a) for a, b, *_ in rows if int(b) in known}
    return [int(a) for a, _, *args in rows if int(a) in known and "_run_there" in "".join(args)]


@needs_ray
def test_a_study_on_ray_survives_the_loss_of_a_worker(
    tmp_path: Path, everywhere: dict[str, str]
) -> None:
    study = [sys.executable, "-m", "lenet", "study", "--seeds", "2", "--quiet"]
    study += ["--num-val", "0", "--epochs", "400", "--batch-size", "20"]
    lost, here = tmp_path / "lost", tmp_path / "here"
    child = subprocess.Popen(
        [*study, "--ray", "--out", str(lost)], env=everywhere, stdout=subprocess.DEVNULL
    )
    # Both under way, so that whichever is killed has something to go on from.
    while len(list(lost.glob("seed-*/metrics.jsonl"))) < 2 and child.poll() is None:
        time.sleep(0.02)
    os.kill(ray_workers(child.pid)[0], signal.SIGKILL)
    assert child.wait() == 0
    subprocess.run([*study, "--out", str(here)], env=everywhere, check=True)
    for seed in range(2):
        model = f"seed-{seed}/model.safetensors"
        assert (lost / model).read_bytes() == (here / model).read_bytes()
    sessions = [
        json.loads((lost / f"seed-{seed}" / "record.json").read_text())["num_sessions"]
        for seed in range(2)
    ]
    assert max(sessions) == 2


@needs_ray
def test_ray_reads_what_one_process_reads(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from PIL import Image, ImageDraw

    rows = []
    for i in range(12):
        image = Image.new("L", (60, 60), 255)
        ImageDraw.Draw(image).line([(15, 12 + i), (45, 12), (25, 50)], fill=0, width=4)
        image.save(tmp_path / "one.png")
        rows.append((tmp_path / "one.png").read_bytes())
    pq.write_table(pa.table({"image": rows}), tmp_path / "p.parquet", row_group_size=3)
    command = [sys.executable, "-m", "lenet", "predict", str(tmp_path / "p.parquet"), "--out"]
    for name, flags in (("here", []), ("there", ["--ray"])):
        subprocess.run([*command, str(tmp_path / name), *flags], check=True, capture_output=True)
    tables = [
        pa.concat_tables([pq.read_table(p) for p in sorted((tmp_path / name).glob("part-*"))])
        for name in ("here", "there")
    ]
    assert tables[0].num_rows == 12
    assert tables[0].equals(tables[1])


class LostError(Exception):
    """What the fake raises for a task that was lost."""


class FakeRay(ModuleType):
    """Carries tasks out at once, in this process, or loses them."""

    def __init__(self, lost: Collection[int] = ()) -> None:
        super().__init__("ray")
        self.lost = lost
        self.addresses: list[str] = []
        self.tasks: list[SeedTask] = []
        self.cancelled: list[object] = []
        self.exceptions = SimpleNamespace(RayError=LostError)

    def init(self, address: str, **settings: Any) -> None:
        self.addresses.append(address)

    def shutdown(self) -> None:
        self.addresses.append("left")

    def remote(self, **settings: Any) -> Any:
        def give(function: Callable[[SeedTask], Any]) -> Any:
            def begin(task: SeedTask) -> tuple[Callable[[SeedTask], Any], int]:
                self.tasks.append(task)
                return function, len(self.tasks) - 1

            return SimpleNamespace(remote=begin)

        return give

    def wait(self, references: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return references[:1], references[1:]

    def get(self, reference: Any) -> Any:
        function, number = reference
        if number in self.lost:
            raise LostError("ray::_run_there()\n  Traceback\nValueError: no luck")
        return function(self.tasks[number])

    def cancel(self, reference: Any, *, force: bool) -> None:
        self.cancelled.append(reference)


@pytest.fixture
def small() -> Recipe:
    return replace(RECIPES["default"], num_val=0, epochs=1, batch_size=20)


def test_a_seed_that_is_lost_for_good_keeps_no_other_from_its_end(
    tmp_path: Path, tiny_mnist: None, small: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRay(lost={1})
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.chdir(tmp_path)
    execute = partial(run_on_ray, address="local")
    with pytest.raises(RunError, match="seed 1: lost on the cluster: ValueError: no luck"):
        run_study(Path("study"), "default", small, range(3), executor=execute)
    assert fake.addresses == ["local", "left"]
    fake.lost = ()
    record = run_study(Path("study"), "default", small, range(3), executor=execute)
    assert read(tmp_path / "study" / "study.json", StudyRecord) == record


def test_a_cluster_that_does_not_start_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay()

    def init(address: str, **settings: Any) -> None:
        # As Ray 2.60 has it, on a machine that is very busy.
        raise Exception("The current node timed out during startup. This could happen\nbecause")

    monkeypatch.setattr(fake, "init", init)
    monkeypatch.setitem(sys.modules, "ray", fake)
    with pytest.raises(ClusterError, match="`local`: The current node timed out during"):
        next(run_on_ray([SeedTask(path=Path(), recipe_name="", recipe=Recipe(), seed=0)], "local"))


def test_a_cluster_that_is_lost_on_the_way_is_one_clear_error(
    small: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRay()

    def wait(references: list[Any], num_returns: int) -> None:
        raise OSError("Failed to read data from the socket: End of file")  # as Ray 2.60 has it

    monkeypatch.setattr(fake, "wait", wait)
    monkeypatch.setitem(sys.modules, "ray", fake)
    task = SeedTask(path=Path("s"), recipe_name="default", recipe=small, seed=0)
    with pytest.raises(ClusterError, match="lost the Ray cluster at `local`: Failed to read"):
        list(run_on_ray([task], "local"))
    assert fake.addresses[-1] == "left"


def test_paths_mean_the_same_on_another_machine(
    tmp_path: Path, small: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRay(lost={0})
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.chdir(tmp_path)
    task = SeedTask(
        path=Path("s"), recipe_name="default", recipe=small, seed=0, data_dir=Path("data")
    )
    list(run_on_ray([task], "local"))
    assert (fake.tasks[0].path, fake.tasks[0].data_dir) == (tmp_path / "s", tmp_path / "data")


def test_what_would_stop_every_seed_cancels_the_others(
    tmp_path: Path, small: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)

    def fail(task: SeedTask) -> RunRecord:
        raise DataError("bad data")

    monkeypatch.setattr("lenet.study.on_ray.run_task", fail)
    task = SeedTask(path=tmp_path, recipe_name="default", recipe=small, seed=0)
    with pytest.raises(DataError, match="bad data"):
        list(run_on_ray([task, replace(task, seed=1)], "local"))
    assert len(fake.cancelled) == 1
    assert fake.addresses[-1] == "left"


def test_a_run_s_files_come_back_its_record_last(
    tmp_path: Path, tiny_mnist: None, small: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = SeedTask(path=tmp_path / "there", recipe_name="default", recipe=small, seed=0)
    _, files = _run_there(there)
    written: list[str] = []
    monkeypatch.setattr(
        "lenet.study.on_ray.write_bytes", lambda path, content: written.append(path.name)
    )
    _keep(tmp_path / "here", files)
    assert written[-1] == "record.json"
    assert sorted(written) == sorted(p.name for p in there.path.iterdir() if p.name != ".lock")
    _keep(there.path, files)
    assert len(written) == len(files)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}"])
def test_an_address_where_nobody_listens_is_said_at_once(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = form.format(taken.getsockname()[1])
        with pytest.raises(ClusterError, match="no Ray cluster at `"), connected(address):
            pass
    assert not fake.addresses
