"""A hub of one repository on the loopback: just enough of the protocol for the real client."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPO = "org/tiny"


@dataclass
class Hub:
    """One repository; `branches` name commits, `asked` collects the paths that were requested."""

    files: Mapping[str, bytes]
    commit: str
    branches: dict[str, str]
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path."""
        self.asked.append(path)
        parts = path.partition("?")[0].strip("/").split("/")
        if parts[:4] == ["api", "models", *REPO.split("/")]:
            return self._api(parts[4:])
        if parts[:3] == [*REPO.split("/"), "resolve"] and parts[3] == self.commit:
            name = "/".join(parts[4:])
            if name in self.files:
                data = self.files[name]
                return 200, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": self.commit}, data
        return 404, {"X-Error-Code": "EntryNotFound"}, b""

    def _api(self, rest: list[str]) -> tuple[int, dict[str, str], bytes]:
        if rest[:1] == ["tree"]:
            rows = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in self.files.items()
            ]
            return 200, {"Content-Type": "application/json"}, json.dumps(rows).encode()
        revision = rest[1] if rest[:1] == ["revision"] else "main"
        if revision not in self.branches:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        info = {"id": REPO, "modelId": REPO, "sha": self.branches[revision], "siblings": [], "tags": [], "private": False}
        return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve on a free port of the loopback; `hub.endpoint` says where."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(body=True)

        def do_HEAD(self) -> None:
            self._send(body=False)

        def log_message(self, format: str, *args: object) -> None:
            return

        def _send(self, *, body: bool) -> None:
            status, headers, data = hub.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
