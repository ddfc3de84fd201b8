import gzip
import hashlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import accelnn.datasets
from accelnn.datasets._download import MIRRORS, MNIST_SHA256, fetch_mnist
from accelnn.datasets._download_bar import DownloadBar
from accelnn.errors import DatasetError

pooch = pytest.importorskip("pooch", reason="the extra 'data' is not installed")

# The second is longer than one chunk of a download, and does not compress.
CONTENT = {
    "first-ubyte": b"the first file" * 100,
    "second-ubyte": b"".join(hashlib.sha256(bytes([n])).digest() for n in range(200)) * 20,
}
FILES = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
PACKED = {f"/{name}.gz": gzip.compress(content) for name, content in CONTENT.items()}


class Mirror(ThreadingHTTPServer):
    """A server on the loopback interface that answers as it is told, and notes the requests."""

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.requests = []
        self.url = f"http://127.0.0.1:{self.server_port}/mnist/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.removeprefix("/mnist")
        self.server.requests.append(path)
        status, body, length = self.server.answer(path)
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        # The client of a slow mirror has hung up by now.
        with suppress(ConnectionError):
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_):
        """Print nothing."""


def good(path):
    return 200, PACKED[path], len(PACKED[path])


def without_length(path):
    return 200, PACKED[path], None


def forbidden(_path):
    return 403, b"no", 2


def connection_cut(path):
    return 200, PACKED[path][:-20], len(PACKED[path])


def gzip_cut(path):
    return 200, PACKED[path][:-20], len(PACKED[path]) - 20


def wrong_checksum(path):
    body = PACKED[path][:-8] + bytes(4) + PACKED[path][-4:]
    return 200, body, len(body)


def broken_stream(path):
    body = PACKED[path][:10] + b"\xff" + PACKED[path][11:]
    return 200, body, len(body)


def not_gzip(_path):
    return 200, b"<html>Please log in</html>", 26


def other_content(_path):
    body = gzip.compress(b"something else")
    return 200, body, len(body)


def too_slow(path):
    time.sleep(1.5)
    return good(path)


def only_first_file(path):
    return good(path) if "first" in path else forbidden(path)


@contextmanager
def serve(answer):
    with Mirror(answer) as mirror:
        thread = threading.Thread(target=mirror.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield mirror
        finally:
            mirror.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "mnist"


def contents(folder):
    """Everything below `folder`, folders as None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def fetch(cache, *mirrors, **options):
    urls = [getattr(mirror, "url", mirror) for mirror in mirrors]
    return fetch_mnist(cache, files=FILES, mirrors=urls, **options)


def closed_port():
    """A URL under which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/mnist/"


def test_good_mirror_fills_the_cache_and_nothing_else(tmp_path, cache):
    with serve(good) as mirror:
        assert fetch(cache, mirror) == cache
    assert contents(tmp_path) == {
        "cache": None,
        str(Path("cache/mnist")): None,
        **{str(Path("cache/mnist") / name): content for name, content in CONTENT.items()},
    }
    assert mirror.requests == list(PACKED)


def test_mirror_without_a_length(cache):
    with serve(without_length) as mirror:
        fetch(cache, mirror, progress=True)
    assert contents(cache) == CONTENT


def test_url_of_a_mirror_may_lack_the_last_slash(cache):
    with serve(good) as mirror:
        fetch(cache, mirror.url.rstrip("/"))
    assert contents(cache) == CONTENT


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (forbidden, "HTTPError: 403"),
        (connection_cut, "IncompleteRead"),
        (gzip_cut, "EOFError: Compressed file ended"),
        (wrong_checksum, "BadGzipFile: CRC check failed"),
        (broken_stream, "error: Error -3 while decompressing"),
        (not_gzip, "BadGzipFile: Not a gzipped file"),
        (other_content, "SHA256 hash of downloaded file"),
    ],
)
def test_bad_mirror(tmp_path, cache, answer, reason):
    with serve(answer) as bad, serve(good) as mirror:
        with pytest.raises(DatasetError) as caught:
            fetch(cache, bad)
        assert reason in str(caught.value)
        assert contents(tmp_path) == {}

        bad.requests.clear()
        fetch(cache, bad, mirror)
    assert contents(cache) == CONTENT
    assert bad.requests == mirror.requests == list(PACKED)


def test_second_mirror_is_left_alone_when_the_first_is_good(cache):
    with serve(good) as first, serve(good) as second:
        fetch(cache, first, second)
    assert second.requests == []


def test_nobody_listens_at_the_first_mirror(cache):
    with serve(good) as mirror:
        fetch(cache, closed_port(), mirror)
    assert contents(cache) == CONTENT


def test_first_mirror_is_too_slow(cache):
    with serve(too_slow) as slow, serve(good) as mirror:
        fetch(cache, slow, mirror, timeout=0.5)
    assert contents(cache) == CONTENT
    assert slow.requests == mirror.requests == list(PACKED)


