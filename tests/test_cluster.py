"""Ray: what needs it is skipped where it is not installed."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from lenet import cli
from lenet.cluster import connected
from lenet.errors import ClusterError

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


def test_without_ray_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tiny_mnist: None, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match="pip install 'lenet\\[cluster\\]'"), connected("local"):
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
    study += ["--epochs", "400", "--batch-size", "20"]
    lost, here = tmp_path / "lost", tmp_path / "here"
    child = subprocess.Popen(
        [*study, "--ray", "--out", str(lost)], env=everywhere, stdout=subprocess.DEVNULL
    )
    while not (lost / "seed-0" / "metrics.jsonl").exists() and child.poll() is None:
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


@needs_ray
def test_a_cluster_that_is_not_there_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["study", "--ray", "127.0.0.1:1", "--out", str(tmp_path)]) == 1
    assert "no Ray cluster at `127.0.0.1:1`" in capsys.readouterr().err
