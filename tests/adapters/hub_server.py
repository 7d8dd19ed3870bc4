"""A hub that speaks the part of the Hugging Face protocol which `huggingface_hub` and `datasets` use here.

A real HTTP server on a free port: repositories in memory, a commit per upload, files as git blobs.
"""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """repos: (kind, id) to the commits [(oid, {path: bytes})] and whether it is private. token: the one it takes."""

    def __init__(self, token=None):
        self.token = token
        self.private = {}
        self.commits = {}
        self.requests = []
        self.fail_with = None

    def create(self, kind, repo_id, private=False):
        self.private[kind, repo_id] = private
        self.commits[kind, repo_id] = [(_oid(repo_id), {})]

    def commit(self, kind, repo_id, files):
        history = self.commits[kind, repo_id]
        oid = _oid(f"{repo_id}{len(history)}{sorted(files)}")
        history.append((oid, {**history[-1][1], **files}))
        return oid

    def at(self, kind, repo_id, revision):
        """(oid, files) at a revision, or None."""
        history = self.commits[kind, repo_id]
        if revision in (None, "main"):
            return history[-1]
        return next((commit for commit in history if commit[0] == revision), None)


def _oid(text):
    return hashlib.sha1(text.encode()).hexdigest()


def _blob_oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_):
        pass

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status, content=b"", headers=None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, code, status=404):
        self._send(status, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

    def _handle(self):
        body = self._body()
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        if self.hub.fail_with:
            return self._send(self.hub.fail_with, {"error": "out of order"})
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._send(401, {"error": "Invalid credentials"})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.startswith(("/api/models/", "/api/datasets/")):
            kind, owner, name, *rest = path.removeprefix("/api/").split("/")
            return self._api(kind, f"{owner}/{name}", rest, body)
        if "/resolve/" in path:
            kind, path = ("datasets", path[9:]) if path.startswith("/datasets/") else ("models", path)
            owner, name, _, revision, *file = path.strip("/").split("/")
            return self._resolve(kind, f"{owner}/{name}", revision, "/".join(file))
        return self._send(404, {"error": "no such address"})

    do_GET = do_POST = do_HEAD = _handle

    def _create(self, asked):
        kind = f"{asked.get('type', 'model')}s"
        repo_id = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
        if (kind, repo_id) in self.hub.commits:
            return self._send(409, {"error": "exists", "url": f"/{repo_id}"})
        self.hub.create(kind, repo_id, asked.get("visibility") == "private")
        return self._send(200, {"url": f"http://{self.headers['Host']}/{repo_id}"})

    def _api(self, kind, repo_id, rest, body):
        if (kind, repo_id) not in self.hub.commits:
            return self._refuse("RepoNotFound")
        verb, revision = (rest[0] if rest else "revision"), (rest[1] if len(rest) > 1 else "main")
        found = self.hub.at(kind, repo_id, revision)
        if found is None:
            return self._refuse("RevisionNotFound")
        oid, files = found
        if verb == "revision":
            private = self.hub.private[kind, repo_id]
            siblings = [{"rfilename": path} for path in files]
            return self._send(
                200, {"id": repo_id, "sha": oid, "private": private, "tags": ["lora"], "siblings": siblings}
            )
        if verb == "tree":
            return self._send(200, [self._entry(path, data) for path, data in files.items()])
        if verb == "paths-info":
            asked = json.loads(body)["paths"]
            return self._send(200, [self._entry(path, files[path]) for path in asked if path in files])
        if verb == "preupload":
            asked = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]
            return self._send(200, {"files": modes})
        assert verb == "commit", verb
        lines = [json.loads(line) for line in body.splitlines()]
        added = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        oid = self.hub.commit(kind, repo_id, added)
        url = f"http://{self.headers['Host']}/{repo_id}/commit/{oid}"
        return self._send(200, {"success": True, "commitOid": oid, "commitUrl": url})

    def _entry(self, path, data):
        return {"type": "file", "path": path, "size": len(data), "oid": _blob_oid(data)}

    def _resolve(self, kind, repo_id, revision, file):
        if (kind, repo_id) not in self.hub.commits:
            return self._refuse("RepoNotFound")
        found = self.hub.at(kind, repo_id, revision)
        if found is None:
            return self._refuse("RevisionNotFound")
        oid, files = found
        if file not in files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid})
        etag = f'"{_blob_oid(files[file])}"'
        return self._send(200, files[file], {"ETag": etag, "X-Repo-Commit": oid, "Accept-Ranges": "none"})


@contextmanager
def serving(hub):
    """The address at which the hub answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
