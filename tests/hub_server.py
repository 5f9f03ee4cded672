"""A small hub on the loopback: what huggingface_hub asks for to look up, fetch and push a model."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

FIRST, SECOND = "a" * 40, "b" * 40  # commits of a model


@dataclass(slots=True)
class Hub:
    """Models by name: the files of each commit, the newest last."""

    url: str = ""
    models: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def add(self, name: str, folder: Path) -> None:
        files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.*")}
        self.models[name] = {FIRST: files}


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A hub without models, as long as the block lasts."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.asked.append(self.path)
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                commits = hub.models.get("/".join(parts[2:4]))
                if commits is None:
                    return self._answer({}, 404, {"X-Error-Code": "RepoNotFound"})
                commit = self._commit(commits, parts[5] if len(parts) > 5 else "main")
                if commit is None:
                    return self._answer({}, 404, {"X-Error-Code": "RevisionNotFound"})
                if len(parts) > 4 and parts[4] == "tree":
                    return self._answer([_entry(*file) for file in commits[commit].items()])
                files = [{"rfilename": name} for name in commits[commit]]
                return self._answer({"id": "/".join(parts[2:4]), "sha": commit, "siblings": files})
            if len(parts) > 4 and parts[2] == "resolve":
                content = hub.models["/".join(parts[:2])][parts[3]]["/".join(parts[4:])]
                more = {"ETag": f'"{_git(content)}"', "X-Repo-Commit": parts[3]}
                return self._answer(content, 200, more)
            self._answer({}, 404)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            hub.asked.append(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = self.path.partition("?")[0].strip("/").split("/")
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                if name in hub.models:
                    return self._answer({"url": f"{hub.url}/{name}"}, 409)
                hub.models[name] = {FIRST: {".gitattributes": b""}}
                hub.private[name] = asked.get("private", asked.get("visibility") == "private")
                return self._answer({"url": f"{hub.url}/{name}"})
            if self.path == "/api/validate-yaml":
                return self._answer({"errors": [], "warnings": []})
            name = "/".join(parts[2:4])
            if parts[4] == "preupload":
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                return self._answer({"files": files})
            commits = hub.models[name]
            new = dict(list(commits.values())[-1])
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    new[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del new[value["path"]]
            commit = chr(ord("a") + len(commits)) * 40
            commits[commit] = new
            self._answer({"commitUrl": f"{hub.url}/{name}/commit/{commit}", "commitOid": commit})

        def _commit(self, commits: dict[str, Any], revision: str) -> str | None:
            if revision == "main":
                return list(commits)[-1]
            return revision if revision in commits else None

        def _answer(
            self, content: Any, status: int = 200, more: dict[str, str] | None = None
        ) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **(more or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(name: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(content), "oid": _git(content)}


def ask(endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub ask the hub at `endpoint`, with its cache in `home`."""
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
