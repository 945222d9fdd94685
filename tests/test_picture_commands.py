import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lenet.cli.main import main
from lenet.reading.labelled import find_labelled


@pytest.fixture
def folder(tmp_path: Path, seven: Image.Image) -> Path:
    """Two sevens, one of them in a subfolder, a blank page and a text file."""
    path = tmp_path / "pictures"
    (path / "more").mkdir(parents=True)
    seven.save(path / "b.png")
    seven.save(path / "more" / "a.JPG")
    Image.new("L", (50, 50), 250).save(path / "blank.gif")
    (path / "notes.txt").write_text("not a picture")
    return path


def test_a_folder_is_read_in_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line[0] for line in lines] == ["7", "-", "7"]
    assert lines[0].endswith(str(folder / "b.png"))
    assert "no digit found" in lines[1]
    assert err == ""


def test_json_is_an_object_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["status"] for row in rows] == ["read", "empty", "read"]
    assert rows[0]["label"] == "7"
    assert rows[0]["probability"] > rows[0]["second_probability"]
    assert rows[1]["label"] is None
    assert set(rows[0]) == {
        "path", "label", "probability", "second", "second_probability", "status", "best", "box",
    }  # fmt: skip


def test_csv_has_a_header(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["label"] for row in rows] == ["7", "", "7"]


def test_too_unsure_is_no_label(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder / "b.png"), "--reject", "1", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["status"], row["label"], row["best"]) == ("rejected", None, "7")
    assert main(["predict", str(folder / "b.png"), "--reject", "1"]) == 0
    assert capsys.readouterr().out.startswith("?  (7)")


