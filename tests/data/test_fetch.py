"""Verified download against a server in this process."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aflctl.data.catalog import RemoteFile
from aflctl.data.fetch import fetch, watching
from aflctl.errors import EnvironmentProblem

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `cut` ends the connection early, `ranges`: can it continue, `shift`: a lie about where."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cut: int | None = None
        self.ranges = True
        self.shift = 0
        self.chunked = False
        self.body = CONTENT
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        span = self.headers.get("Range")
        self.server.asked.append(span)
        if self.path.startswith("/gone"):
            self.send_error(404)
            return
        first = int(span.removeprefix("bytes=").rstrip("-")) if span and self.server.ranges else 0
        whole = len(self.server.body)
        if first >= whole:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{whole}")
            self.end_headers()
            return
        body = self.server.body[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first + self.server.shift}-{whole - 1}/{whole}")
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"400\r\n" + body[:100])
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.server.cut is None else body[: self.server.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def file(server: Server, *paths: str, md5: str = MD5, size: int = len(CONTENT)) -> RemoteFile:
    return RemoteFile("x.bin", size, md5, urls=tuple(f"{server.url}{path}" for path in paths or ("/x",)))


def test_a_file_arrives_with_progress(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    with watching(lambda what, done, total: seen.append((what, done, total))):
        path = fetch(file(server), tmp_path / "raw")
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("x.bin", len(CONTENT), len(CONTENT))
    assert [p.name for p in (tmp_path / "raw").iterdir()] == ["x.bin"]


def test_a_broken_download_is_continued_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cut = 1000
    with pytest.raises(EnvironmentProblem, match=r"ended after 1000 of 10240 bytes"):
        fetch(file(server), tmp_path)
    assert (tmp_path / "x.bin.part").stat().st_size == 1000
    assert not (tmp_path / "x.bin").exists()
    server.cut = None
    assert fetch(file(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-"]


def test_a_server_that_cannot_continue_starts_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.bin.part").write_bytes(b"wrong beginning")
    server.ranges = False
    assert fetch(file(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), 0])
def test_a_file_that_was_complete_when_we_were_killed_is_not_asked_for_again(
    size: int, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "x.bin.part").write_bytes(CONTENT)
    assert fetch(file(server, size=size), tmp_path).read_bytes() == CONTENT
    assert server.asked == ([] if size else [f"bytes={len(CONTENT)}-"])


def test_a_beginning_that_is_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.bin.part").write_bytes(bytes(2 * len(CONTENT)))
    assert fetch(file(server, size=0), tmp_path).read_bytes() == CONTENT


def test_a_server_that_continues_at_another_place_is_not_believed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.bin.part").write_bytes(CONTENT[:1000])
    server.shift = 7
    assert fetch(file(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", None]


def test_an_answer_that_breaks_off_without_a_length_is_an_error_of_that_mirror(server: Server, tmp_path: Path) -> None:
    server.chunked = True
    with pytest.raises(EnvironmentProblem, match=r"cannot download x\.bin: .*IncompleteRead"):
        fetch(file(server, size=0, md5=""), tmp_path)


def test_a_file_in_the_way_of_the_folder_is_an_error_and_no_traceback(server: Server, tmp_path: Path) -> None:
    (tmp_path / "closed").write_text("in the way")
    with pytest.raises(EnvironmentProblem, match="cannot download"):
        fetch(file(server), tmp_path / "closed")


def test_the_next_mirror_is_tried(server: Server, tmp_path: Path) -> None:
    assert fetch(file(server, "/gone", "/x"), tmp_path).read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing_and_names_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"cannot download x\.bin: .*md5 .* expected 000") as caught:
        fetch(file(server, md5="0" * 32), tmp_path)
    assert not any(tmp_path.iterdir())
    assert str(tmp_path) in (caught.value.hint or "")


def test_more_bytes_than_expected_are_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="announces 10240 bytes, expected 100"):
        fetch(file(server, size=100), tmp_path)


def test_every_mirror_gone_lists_what_each_said(server: Server, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"/gone1: HTTP Error 404.*/gone2: HTTP Error 404"):
        fetch(file(server, "/gone1", "/gone2"), tmp_path)


def test_no_address_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="no address is known"):
        fetch(RemoteFile("x.bin"), tmp_path)
