"""Models of a hub: asked over HTTP by its own package, of a server that is as much of one as is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.models import make_model

NAME, COMMIT = "somebody/some-encoder", "0123456789abcdef0123456789abcdef01234567"

_RESOLVE = """
import sys
from storage.contract.errors import ModelError
from worker.engine.checkpoint import resolve
try:
    print(resolve(sys.argv[1]).revision)
except ModelError as error:
    print(type(error).__name__, error)
"""


@contextmanager
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder as the one model of a hub; yield its address, and the files that are asked for as they are."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        """Answers about the model, and with its files."""

        def do_HEAD(self) -> None:
            """Tell of a file."""
            self._answer(with_body=False)

        def do_GET(self) -> None:
            """Give a file, or what is known of the model."""
            self._answer(with_body=True)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def _answer(self, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            kept = files.get(path.removeprefix(f"/{NAME}/resolve/{COMMIT}/"))
            if path.startswith(f"/api/models/{NAME}/tree/"):
                body = [{"type": "file", "path": name, "size": len(files[name]), "oid": COMMIT} for name in files]
                self._send(json.dumps(body).encode(), with_body)
            elif path.startswith("/api/models/"):
                known = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                self._send(json.dumps(known).encode(), with_body)
            elif kept is not None:
                fetched.append(Path(path).name)
                self._send(kept, with_body)
            else:
                self.send_error(404)

        def _send(self, body: bytes, with_body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{sha256(body).hexdigest()}"')
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def told_of(address: str, home: Path, **variables: str) -> str:
    """What a process says that finds the model, with that hub and nothing in its cache but what it put there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(home), **variables}
    done = subprocess.run([sys.executable, "-c", _RESOLVE, NAME], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_models_files_come_from_the_hub_once(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", hidden=64, layers=1)
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    with hub(folder) as (address, fetched):
        assert told_of(address, tmp_path / "home") == COMMIT
        assert {"config.json", "model.safetensors"} <= set(fetched) and "pytorch_model.bin" not in fetched
        fetched.clear()
        assert told_of(address, tmp_path / "home") == COMMIT
        assert fetched == []


def test_a_model_that_has_pickled_weights_alone_is_refused_for_what_it_is(tmp_path: Path) -> None:
    # Given a model on the hub that never had other weights than pickled ones
    folder = make_model(tmp_path / "model", hidden=64, layers=1)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with hub(folder) as (address, fetched):
        # Then that is said, and what to do; and they are not downloaded
        told = told_of(address, tmp_path / "home")
        assert told.startswith(f"ModelRefused The repository {NAME} has no safetensors")
        assert f"SentenceTransformer('{NAME}').save(" in told
        assert "pytorch_model.bin" not in fetched
    # And without the hub, from what is in the cache now, nothing is said of the repository that nobody looked at
    assert "has no safetensors" not in told_of(address, tmp_path / "home", HF_HUB_OFFLINE="1")
