"""Uploads to a server on this machine that speaks what the hub's client asks of the hub."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ortnas.export.package.upload import HubError, check_login, push

TOKEN = "hf_token"


class Hub(ThreadingHTTPServer):
    """Keeps what is committed: by repository, files by name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, dict[str, bytes]] = {}
        self.may_write = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, document: Any, status: int = 200) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        return content

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid user token."}, 401)
        elif self.path == "/api/whoami-v2":
            self.answer({"type": "user", "name": "ada", "auth": {"type": "access_token"}})
        else:
            self.answer({"error": f"no {self.path}"}, 404)

    def do_POST(self) -> None:
        content = self.body()
        hub = self.server
        if self.path == "/api/repos/create":
            if not hub.may_write:
                self.answer({"error": "Forbidden"}, 403)
                return
            asked = json.loads(content)
            hub.created.append(asked)
            name = f"{asked.get('organization') or 'ada'}/{asked['name']}"
            self.answer({"url": f"{hub.address}/{name}", "name": name, "id": name})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            files = [{"path": item["path"], "uploadMode": "regular"} for item in json.loads(content)["files"]]
            self.answer({"files": [item | {"shouldIgnore": False, "oid": None} for item in files]})
        elif self.path.endswith("/commit/main"):
            repository = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
            lines = [json.loads(line) for line in content.splitlines()]
            hub.files[repository] = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            self.answer({"commitUrl": f"{hub.address}/{repository}/commit/0", "commitOid": "0" * 40})
        else:
            self.answer({"error": f"no {self.path}"}, 404)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()


def write_folder(folder: Path) -> dict[str, bytes]:
    files = {"model.onnx": bytes(range(256)), "README.md": b"---\nlibrary_name: onnx\n---\n\n# n\xc3\xa4me\n"}
    files["1_Pooling/config.json"] = b"{}"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return files


def test_each_package_becomes_a_private_repository_with_its_files(hub: Hub, tmp_path: Path) -> None:
    packages = [tmp_path / "mit ä und Platz" / name for name in ("int8-2x", "int8-3x")]
    contents = [write_folder(package) for package in packages]
    (packages[0] / "__pycache__").mkdir()
    (packages[0] / "__pycache__" / "predict.pyc").write_bytes(b"x")
    assert check_login("encoder") == "ada"
    assert push(packages[:1], "encoder") == [f"{hub.address}/ada/encoder"]
    assert push(packages, "org/encoder") == [f"{hub.address}/org/encoder-{package.name}" for package in packages]
    assert hub.files == {
        "ada/encoder": contents[0],
        "org/encoder-int8-2x": contents[0],
        "org/encoder-int8-3x": contents[1],
    }
    assert all(asked.get("private") is True or asked.get("visibility") == "private" for asked in hub.created)


def test_what_cannot_be_uploaded_gets_one_sentence(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "int8-2x")
    for name in ("a/b/c", "mit platz", "", "../x"):
        with pytest.raises(HubError, match="no name of a model"):
            check_login(name)
    hub.may_write = False
    with pytest.raises(HubError, match="may not write there"):
        push([tmp_path / "int8-2x"], "encoder")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(HubError, match="does not accept the token"):
        check_login("encoder")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no token"))
    with pytest.raises(HubError, match="not logged in to the hub; run `hf auth login`, or set HF_TOKEN"):
        check_login("encoder")


def test_a_hub_that_does_not_answer_gets_one_sentence(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(HubError, match="the hub cannot be reached"):
        check_login("encoder")