def test_every_mirror_down_lists_each_with_its_reason(tmp_path, cache):
    nobody = closed_port()
    with serve(forbidden) as bad, pytest.raises(DatasetError) as caught:
        fetch(cache, bad, nobody)
    message = str(caught.value)
    for url, reason in ((bad.url, "403"), (nobody, "ConnectionError")):
        _, _, after = message.partition(f"{url}first-ubyte.gz\n")
        assert reason in after.splitlines()[0]
    assert "ACCELNN_DATA_DIR" in message
    assert 'load_mnist(subset="5k")' in message
    assert contents(tmp_path) == {}


def test_failure_leaves_an_existing_cache_byte_for_byte(tmp_path, cache):
    cache.mkdir(parents=True)
    (cache / "first-ubyte").write_bytes(b"corrupted")
    (cache / "notes.txt").write_bytes(b"somebody's notes")
    before = contents(tmp_path)
    with serve(only_first_file) as mirror, pytest.raises(DatasetError, match="second-ubyte"):
        fetch(cache, mirror)
    assert mirror.requests == list(PACKED)
    assert contents(tmp_path) == before


def test_intact_cache_is_not_asked_for_again(cache):
    cache.mkdir(parents=True)
    for name, content in CONTENT.items():
        (cache / name).write_bytes(content)
    with serve(good) as mirror:
        assert fetch(cache, mirror) == cache
    assert mirror.requests == []


def test_only_the_corrupted_file_is_replaced(cache):
    cache.mkdir(parents=True)
    (cache / "first-ubyte").write_bytes(CONTENT["first-ubyte"])
    (cache / "second-ubyte").write_bytes(CONTENT["second-ubyte"][:-1] + b"?")
    with serve(good) as mirror:
        fetch(cache, mirror)
    assert mirror.requests == ["/second-ubyte.gz"]
    assert contents(cache) == CONTENT


def test_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"in the way")
    with serve(good) as mirror, pytest.raises(DatasetError, match="cannot write MNIST") as caught:
        fetch(tmp_path / "file" / "mnist", mirror)
    assert "ACCELNN_DATA_DIR" in str(caught.value)
    assert contents(tmp_path) == {"file": b"in the way"}


def test_pooch_says_nothing_and_keeps_its_level(cache):
    logger = pooch.get_logger()
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with serve(good) as mirror:
            fetch(cache, mirror)
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
    assert said == []


def test_progress_bar_names_the_file(cache, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with serve(good) as mirror:
        fetch(cache, mirror, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "second-ubyte" in err
    assert "bytes" in err


@pytest.fixture
def moves(monkeypatch):
    """What is shown on the bars, in order."""
    seen = []

    @contextmanager
    def recording_bar(description, total, *, unit):
        seen.append((description, total, unit))
        try:
            yield lambda n, _note: seen.append(n)
        finally:
            seen.append("gone")

    monkeypatch.setattr("accelnn.datasets._download_bar.progress_bar", recording_bar)
    return seen


def test_bar_counts_no_further_than_its_end(moves):
    with DownloadBar("a file") as bar:
        bar.total = 1500
        bar.update(1000)
        bar.update(1000)
        bar.reset()
        bar.update(1500)
        bar.close()
    assert moves == [("a file", 1500, "bytes"), 1000, 500, -1500, 1500, "gone"]


def test_bar_counts_when_the_end_is_not_known(moves):
    with DownloadBar("a file") as bar:
        bar.total = 0
        bar.update(1000)
        bar.update(1000)
    assert moves == [("a file", 0, "bytes"), 1000, 1000, "gone"]


def test_bar_goes_away_when_a_mirror_fails(cache, moves):
    with serve(connection_cut) as bad, pytest.raises(DatasetError):
        fetch(cache, bad, progress=True)
    assert moves[0][0] == "first-ubyte"
    assert moves[-1] == "gone"


def test_default_cache_is_the_operating_systems(tmp_path, monkeypatch):
    if sys.platform != "linux":
        pytest.skip("the variable that moves the cache folder is Linux's")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with serve(good) as mirror:
        folder = fetch(None, mirror)
    assert folder == tmp_path / "accelnn" / "mnist"
    assert contents(folder) == CONTENT


def test_real_table_is_complete():
    assert [url.partition("://")[0] for url in MIRRORS] == ["https", "https"]
    assert {name: len(bytes.fromhex(sha256)) for name, sha256 in MNIST_SHA256.items()} == {
        f"{part}-{kind}-ubyte": 32
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    }


@pytest.mark.mnist
def test_real_files_have_the_hashes_of_the_table():
    if "ACCELNN_DATA_DIR" not in os.environ:
        pytest.skip("ACCELNN_DATA_DIR names no folder with the full MNIST")
    folder = Path(os.environ["ACCELNN_DATA_DIR"])
    for name, sha256 in MNIST_SHA256.items():
        raw, packed = folder / name, folder / f"{name}.gz"
        content = raw.read_bytes() if raw.exists() else gzip.decompress(packed.read_bytes())
        assert hashlib.sha256(content).hexdigest() == sha256


def test_importing_the_package_imports_no_optional_package():
    code = (
        "import sys, accelnn.datasets; accelnn.datasets.load_mnist(subset='5k');"
        "print(sorted({'pooch', 'requests', 'rich'} & set(sys.modules)))"
    )
    root = Path(accelnn.datasets.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.stdout.strip() == "[]"
