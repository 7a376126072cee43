"""Web servers on this machine: plain files, and as much of the Hugging Face Hub as we use."""

import base64
import hashlib
import json
import re
import ssl
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from lipzoo._fetch import download


def quick_downloads(monkeypatch, home):
    """An empty cache, no offline mode, no waiting between attempts."""
    for name in ("LIPZOO_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LIPZOO_HOME", str(home))
    monkeypatch.setattr(download, "_BLOCK", 16)  # a block that breaks off is lost
    monkeypatch.setattr(download, "_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(download, "_RETRY", download._RETRY.new(backoff_factor=0.001))
    return home


class _Handler(BaseHTTPRequestHandler):
    """Answers; what the tests want to know or to break is on ``self.server``."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, data=b"", **headers):
        path, server = unquote(self.path), self.server
        server.log.append((self.command, path, status))
        if path in server.slow_headers:
            self.trickle(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            return
        self.send_response(status)
        if path in server.endless and self.command == "GET":
            headers["Content_Length"], headers["Connection"] = None, "close"
        headers.setdefault("Content_Length", str(len(data)))
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if path in server.endless:
            self.close_connection = True
            while server.sent < 2**25:
                server.sent += self.wfile.write(b"x" * 2**14)
            return
        if path in server.trickles:
            self.trickle(data)
            return
        pieces = 8 if self.server.pause else 1
        step = -(-len(data) // pieces) or 1
        for start in range(0, len(data), step):
            time.sleep(self.server.pause)
            self.wfile.write(data[start : start + step])

    def trickle(self, data):
        """A byte now and then, for ever."""
        self.close_connection = True
        for number in range(3000):
            self.wfile.write(data[number : number + 1] or b"x")
            time.sleep(0.01)

    def reply_json(self, content, status=200, **headers):
        self.reply(status, json.dumps(content).encode(), Content_Type="application/json", **headers)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def send_file(self, data, **headers):
        """``data``, or the range of it that was asked for."""
        headers |= {"Accept_Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked is None or not self.server.ranges:
            self.reply(200, data, **headers)
        elif int(asked[1]) >= len(data):
            self.reply(416, Content_Range=f"bytes */{len(data)}")
        else:
            start = int(asked[1])
            span = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.reply(206, data[start:], Content_Range=span, **headers)


class _FileHandler(_Handler):
    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        server = self.server
        if path in server.redirects:
            headers = {"Location": server.redirects[path], **server.headers.get(path, {})}
            return self.reply(302, b"elsewhere", **headers)
        if path not in server.files:
            return self.reply(404)
        if path in server.statuses:
            return self.reply(server.statuses[path])
        data = server.files[path]
        etag = f'"{hashlib.sha256(data).hexdigest()}"' if server.etags else None
        if etag is not None and self.headers.get("If-None-Match") == etag:
            return self.reply(304, ETag=etag)
        headers = {"ETag": etag, **server.headers.get(path, {})}
        cut = server.cuts.get(path)
        if not cut:
            return self.send_file(data, **headers)
        # Promises all that is left, sends `cut.pop(0)` bytes of it, and hangs up.
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and server.ranges else 0
        rest = data[start:]
        headers["Content_Length"] = str(len(rest))
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.reply(206 if start else 200, rest[: cut.pop(0)], **headers)
        self.close_connection = True
        return None


class _HubHandler(_Handler):
    """``files`` maps ``user/name`` to its commits, newest last: ``(branch, oid, {path: data})``."""

    def do_HEAD(self):
        self.do_GET()

    def _has_token(self):
        token = self.server.token
        return token is None or self.headers.get("Authorization") == f"Bearer {token}"

    def _refuse(self, status, code, message):
        self.reply_json({"error": message}, status, X_Error_Code=code, X_Error_Message=message)

    def _find(self, repo, revision):
        commits = self.server.files[repo]
        matching = [c for c in commits if revision in (c[0], c[1])]
        return matching[-1] if matching else None

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if stored := re.fullmatch(r"/cdn/(\w+)", path):
            return self.send_file(self.server.lfs[stored[1]], ETag=f'"{stored[1]}"')
        if about := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            if about[1] not in self.server.files or not self._has_token():
                return self._refuse(401, "RepoNotFound", "Invalid username or password.")
            commit = self._find(about[1], about[2] or "main")
            return self.reply_json({"id": about[1], "sha": commit[1], "siblings": []})
        asked = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if asked is None:
            return self.reply(404)
        repo, revision, name = asked.groups()
        if repo not in self.server.files or not self._has_token():
            return self._refuse(401, "RepoNotFound", "Invalid username or password.")
        commit = self._find(repo, revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound", "Invalid rev id")
        headers = {"X_Repo_Commit": commit[1]}
        if name not in commit[2]:
            self.reply_json(
                {}, 404, X_Error_Code="EntryNotFound", X_Error_Message="Entry not found", **headers
            )
            return None
        data = commit[2][name]
        digest = hashlib.sha256(data).hexdigest()
        if digest in self.server.lfs:  # large files lie elsewhere, as on the Hub
            size = self.server.sizes.get(name, len(data))
            headers |= {"X_Linked_Etag": f'"{digest}"', "X_Linked_Size": str(size)}
            # By another name of this machine: only what is elsewhere is a redirect to the client.
            elsewhere = self.server.url.replace("127.0.0.1", "localhost")
            return self.reply(302, Location=f"{elsewhere}/cdn/{digest}", **headers)
        return self.send_file(data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', **headers)

    def do_PUT(self):
        self.server.lfs[self.path.rpartition("/")[2]] = self.body()
        self.reply(200)

    def do_POST(self):
        path, query = unquote(urlsplit(self.path).path), parse_qs(urlsplit(self.path).query)
        body = self.body()
        if not self._has_token():
            return self._refuse(401, "Unauthorized", "Invalid username or password.")
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            is_new = self.server.files.setdefault(repo, []) == []
            self.server.created.append(asked)
            return self.reply_json({"url": f"{self.server.url}/{repo}"}, 200 if is_new else 409)
        if path == "/api/validate-yaml":
            return self._validate(json.loads(body)["content"])
        if branch := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/(.+)", path):
            return self.reply_json({"created": branch[2]})
        if asked := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self.reply_json({"files": modes})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**item, "actions": {"upload": {"href": f"{self.server.url}/put/{item['oid']}"}}}
                for item in json.loads(body)["objects"]
            ]
            return self.reply_json({"transfer": "basic", "objects": objects})
        if asked := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            assert not query
            return self._commit(asked[1], asked[2], body)
        return self.reply(404)

    def _validate(self, text):
        """The Hub refuses a licence it does not know, and a model-index without these keys."""
        errors = []
        meta = yaml.safe_load(text.split("---")[1])
        if meta["license"] not in {"apache-2.0", "mit", "other"}:
            errors.append({"message": f'"license" must be one of apache-2.0, mit, other: {meta}'})
        for model in meta.get("model-index", []):
            for result in model["results"]:
                if not {"task", "dataset", "metrics"} <= set(result):
                    errors.append({"message": "model-index is incomplete"})
        self.reply_json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _commit(self, repo, branch, body):
        commit = self._find(repo, branch)
        files = dict(commit[2]) if commit else {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.lfs[value["oid"]]
        oid = hashlib.sha1(body + str(len(self.server.files[repo])).encode()).hexdigest()
        self.server.files[repo].append((branch, oid, files))
        url = f"{self.server.url}/{repo}/commit/{oid}"
        self.reply_json({"success": True, "commitOid": oid, "commitUrl": url})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        if isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLError)):
            return  # a client that hangs up is part of the test
        super().handle_error(request, client_address)


class _Log(list):
    def count_of(self, method, ending, status):
        return sum(m == method and p.endswith(ending) and s == status for m, p, s in self)


@contextmanager
def _serve(handler, certificate=None, **attributes):
    server = _Server(("127.0.0.1", 0), handler)
    server.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.log, server.ranges = _Log(), True
    server.endless, server.trickles, server.slow_headers = set(), set(), set()
    server.sent = 0  # of endless bodies
    server.pause = 0.0  # seconds before each of the eight pieces of a body
    for name, value in attributes.items():
        setattr(server, name, value)
    # Polling at this interval is what a shutdown waits for.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def file_server(certificate=None):
    """Serves ``server.files`` (path -> bytes); ``server.cuts``, … break it.

    ``certificate`` is a file of a key and a certificate, for https.
    """
    knobs = {name: {} for name in ("files", "redirects", "statuses", "headers", "cuts")}
    return _serve(_FileHandler, certificate, etags=True, **knobs)


def hub_server():
    """Speaks the Hub's HTTP interface, with Git LFS in its basic transfer."""
    return _serve(_HubHandler, files={}, lfs={}, sizes={}, created=[], token=None)
