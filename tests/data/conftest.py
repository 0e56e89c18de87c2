"""Real files and real servers: an empty cache per test, mirrors on 127.0.0.1, small files."""

import gzip
import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from scipy.io import savemat

from ccsweep.data.files import RemoteFile


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ccsweep"


@pytest.fixture
def nowhere() -> str:
    """A mirror that nobody runs: a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


@dataclass
class Mirrors:
    """Mirrors on one server, which differ in their manners: good, slow, cut, wrong or none."""

    address: str
    contents: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def publish(self, name: str, content: bytes) -> RemoteFile:
        self.contents[name] = content
        return RemoteFile(name, hashlib.md5(content).hexdigest())

    def url(self, manners: str) -> str:
        return f"{self.address}{manners}/"


@pytest.fixture
def mirrors() -> Iterator[Mirrors]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.asked.append(self.path)
            _, manners, name = self.path.split("/")
            content = here.contents.get(name)
            if content is None or manners == "none":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if manners == "wrong":
                content = content[::-1]
            if manners == "cut":
                content = content[: len(content) // 2]
            pieces = 20 if manners == "slow" else 1
            step = -(-len(content) // pieces)
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                self.wfile.flush()
                if pieces > 1:
                    time.sleep(0.1)

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            pass  # a client that was killed hangs up

    server = Server(("127.0.0.1", 0), Handler)
    here = Mirrors(f"http://127.0.0.1:{server.server_port}/")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield here
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def idx() -> Callable[[np.ndarray], bytes]:
    """Turns an uint8 array into a gzipped IDX file."""

    def encode(array: np.ndarray) -> bytes:
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        content = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
        return gzip.compress(content, compresslevel=1, mtime=0)

    return encode


@pytest.fixture
def write_mnist(tmp_path: Path, idx: Callable[[np.ndarray], bytes]) -> Callable[..., Path]:
    """Writes the four files with random content; returns the folder for data.dir."""

    def write(train: int = 10_050, test: int = 20) -> Path:
        rng = np.random.default_rng(0)
        folder = tmp_path / "data" / "mnist"
        folder.mkdir(parents=True)
        for name, count in (("train", train), ("t10k", test)):
            images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            labels = rng.integers(0, 10, count, dtype=np.uint8)
            (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(idx(images))
            (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
        return folder.parent

    return write


@pytest.fixture
def write_svhn(tmp_path: Path) -> Callable[..., Path]:
    """Writes SVHN files with random content; returns the folder for data.dir."""

    def write(**counts: int) -> Path:
        rng = np.random.default_rng(0)
        folder = tmp_path / "data" / "svhn"
        folder.mkdir(parents=True)
        for name, count in counts.items():
            images = rng.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
            labels = rng.integers(1, 11, (count, 1), dtype=np.uint8)
            savemat(folder / f"{name}_32x32.mat", {"X": images, "y": labels}, do_compression=True)
        return folder.parent

    return write
