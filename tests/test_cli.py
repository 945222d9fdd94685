import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from lenet import __version__
from lenet.cli import data as commands
from lenet.cli import main as cli
from lenet.errors import LeNetError
from lenet.training.recipe import RECIPES, Recipe

QUICK = ["--epochs", "1", "--batch-size", "20", "--num-val", "0", "--quiet"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_mnist: None) -> Path:
    """An empty working directory; MNIST is the tiny data set."""
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def test_train_then_evaluate_then_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *QUICK, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    run = folder / "runs" / "default-seed0"
    assert record == json.loads((run / "record.json").read_text())
    html = (run / "report.html").read_text()
    for share in (record["train_accuracy"], record["test_accuracy"]):
        assert f"{100 * share:.2f} %" in html
    assert cli.main(["evaluate", str(run), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["accuracy"] == record["test_accuracy"]
    assert scores["num_images"] == 20
    assert cli.main(["evaluate", str(run / "model.safetensors"), "--split", "train"]) == 0
    assert f"train accuracy {record['train_accuracy']:.2%}" in capsys.readouterr().out
    assert cli.main(["evaluate", "pretrained"]) == 0
    (run / "report.html").unlink()
    assert cli.main(["report", str(run)]) == 0
    assert (run / "report.html").is_file()


def test_recipe_fields_are_flags_and_named_recipes_are_defaults(folder: Path) -> None:
    assert cli.main(["train", *QUICK, "--seed", "7", "report", "--activation", "relu"]) == 0
    saved = json.loads((folder / "runs" / "report-seed7" / "recipe.json").read_text())
    assert saved["recipe_name"] == "report"
    recipe = Recipe(**saved["recipe"])
    assert (recipe.resize, recipe.activation, recipe.epochs) == ("stretch", "relu", 1)


def test_a_folder_named_like_a_recipe_is_no_recipe(folder: Path) -> None:
    assert cli.main(["train", *QUICK, "--out", "report"]) == 0
    saved = json.loads((folder / "report" / "recipe.json").read_text())
    assert saved["recipe_name"] == "default"
    assert saved["recipe"]["resize"] == RECIPES["default"].resize


def test_train_twice_makes_two_runs_and_out_never_overwrites(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("default-seed0", "default-seed0-2"):
        assert cli.main(["train", *QUICK]) == 0
        assert (folder / "runs" / name / "record.json").is_file()
    before = (folder / "runs" / "default-seed0" / "record.json").read_bytes()
    capsys.readouterr()
    assert cli.main(["train", *QUICK, "--out", "runs/default-seed0"]) == 1
    assert "found a run" in capsys.readouterr().err
    assert (folder / "runs" / "default-seed0" / "record.json").read_bytes() == before


def test_ctrl_c_leaves_the_run_resumable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "--epochs", "3", "--batch-size", "20", "--num-val", "0", "--quiet"]
    assert cli.main([*train, "--out", "whole"]) == 0
    from lenet.cli.console import TrainingView

    def interrupt(self: TrainingView, epoch: int, tally: object) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingView, "batch", interrupt)
        assert cli.main(train) == 130
    said = capsys.readouterr().err
    assert "interrupted after 1 of 3 epochs" in said
    assert "lenet train --resume --out runs/default-seed0" in said
    assert cli.main(["train", "--resume", "--quiet"]) == 0
    model = "model.safetensors"
    run = folder / "runs" / "default-seed0"
    assert (run / model).read_bytes() == (folder / "whole" / model).read_bytes()
    # A new run says that there was an unfinished one only while there is.
    capsys.readouterr()
    assert cli.main(["train", *QUICK]) == 0
    assert "unfinished" not in capsys.readouterr().err


def test_a_run_that_never_got_started_is_taken_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lenet.cli.console import TrainingView

    def interrupt(self: TrainingView, epoch: int, tally: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingView, "batch", interrupt)
        assert cli.main(["train", *QUICK]) == 130
    assert cli.main(["train", *QUICK]) == 0
    assert [p.name for p in (folder / "runs").iterdir()] == ["default-seed0"]


def test_resume_refuses_other_settings_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", *QUICK, "--out", "run"]) == 0
    capsys.readouterr()
    resume = ["train", "--resume", "--out", "run"]
    assert cli.main([*resume, "report", "--lr", "0.5", "--seed", "3"]) == 1
    assert "`report --lr 0.5 --seed 3` asks for others" in capsys.readouterr().err
    assert cli.main([*resume, "default", *QUICK, "--seed", "0"]) == 0


def test_a_data_dir_that_can_not_be_used_is_an_error_and_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").mkdir()
    for verb in (["train", *QUICK, "--out", "x"], ["study", "--out", "x"], ["data", "fetch"]):
        assert cli.main([*verb, "--data-dir", "empty"]) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: empty: can't be used for Tiny: it holds none of ")
    assert [path.name for path in folder.iterdir()] == ["empty"]


def test_errors_are_one_line_and_status_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "page.safetensors").write_text("<!doctype html>")
    (folder / "empty").mkdir()
    for arguments, message in (
        (["train", "nosuch"], "`recipe` (='nosuch') must be one of: default, report"),
        (["train", "--lr", "-1"], "`lr` (=-1.0): Expected `float` > 0"),
        (["train", "--seed", "-1"], "`seed` (=-1)"),
        (["train", "--device", "tpu"], "`device` (='tpu')"),
        (["train", "--threads", "-1"], "`threads` (=-1)"),
        (["train", "--resume"], "nothing to resume"),
        (["train", "--resume", "--out", "empty"], "not a run directory"),
        (["evaluate", "nowhere"], "no such file or run directory"),
        (["evaluate", "page.safetensors"], "expected a safetensors file"),
        (["report", "empty"], "no record.json in it"),
        (["study", "--seeds", "0"], "`seeds` (=0)"),
    ):
        assert cli.main(arguments) == 1, arguments
        err = capsys.readouterr().err.strip().splitlines()
        assert len(err) == 1
        assert err[0].startswith("error: ")
        assert message in err[0]


