"""A STAC API and its files on the loopback, with range requests, that counts the bytes of each file."""

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class StacServer:
    """Serves a folder, and the items of a list under ``/search`` and ``/collections/demo/items``.

    Attributes:
        url: Its address.
        items: Items that a search returns, if they match.
        ranges: First and last byte of every range request, by path.
        requests: Every path that was requested, in order.
        token: If set, files need ``?sig=TOKEN``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.items: list[dict[str, Any]] = []
        self.ranges: dict[str, list[tuple[int, int]]] = {}
        self.requests: list[str] = []
        self.bytes: Counter[str] = Counter()
        self.searches: list[dict[str, Any]] = []
        self.token: str | None = None
        self.url = ""

    def reset(self) -> None:
        """Forget the requests so far."""
        self.ranges, self.requests, self.bytes = {}, [], Counter()

    def search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer to a search: items of the collections, the first page of two at most."""
        self.searches.append(dict(body))
        found = [
            one for one in self.items if one["collection"] in body.get("collections", [one["collection"]])
        ]
        first = int(body.get("token", 0))
        page = {"type": "FeatureCollection", "features": found[first : first + 2], "links": []}
        if first + 2 < len(found):
            page["links"] = [
                {
                    "rel": "next", "href": f"{self.url}/search", "method": "POST",
                    "body": {**body, "token": first + 2}, "type": "application/geo+json",
                }
            ]  # fmt: skip
        return page


def _handler(server: StacServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: Any) -> None:
            """Say nothing."""

        def _json(self, content: Any) -> None:
            self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/geo+json"})

        def _answer(self, code: int, content: bytes, headers: Mapping[str, str], body: bool = True) -> None:
            self.send_response(code)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)
                server.bytes[urlsplit(self.path).path] += len(content)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
            server.requests.append(self.path)
            self._json(server.search(body))

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def do_GET(self, body: bool = True) -> None:
            parts = urlsplit(self.path)
            server.requests.append(self.path)
            if parts.path == "/":
                links = [
                    {"rel": "self", "href": server.url}, {"rel": "root", "href": server.url},
                    {"rel": "search", "href": f"{server.url}/search", "method": "POST", "type": "application/geo+json"},
                    {"rel": "data", "href": f"{server.url}/collections"},
                ]  # fmt: skip
                conforms = [
                    "https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search",
                    "https://api.stacspec.org/v1.0.0/item-search#query",
                ]  # fmt: skip
                self._json(
                    {
                        "type": "Catalog", "id": "demo", "description": "demo", "stac_version": "1.0.0", "links": links,
                        "conformsTo": conforms,
                    }
                )  # fmt: skip
                return
            if parts.path == "/collections/demo/items":
                self._json({"type": "FeatureCollection", "features": server.items, "links": []})
                return
            file = server.folder / parts.path.lstrip("/")
            signed = server.token is None or parse_qs(parts.query).get("sig") == [server.token]
            if not file.is_file() or not signed:
                self._answer(404 if signed else 403, b"", {})
                return
            self._file(file, parts.path, body)

        def _file(self, file: Path, name: str, body: bool) -> None:
            size = file.stat().st_size
            headers = {"Accept-Ranges": "bytes", "ETag": f'"{size}"'}
            asked = self.headers.get("Range")
            if asked is None or not body:
                self._answer(200, file.read_bytes(), headers, body)
                return
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(size, int(last or size - 1) + 1)
            server.ranges.setdefault(name, []).append((begin, end))
            with file.open("rb") as stream:
                stream.seek(begin)
                content = stream.read(end - begin)
            self._answer(206, content, headers | {"Content-Range": f"bytes {begin}-{end - 1}/{size}"})

    return Handler


@contextmanager
def stac_server(folder: Path) -> Iterator[StacServer]:
    """Serve a folder until the end of the block."""
    server = StacServer(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as running:
        running.daemon_threads = True
        server.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            running.shutdown()
            thread.join()
