"""Fetched models are those published, or nothing is kept and one line says why."""

import hashlib
import http.server
import threading

import pytest

from fpsset.errors import InputError
from fpsset.weights.fetched import PUBLISHED, Published, cache_folder, fetch, fetched

CONTENT = bytes(range(256)) * 500


class Server(http.server.BaseHTTPRequestHandler):
    """Gives the content, or lies, breaks off, or has nothing, as the address says."""

    asked = 0

    def do_GET(self):
        Server.asked += 1
        if self.path == "/gone":
            return self.send_error(404)
        content = CONTENT[::-1] if self.path == "/lie" else CONTENT
        self.send_response(200)
        if self.path != "/short":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: 1000 if self.path in ("/broken", "/short") else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def published(url: str) -> Published:
    return Published("m.onnx", url, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "MIT", "a model")


def test_a_model_is_fetched_once(server):
    path, new = fetch("yunet", published(f"{server}/right"))
    assert new and path.read_bytes() == CONTENT and path.parent == cache_folder()
    asked = Server.asked
    assert fetch("yunet", published(f"{server}/right")) == (path, False) and Server.asked == asked
    path.write_bytes(b"damaged")
    assert fetch("yunet", published(f"{server}/right")) == (path, True) and path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "how, problem",
    [("lie", "SHA-256"), ("broken", "broke off"), ("short", "broke off after 1000"), ("gone", "status 404")],
)
def test_nothing_else_is_kept(server, how, problem):
    with pytest.raises(InputError, match=problem) as caught:
        fetch("yunet", published(f"{server}/{how}"))
    assert str(cache_folder() / "m.onnx") in str(caught.value) and "\n" not in str(caught.value)
    assert list(cache_folder().iterdir()) == []


def test_without_a_connection(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as closed:
        port = closed.server_address[1]
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch("yunet", published(f"http://127.0.0.1:{port}/right"))
    assert fetched("yunet") is None


def test_what_is_published():
    for one in PUBLISHED.values():
        assert one.url.startswith("https://") and len(one.sha256) == 64 and one.licence == "Apache-2.0"


def test_the_detector_of_the_tests_is_the_one_published(shared, tmp_path, monkeypatch):
    one = PUBLISHED["yunet"]
    content = (shared / "models" / one.file).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (one.size, one.sha256)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache_folder().mkdir(parents=True)
    (cache_folder() / one.file).write_bytes(content)
    assert fetched("yunet") == cache_folder() / one.file
    (cache_folder() / one.file).write_bytes(content[:-1])
    with pytest.raises(InputError, match="is not yunet as published; fetch it again by fpsset fetch yunet"):
        fetched("yunet")