@pytest.mark.parametrize(
    "arguments",
    [["nosuch"], ["train", "--bogus"], ["train", "--epochs", "x"], ["evaluate"], ["data", "eat"]],
)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_misspelt_verb_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert "did you mean `train`?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(cli.MODULES.get(verb, "lenet.cli.data"))
    assert callable(getattr(module, verb))
    assert cli.main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"lenet {verb}" in out.split("Examples:")[1]


def test_every_recipe_field_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "report", "--help"]) == 0
    out = capsys.readouterr().out
    for name, value in asdict(RECIPES["report"]).items():
        flag = name.replace("_", "-")
        assert (f"--no-{flag}" if value is True else f"--{flag}") in out.split()


def test_overview_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"lenet {__version__}\n"
    for arguments, status in ((["--help"], 0), (["-h"], 0), ([], 2)):
        assert cli.main(arguments) == status
        out = capsys.readouterr().out
        assert all(f"\n  {verb}" in out for verb in cli.VERBS)


def test_json_verbs_print_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, keys in (
        (["recipes", "--json"], {"default", "report"}),
        (["env", "--json"], {"python", "packages", "device"}),
        (["data", "list", "--json"], {"mnist", "fashion-mnist", "kmnist"}),
        (["data", "fetch", "--json"], {"dataset", "folder"}),
        (["data", "verify", "--json"], {"dataset", "files"}),
    ):
        assert cli.main(arguments) == 0, arguments
        assert keys <= json.loads(capsys.readouterr().out).keys()


def test_verify_finds_a_flipped_bit(
    folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", "verify"]) == 0
    path = cache / "mnist" / "t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    capsys.readouterr()
    assert cli.main(["data", "verify"]) == 1
    assert f"BAD  {path}" in capsys.readouterr().out


def test_a_terminal_gets_escapes_of_no_stranger() -> None:
    assert cli.printable("a\x1b[31mb\tc\n") == "a\\x1b[31mb\\tc\n"


def test_val_split_of_a_run_without_one_is_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", *QUICK, "--out", "a"]) == 0
    assert cli.main(["evaluate", "a", "--split", "val"]) == 1
    assert "no val split" in capsys.readouterr().err
    assert cli.main(["train", *QUICK, "--out", "b", "--num-val", "15", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert cli.main(["evaluate", "b", "--split", "val", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["num_images"] == 15
    assert scores["accuracy"] == record["val_accuracy"]
    assert "(val: cut from training)" in (folder / "b" / "report.html").read_text()


def test_progress_is_plain_lines_without_a_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "--epochs", "2", "--batch-size", "20", "--num-val", "0"]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in err
    lines = [line for line in err.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    assert all("images/s" in line for line in lines)
    assert out.splitlines()[0].startswith("train accuracy")


def test_tensorboard_files_hold_the_losses(folder: Path) -> None:
    assert cli.main(["train", *QUICK, "--tensorboard", "--out", "run"]) == 0
    events = list((folder / "run" / "tensorboard").glob("events.out.tfevents.*"))
    assert len(events) == 1
    assert b"loss/train" in events[0].read_bytes()


def test_a_missing_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert cli.main(["train", *QUICK, "--tensorboard"]) == 1
    assert "pip install '.[tensorboard]'" in capsys.readouterr().err
    assert not (folder / "runs").exists()


def test_what_is_our_own_fault_stays_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(arguments: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setattr(commands, "env", break_down)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["env"])
    assert not issubclass(RuntimeError, LeNetError)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_does_not_fit_the_disk_is_one_clear_error() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "lenet", "recipes"]
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert found.returncode == 1
    assert found.stderr == "error: the output can't be written: No space left on device\n"


def test_a_server_computes_on_one_blas_thread() -> None:
    """Two wait for each other: a third of the requests a second."""
    code = (
        "import os; from lenet.cli.main import main; main(['serve', '--port', '-1']);"
        "print(os.environ['OPENBLAS_NUM_THREADS'])"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS")}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert found.stdout == "1\n"


def test_help_answers_without_heavy_imports() -> None:
    code = (
        "import sys; from lenet.cli.main import main; main(['--help']); print(sorted(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"'torch'", "'tyro'", "'rich'", "'numpy'"} & set(found.stdout.split(", "))


@pytest.mark.parametrize("delay_s", [0.3, 0.6, 1.0])
def test_sigint_while_libraries_load_ends_with_130(tmp_path: Path, delay_s: float) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "lenet", "env"], env=environment, stderr=subprocess.PIPE, text=True
    ) as child:
        time.sleep(delay_s)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    # 0: already done. -SIGINT: while it loads.
    assert child.returncode in (130, 0, -signal.SIGINT)
    assert "Traceback" not in err or child.returncode == -signal.SIGINT
