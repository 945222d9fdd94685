import io
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from PIL import Image

from lenet.cli import main as cli
from lenet.errors import PictureError
from lenet.reading.batch import plan, read_here
from lenet.reading.reader import Reader, describe_digit

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="session")
def pictures(seven: Image.Image) -> list[bytes]:
    """Sevens of several sizes, and one file that is no picture."""
    found = []
    for size in (300, 200, 120, 60, 40):
        stream = io.BytesIO()
        seven.resize((size, size)).save(stream, "PNG")
        found.append(stream.getvalue())
    return [*found, b"no picture"]


def expected(name: str, content: bytes) -> dict[str, Any]:
    try:
        digit = Reader.from_pretrained().read_digit(content)
    except PictureError as error:
        empty = dict.fromkeys(describe_digit("", Reader.from_pretrained().read_digit(BLANK), 0))
        return {**empty, "path": name, "status": "error", "error": str(error)}
    row = describe_digit(name, digit, 0)
    return {**row, "box": None if row["box"] is None else list(row["box"]), "error": None}


def blank() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (40, 40), 255).save(stream, "PNG")
    return stream.getvalue()


BLANK = blank()


def rows_of(folder: Path) -> list[dict[str, Any]]:
    tables = [pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    return rows


def write_parquet(path: Path, column: str, values: list[Any]) -> str:
    pq.write_table(pa.table({column: values}), path, row_group_size=2)
    return str(path)


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_a_parquet_file_is_read_row_by_row(
    form: str, pictures: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [{"bytes": p, "path": "x"} for p in pictures] if form == "struct" else pictures
    source, out = write_parquet(tmp_path / "p.parquet", "image", [*values, None]), tmp_path / "out"
    assert cli.main(["predict", source, "--out", str(out)]) == 1
    names = [f"{source}#{i}" for i in range(7)]
    wanted = [expected(name, p) for name, p in zip(names, pictures, strict=False)]
    *found, last = rows_of(out)
    assert found == wanted
    assert (last["path"], last["error"]) == (names[6], "no bytes in `image`")
    assert len(list(out.glob("part-*"))) == 4
    assert "7 pictures in" in (printed := capsys.readouterr().out)
    assert "2 error, 5 read" in printed
    # Those who read a folder of Parquet files pass over the manifest.
    assert pq.read_table(out).num_rows == 7


def test_folders_are_read_in_the_order_of_their_names(
    pictures: list[bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    (folder / "b").mkdir(parents=True)
    for name, content in (("z.png", pictures[0]), ("b/c.png", pictures[1]), ("note.txt", b"")):
        (folder / name).write_bytes(content)
    rows = write_parquet(folder / "a.parquet", "image", pictures[2:3])
    assert cli.main(["predict", str(folder), "--out", str(tmp_path / "out")]) == 0
    wanted = [(f"{rows}#0", 2), (str(folder / "z.png"), 0), (str(folder / "b" / "c.png"), 1)]
    assert rows_of(tmp_path / "out") == [expected(name, pictures[i]) for name, i in wanted]


def test_what_was_read_is_not_read_again(
    pictures: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_parquet(tmp_path / "p.parquet", "image", pictures[:5]), tmp_path / "out"
    command = ["predict", source, "--out", str(out)]
    assert cli.main(command) == 0
    before = rows_of(out)
    kept = out / "part-000000.parquet"
    when = kept.stat().st_mtime_ns
    (out / "part-000001.parquet").unlink()
    # What a process that was killed left half-written.
    (out / ".part-000001.parquet.0123abcd.tmp").write_bytes(b"half")
    capsys.readouterr()
    assert cli.main(command) == 0
    assert "1 of 3 parts to read" in capsys.readouterr().err
    assert rows_of(out) == before
    assert kept.stat().st_mtime_ns == when
    assert not list(out.glob(".*.tmp"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--reject", "0.9"], "holds a result of other reject"),
        (["--column", "label"], "no column `label`; there is: image"),
        (["--json"], "`--out` excludes"),
        (["--jobs", "-1"], "`jobs` (=-1) must be at least 0"),
        (["--jobs", "2", "--ray"], "`--jobs` has no effect with `--ray`"),
    ],
)
def test_a_result_is_not_continued_otherwise(
    flags: list[str],
    message: str,
    pictures: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, out = write_parquet(tmp_path / "p.parquet", "image", pictures[:2]), tmp_path / "out"
    command = ["predict", source, "--out", str(out)]
    assert cli.main(command) == 0
    assert cli.main([*command, *flags]) == 1
    assert message in capsys.readouterr().err
    monkeypatch.setattr("lenet.reading.batch.__version__", "0.0.0")
    assert cli.main(command) == 1
    assert "holds a result of other version" in capsys.readouterr().err
    monkeypatch.undo()
    write_parquet(tmp_path / "p.parquet", "image", pictures[:3])
    assert cli.main(command) == 1
    assert "holds a result of other sources" in capsys.readouterr().err


def test_a_large_row_group_is_cut_and_processes_read_what_one_does(
    pictures: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three rows a unit, two at once: neither ends where the other does.
    monkeypatch.setattr("lenet.reading.batch_units.ROWS_A_UNIT", 3)
    monkeypatch.setattr("lenet.reading.batch_units.ROWS_AT_ONCE", 2)
    source = tmp_path / "P.PARQUET"
    values = [*pictures[:5], *pictures[4::-1], None]
    pq.write_table(pa.table({"image": values}), source, row_group_size=7)
    for jobs in ("1", "2"):
        command = ["predict", str(source), "--jobs", jobs, "--out", str(tmp_path / jobs)]
        assert cli.main(command) == 1
    found = rows_of(tmp_path / "1")
    assert [row["path"] for row in found] == [f"{source}#{i}" for i in range(11)]
    wanted = [expected(f"{source}#{i}", p) for i, p in enumerate(values) if p is not None]
    assert found[:10] == wanted
    parts = sorted(path.name for path in (tmp_path / "2").glob("part-*"))
    assert len(parts) == 5  # 3 + 3 + 1 rows of one row group, 3 + 1 of the other
    for part in parts:
        assert pq.read_table(tmp_path / "2" / part).equals(pq.read_table(tmp_path / "1" / part))


def test_a_result_inside_the_folder_of_its_pictures_is_none_of_them(
    pictures: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(pictures[0])
    command = ["predict", str(tmp_path), "--out", str(tmp_path / "labels")]
    for left in (1, 0):
        assert cli.main(command) == 0
        assert f"{left} of 1 parts to read" in capsys.readouterr().err


def test_damage_inside_a_parquet_file_is_said_of_its_rows(
    pictures: list[bytes], tmp_path: Path
) -> None:
    source, out = write_parquet(tmp_path / "p.parquet", "image", pictures[:4]), tmp_path / "out"
    whole = bytearray(Path(source).read_bytes())
    whole[4:40] = bytes(36)  # the first row group's first page
    Path(source).write_bytes(whole)
    assert cli.main(["predict", source, "--out", str(out)]) == 1
    found = rows_of(out)
    assert [row["path"] for row in found] == [f"{source}#{i}" for i in range(4)]
    assert ["damaged Parquet file" in (row["error"] or "") for row in found] == [True] * 2 + [
        False
    ] * 2


def test_a_folder_that_cannot_hold_a_result_is_one_clear_error(
    pictures: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_parquet(tmp_path / "p.parquet", "image", pictures[:2]), tmp_path / "out"
    assert cli.main(["predict", source, "--out", source]) == 1
    assert "can't be written: File exists" in capsys.readouterr().err
    command = ["predict", source, "--out", str(out)]
    assert cli.main(command) == 0
    with FileLock(out / ".lock"):
        assert cli.main(command) == 1
    assert "another command is reading into this folder" in capsys.readouterr().err
    for damaged in ("{", "[]"):
        (out / "_manifest.json").write_text(damaged)
        assert cli.main(command) == 1
        assert "_manifest.json: damaged" in capsys.readouterr().err


def test_pictures_that_vanish_on_the_way_stop_the_reading(
    pictures: list[bytes], tmp_path: Path
) -> None:
    source, out = write_parquet(tmp_path / "p.parquet", "image", pictures[:2]), tmp_path / "out"
    planned = plan(out, [source], column="image", model=None, reject=0.0)
    Path(source).unlink()
    with pytest.raises(PictureError, match="can't be read"):
        list(read_here(planned))
    assert not list(out.glob("part-*"))


def test_what_cannot_be_read_at_all_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "empty").mkdir()
    for source, message in (
        ("broken.parquet", "not a Parquet file"),
        ("empty", "no pictures or Parquet files"),
        ("missing", "no such file or folder"),
    ):
        assert cli.main(["predict", str(tmp_path / source), "--out", str(out)]) == 1
        assert message in capsys.readouterr().err
    assert cli.main(["predict", "x.png", "--ray"]) == 1
    assert "`--ray` and `--jobs` need `--out`" in capsys.readouterr().err
    out.mkdir(exist_ok=True)
    (out / "mine.txt").write_text("")
    pq.write_table(pa.table({"image": [b""]}), tmp_path / "p.parquet")
    assert cli.main(["predict", str(tmp_path / "p.parquet"), "--out", str(out)]) == 1
    assert "expected a new or empty folder" in capsys.readouterr().err