def test_a_picture_that_fails_is_a_line_and_the_rest_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = folder / "\x1b[31mred\nline.png"
    odd.write_bytes(b"junk")
    bad = os.fsdecode(os.fsencode(folder) + b"/\xff.png")
    (folder / "notes.txt").rename(bad)
    good = str(folder / "b.png")
    missing = str(folder / "none.png")
    assert main(["predict", str(odd), good, missing, bad, good]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    lines = err.splitlines()
    assert len(lines) == 3
    assert "\x1b" not in err
    assert "\\x1b[31mred\\nline.png" in lines[0]
    assert "No such file" in lines[1]
    assert "\\udcff.png: not a picture" in lines[2]


def test_links_in_circles_and_folders_named_like_pictures_are_survived(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "x.png").mkdir()
    (folder / "more" / "up").symlink_to(folder)
    (folder / "round.png").symlink_to(folder / "round.png")
    assert main(["predict", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert len(err.splitlines()) == 1
    assert main(["predict", str(folder / "x.png")]) == 1
    assert "no pictures in this folder" in capsys.readouterr().err


def test_steps_are_drawn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = folder / "steps.png"
    assert main(["predict", str(folder / "b.png"), "--show-steps", str(target)]) == 0
    with Image.open(target) as sheet:
        assert sheet.width > sheet.height > 150
    assert main(["predict", str(folder), "--show-steps", str(folder / "no" / "x.png")]) == 1
    assert "can't be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no pictures named"),
        (["x.png", "--reject", "2"], "between 0 and 1"),
        (["x.png", "--json", "--csv"], "exclude each other"),
        (["x.png", "--model", "none"], "no such file"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", *arguments]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_numbers_are_read_from_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["read", str(folder), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["number"] for row in rows] == ["7", None, "7"]
    assert rows[0]["lines"] == ["7"]
    assert set(rows[0]) == {
        "path", "number", "probability", "status", "best", "lines", "boxes", "turned",
    }  # fmt: skip
    assert main(["read", str(folder / "b.png"), "--csv"]) == 0
    assert capsys.readouterr().out.startswith("path,number,")
    assert main(["read", str(folder / "b.png"), "--reject", "1"]) == 0
    assert capsys.readouterr().out.startswith("? (7)")


def test_own_pictures_are_scored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("7", "1"):
        (folder / "own" / label).mkdir(parents=True)
        (folder / "own" / label / "x.png").write_bytes((folder / "b.png").read_bytes())
    assert main(["evaluate", "pretrained", "--images", str(folder / "own"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_images"], found["num_correct"]) == (2, 1)
    assert found["wrong"][0]["label"] == "1"
    table = folder / "own.csv"
    table.write_text("path,label\nb.png,7\nnone.png,7\n")
    assert main(["evaluate", "pretrained", "--images", str(table)]) == 1
    out, err = capsys.readouterr()
    assert "accuracy 50.00%" in out
    assert "No such file" in err
    table.write_text("name,digit\nb.png,7\n")
    for source, message in ((table, "columns path and label"), (folder / "no", "no such")):
        assert main(["evaluate", "pretrained", "--images", str(source)]) == 1
        assert message in capsys.readouterr().err


def test_standard_input_is_read_without_torch(folder: Path) -> None:
    code = (
        "import os, sys; from lenet.cli.main import main;"
        "status = main(['predict', '-', '--json']);"
        "print('torch' in sys.modules, os.environ['OPENBLAS_NUM_THREADS'], file=sys.stderr);"
        "sys.exit(status)"
    )
    data = (folder / "b.png").read_bytes()
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    found = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, env=environment
    )
    assert found.returncode == 0
    assert json.loads(found.stdout)["label"] == "7"
    assert json.loads(found.stdout)["path"] == "-"
    assert found.stderr.strip() == b"False 1"


TABLES = {
    "a byte order mark": b"\xef\xbb\xbfpath,label\n7/a.png,7\n",
    "semicolons": b"path;label\n7/a.png;7\n",
    "decimal commas and rows that were emptied": b"path;label\r\n7/a.png;7,0\r\n;\r\n",
    "a line separator in a cell": b"path,label,note\n7/a.png,7,a\xe2\x80\xa8b\n",
    "tabs": b"path\tlabel\n7/a.png\t7\n",
    "capitals and spaces": b" Path , Label \r\n7/a.png, 7.0\r\n\r\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_spreadsheets_table_is_read(kind: str, tmp_path: Path, seven: Image.Image) -> None:
    (tmp_path / "7").mkdir()
    seven.save(tmp_path / "7" / "a.png")
    (tmp_path / "own.csv").write_bytes(TABLES[kind])
    assert find_labelled(tmp_path / "own.csv", "0123456789") == [(tmp_path / "7" / "a.png", "7")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.csv", b"path,label\na.png,7\nb.png\n", "line 3 has 1 of 2 columns"),
        ("note.csv", b'path,label,note\na.png,7,"x\ny"\nb.png\n', "line 4 has 1 of 3 columns"),
        ("cell.csv", b"path,label\n,7\n", "line 2 has an empty path or label"),
        ("empty.csv", b"", "found an empty file"),
        ("blank.csv", b"\n7.png,7\n", "found no header"),
        ("header.csv", b"path,label\n", "no pictures below the header"),
        ("kaggle.csv", b"label" + b",pixel" * 784, "and 775 more"),
        ("t10k-images-idx3-ubyte", b"\0\0\x08\3", "an IDX file"),
        ("seven.png", b"\x89PNG", "a single picture"),
        ("mnist.npz", b"PK\x03\x04", "a zip or NumPy archive"),
        ("mnist.npy", b"\x93NUMPY\x01\x00", "a NumPy array"),
        ("mnist.mat", b"MATLAB 5.0 MAT-file", "a MATLAB file"),
        ("mnist.parquet", b"PAR1", "a Parquet file"),
        ("latin.csv", b"path,label\n\xe9.png,7\n", "not UTF-8"),
        ("other.csv", b"path,label\na.png,seven\n", "labels must be named 0, 1"),
    ],
)  # fmt: skip
def test_what_holds_no_labelled_pictures_is_one_short_line(
    name: str, content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["evaluate", "pretrained", "--images", str(tmp_path / name)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert name in line
    assert len(line) < 400


def test_folders_of_other_names_and_junk_are_told_apart(
    tmp_path: Path, seven: Image.Image, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (
        "testing/7",
        "testing/.ipynb_checkpoints",
        "testing/__MACOSX",
        "training/7",
        "testing/$RECYCLE.BIN",
        "testing/7/@eaDir",
    ):
        (tmp_path / folder).mkdir(parents=True)
        seven.save(tmp_path / folder / "a.png")
    seven.save(tmp_path / "testing" / "7" / "._a.png", "PNG")
    assert main(["evaluate", "pretrained", "--images", str(tmp_path)]) == 1
    assert "found testing, training" in capsys.readouterr().err
    assert main(["evaluate", "pretrained", "--images", str(tmp_path / "testing"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_images"] == 1
    assert main(["predict", str(tmp_path / "testing")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
