import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lenet.cli import main as cli
from lenet.errors import DataError, DivergenceError, RecipeError, RunError
from lenet.results.statistics import summarize_images, summarize_runs
from lenet.schema import RunFigures, StudyRecord, read
from lenet.study.figure import sweep_figure
from lenet.study.study import choose, parse_sweep, run_study, run_sweep
from lenet.study.tasks import Outcome, SeedTask, run_in_processes, run_task, share_cores
from lenet.study.view import StudyView
from lenet.training.finish import environment
from lenet.training.recipe import RECIPES, Recipe

SMALL = replace(RECIPES["default"], num_val=0, epochs=2, batch_size=20)


def in_turn(tasks: Sequence[SeedTask]) -> Generator[Outcome]:
    """Carry tasks out in this process, which knows the tiny data set."""
    for task in tasks:
        try:
            yield task, run_task(task)
        except (DivergenceError, RunError) as error:
            yield task, error


@pytest.fixture
def here(tmp_path: Path, tiny_mnist: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, where `lenet study` trains in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lenet.study.study.run_in_processes", lambda tasks, jobs: in_turn(tasks))
    return tmp_path


def test_a_study_summarizes_its_seeds_and_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = ["study", "--epochs", "1", "--batch-size", "20", "--num-val", "0", "--seeds"]
    assert cli.main([*study, "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [run["seed"] for run in record["runs"]] == [0, 1]
    accuracies = [run["test_accuracy"] for run in record["runs"]]
    assert record["summary"]["test_accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    wrong = [run["test_wrong"] for run in record["runs"]]
    assert record["test_images"]["mean"] == summarize_images(wrong, 20).mean
    first = here / "runs" / "study-default" / "seed-0" / "record.json"
    before = first.stat().st_mtime_ns
    assert cli.main([*study, "3"]) == 0
    assert first.stat().st_mtime_ns == before
    out = capsys.readouterr().out
    assert "n 3" in out
    assert "over 20 test images" in out
    assert cli.main([*study, "3", "--lr", "0.5"]) == 1
    assert "holds a run of another recipe" in capsys.readouterr().err


def test_one_seed_s_failure_does_not_keep_the_others_from_their_end(
    tmp_path: Path, tiny_mnist: None
) -> None:
    def second_diverges(tasks: Sequence[SeedTask]) -> Generator[Outcome]:
        for task in tasks:
            yield task, DivergenceError("not finite") if task.seed == 1 else run_task(task)

    with pytest.raises(RunError, match="1 of 3 seeds failed, the others are trained: seed 1: not"):
        run_study(tmp_path, "default", SMALL, range(3), executor=second_diverges)
    assert (tmp_path / "seed-2" / "record.json").is_file()
    assert not (tmp_path / "study.json").exists()
    record = run_study(tmp_path, "default", SMALL, range(3), executor=in_turn)
    assert read(tmp_path / "study.json", StudyRecord) == record


@pytest.mark.parametrize(
    ("num_tasks", "num_jobs", "num_cores", "expected"),
    [
        (4, 2, 2, [1, 1, 1, 1]),
        (3, 2, 2, [1, 1, 2]),
        (1, 1, 2, [2]),
        (5, 4, 8, [2, 2, 2, 2, 8]),
        (2, 2, 1, [1, 1]),
    ],
)
def test_the_last_runs_share_all_cores(
    num_tasks: int, num_jobs: int, num_cores: int, expected: list[int]
) -> None:
    task = SeedTask(path=Path(), recipe_name="", recipe=SMALL, seed=0)
    found = share_cores([task] * num_tasks, num_jobs, num_cores)
    assert [t.max_cores for t in found] == expected


def test_cores_change_no_result_of_torch_s_engine(tmp_path: Path, tiny_mnist: None) -> None:
    task = SeedTask(path=Path(), recipe_name="", recipe=SMALL, seed=0, engine="torch")
    models = []
    for max_cores in (1, 2):
        path = tmp_path / str(max_cores)
        run_task(replace(task, path=path, max_cores=max_cores))
        models.append((path / "model.safetensors").read_bytes())
    assert models[0] == models[1]


def figures(study: Path) -> Any:
    """A study's record without its times, and without the environment, where they were taken."""
    record = json.loads((study / "study.json").read_text())
    del record["summary"]["training_s"], record["environment"], record["command"]
    return [
        {k: v for k, v in run.items() if k != "training_s"} for run in record.pop("runs")
    ], record


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_a_study_stopped_and_killed_ends_as_one_that_was_left_alone(
    tmp_path: Path, everywhere: dict[str, str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    study = [sys.executable, "-m", "lenet", "study", "--seeds", "2", "--jobs", "1"]
    study += ["--num-val", "0"]
    study += ["--epochs", "100", "--batch-size", "20", "--out", str(killed)]
    for seed, number in ((0, signal.SIGINT), (1, signal.SIGKILL)):
        child = subprocess.Popen(study, env=everywhere, stderr=subprocess.PIPE, text=True)
        wait_for_files(killed, f"seed-{seed}/metrics.jsonl", 1)
        workers = children_of(child.pid)
        assert workers
        child.send_signal(number)
        _, errors = child.communicate()
        if number == signal.SIGINT:
            assert child.returncode == cli.EXIT_INTERRUPTED
            assert f"interrupted; the same command goes on in {killed}" in errors
        assert "Traceback" not in errors
        # Nobody goes on training behind the back of who resumes.
        wait_for_end(workers)
    assert not (killed / "study.json").exists()
    subprocess.run(study, env=everywhere, check=True, capture_output=True)
    recipe = replace(SMALL, epochs=100)
    run_study(whole, "default", recipe, range(2), executor=in_turn)
    assert figures(killed) == figures(whole)
    for seed in range(2):
        model = f"seed-{seed}/model.safetensors"
        assert (killed / model).read_bytes() == (whole / model).read_bytes()


def wait_for_files(folder: Path, pattern: str, number: int) -> None:
    wait_for(lambda: len(list(folder.glob(pattern))) >= number)


def wait_for_end(processes: list[int]) -> None:
    wait_for(lambda: not any(map(alive, processes)))


def wait_for(condition: Callable[[], bool]) -> None:
    # Other work may stop all processes of a test for minutes.
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError


def _fail(task: SeedTask) -> None:
    if task.seed == 0:
        raise DataError("bad data")
    time.sleep(600)


def _die(task: SeedTask) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("does", "error", "match"),
    [(_fail, DataError, "bad data"), (_die, RunError, "was killed, perhaps for want of memory")],
)
def test_what_would_stop_every_seed_stops_the_study_at_once(
    does: Callable[[SeedTask], None],
    error: type[Exception],
    match: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lenet.study.tasks.run_task", does)
    task = SeedTask(path=Path(), recipe_name="", recipe=SMALL, seed=0)
    with pytest.raises(error, match=match):
        list(run_in_processes([task, replace(task, seed=1)], 2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=1e-3,2e-3", ("lr", (1e-3, 2e-3))),
        ("batch-size=32, 64", ("batch_size", (32, 64))),
        ("activation=tanh,relu", ("activation", ("tanh", "relu"))),
        ("test_as_validation=false", ("test_as_validation", (False,))),
    ],
)
def test_a_sweep_is_read_by_the_type_of_its_field(text: str, expected: tuple[str, Any]) -> None:
    assert parse_sweep(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "FIELD=VALUE"),
        ("rate=1", "with one of the fields: dataset, model"),
        ("lr=fast", "`lr` (='fast'): Expected `float`"),
        ("epochs=1.5", "Expected `int`, got `str`"),
        ("pooling=mean", "Invalid enum value"),
        ("test_as_validation=maybe", "Expected `bool`"),
        ("lr=1e-3,0.001", "must not name a value twice"),
        ("lr=-1", "`lr` (='-1'): Expected"),
        ("num_val=0,20", "at least 1"),
    ],
)
def test_a_sweep_that_cannot_be_is_one_clear_error(
    text: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["study", "fast", "--sweep", text]) == 1
    assert message in capsys.readouterr().err
    assert not list(here.rglob("seed-*"))


def test_a_sweep_chooses_on_val_and_shows_no_test(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["study", "fast", "--sweep", "lr=1e-3,1e-2", "--sweep", "batch_size=10,20"]
    sweep += ["--seeds", "2"]
    assert cli.main([*sweep, "--num-val", "20", "--epochs", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    for study in record["studies"].values():
        assert study.pop("test_images") is None
        assert "test_" not in json.dumps({**study, "recipe": {}, "command": ""})
    assert "test " not in err
    names = [f"lr={lr},batch_size={size}" for lr in (1e-3, 1e-2) for size in (10, 20)]
    assert list(record["studies"]) == names
    means = {k: v["summary"]["val_accuracy"]["mean"] for k, v in record["studies"].items()}
    assert means[record["best"]] == max(means.values())
    folder = here / "runs" / "sweep-fast"
    assert (folder / "lr=0.01,batch_size=20" / "seed-1" / "record.json").is_file()
    assert (folder / "sweep.png").stat().st_size > 1000
    assert cli.main([*sweep, "--num-val", "20", "--epochs", "1"]) == 0
    assert "is best on the validation images" in capsys.readouterr().out


def sweep_of(
    tmp_path: Path, accuracies: dict[str, list[float] | None], tiny_mnist: None
) -> tuple[str, Any]:
    """Run a sweep over activations whose validation accuracies are given; None fails."""
    trained: dict[int, Any] = {}

    def given(tasks: Sequence[SeedTask]) -> Generator[Outcome]:
        for task in tasks:
            values = accuracies[task.recipe.activation]
            if values is None:
                yield task, DivergenceError("not finite")
                continue
            if task.seed not in trained:
                trained[task.seed] = run_task(replace(task, path=tmp_path / f"model-{task.seed}"))
            yield task, replace(trained[task.seed], val_accuracy=values[task.seed])

    recipe = replace(SMALL, epochs=1, num_val=20)
    num_seeds = max(len(values) for values in accuracies.values() if values is not None)
    record = run_sweep(
        tmp_path,
        "default",
        recipe,
        {"activation": list(accuracies)},
        range(num_seeds),
        executor=given,
    )
    return record.sentence, record


def test_what_is_not_shown_to_be_worse_is_named(tmp_path: Path, tiny_mnist: None) -> None:
    sentence, record = sweep_of(
        tmp_path,
        {"tanh": [0.97, 0.98, 0.975], "relu": [0.98, 0.981, 0.982], "silu": [0.981, 0.985, 0.98]},
        tiny_mnist,
    )
    assert record.best == "activation=silu"
    assert sentence.startswith("activation=silu is best on the validation images: 98.20%")
    assert sentence.endswith(
        "not shown to be worse, paired over 3 seeds and corrected for 3 settings: "
        "activation=tanh, activation=relu."
    )
    assert sweep_figure(record).axes[0].get_xlabel() == "activation"


@pytest.mark.parametrize("num_settings", [4, 8])
def test_equal_settings_are_seldom_shown_to_differ(num_settings: int) -> None:
    """5 % of sweeps at most, however many settings the best one was chosen from."""
    rng = np.random.default_rng(0)
    machine, shown = environment(), 0
    for _ in range(300):
        studies = {}
        for setting in range(num_settings):
            runs = [RunFigures(seed=s, val_accuracy=rng.normal(0.98, 0.001)) for s in range(5)]
            studies[f"lr={setting}"] = StudyRecord(
                recipe_name="",
                recipe={},
                seeds=tuple(range(5)),
                summary=summarize_runs(runs),
                runs=tuple(runs),
                environment=machine,
                command="",
            )
        _, sentence = choose(studies)
        listed = sentence.partition("settings: ")[2].count("lr=")
        shown += listed < num_settings - 1
    assert shown <= 0.05 * 300 + 8  # two standard deviations more


def test_a_setting_that_fails_is_no_reason_to_stop(tmp_path: Path, tiny_mnist: None) -> None:
    sentence, record = sweep_of(
        tmp_path,
        {"tanh": [0.90, 0.901, 0.902], "relu": [0.98, 0.981, 0.982], "silu": None},
        tiny_mnist,
    )
    assert record.studies["activation=silu"].failed["1"] == "not finite"
    assert "every other setting is shown to be worse" in sentence
    sweep_figure(record)


def test_the_view_shows_what_is_under_way(tmp_path: Path, tiny_mnist: None) -> None:
    console = Console(force_terminal=True, width=100, record=True, file=io.StringIO())
    tasks = [
        SeedTask(path=tmp_path / f"seed-{s}", recipe_name="default", recipe=SMALL, seed=s)
        for s in range(3)
    ]
    with StudyView(console, show_test=True) as view:
        view.start(tasks, 1)
        view.end((tasks[0], run_task(tasks[0])))
        view.end((tasks[1], DivergenceError("not finite")))
        run_task(tasks[2])
        console.print(view.table())
    text = console.export_text()
    assert "3 runs, 1 at a time" in text
    assert "seed 1   failed: not finite" in text
    assert "2 of 3 runs done" in text
    assert "2/2" in text


def test_recipes_differ_only_where_they_are_swept() -> None:
    with pytest.raises(RecipeError, match="settings"):
        run_sweep(Path(), "default", Recipe(num_val=10), {"epochs": range(1, 1002)}, [0])
