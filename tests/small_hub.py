"""A hub of models on the loopback address, as far as huggingface_hub asks one: folders by name, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".bin")  # what the real hub keeps in git-lfs


class SmallHub:
    """
    Attributes:
        folders: by repository.
        gated: repositories that nobody may read.
        lost: files that are listed and are not there, as `owner/name/file`.
        damaged: files that come with a flipped byte.
        cut: how many times yet the connection breaks off in the midst of a file.
        ranges: what was asked for by a part, in the order of the requests.
        asked: paths of all requests.
    """

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = dict(folders)
        self.gated: set[str] = set()
        self.lost: set[str] = set()
        self.damaged: set[str] = set()
        self.cut: dict[str, int] = {}
        self.ranges: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.url = ""

    def content(self, name: str, file: str) -> bytes:
        return (self.folders[name] / file).read_bytes()

    def etag(self, name: str, file: str) -> str:
        data = self.content(name, file)
        if file.endswith(LARGE):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def tree(self, name: str) -> list[dict[str, Any]]:
        rows = []
        for path in sorted(self.folders[name].iterdir()):
            row = {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}
            if path.name.endswith(LARGE):
                row["lfs"] = {"oid": self.etag(name, path.name), "size": row["size"], "pointerSize": 130}
            rows.append(row)
        return rows

    @contextmanager
    def served(self) -> Iterator[SmallHub]:
        hub = self

        class Handler(Answering):
            pass

        Handler.hub = hub
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class Answering(BaseHTTPRequestHandler):
    hub: SmallHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(path)
        api = re.fullmatch(r"/api/models/(.+?)/(revision|tree)/([^/]+)", path)
        if api is not None:
            name, what, revision = api.groups()
            if self._may_see(name, revision):
                found = {"id": name, "modelId": name, "sha": COMMIT, "siblings": [], "tags": [], "private": False}
                self._send(json.dumps(found if what == "revision" else self.hub.tree(name)).encode())
            return
        name, revision, file = re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path).groups()
        if self._may_see(name, revision):
            self._file(name, file)

    def _may_see(self, name: str, revision: str) -> bool:
        if name in self.hub.gated:
            self._refuse(403, "GatedRepo", f"Access to model {name} is restricted")
        elif name not in self.hub.folders:
            self._refuse(404, "RepoNotFound", "Repository not found")
        elif revision not in ("main", "v1", COMMIT):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return True
        return False

    def _refuse(self, status: int, code: str, text: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", text)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, name: str, file: str) -> None:
        hub, key = self.hub, f"{name}/{file}"
        if key in hub.lost or not (hub.folders[name] / file).is_file():
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        data, start = hub.content(name, file), 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked is not None and self.command == "GET":
            start = int(asked[1])
            hub.ranges.append((key, asked[0]))
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hub.etag(name, file)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if key in hub.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if hub.cut.get(key, 0) > 0:
            hub.cut[key] -= 1
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(data[start:])
