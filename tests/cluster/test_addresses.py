"""Errors in an address, a path or the installation are reported before anything is sent."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cluster.cli import app


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    # These variables are set for the client; they are restored after the test.
    for name in ("RAY_API_SERVER_ADDRESS", "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    return lambda *words: CliRunner().invoke(app, ["submit", *map(str, words)])


@pytest.fixture
def stranger() -> Iterator[str]:
    """A web server that is not a Ray dashboard."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class _Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Prints nothing, to keep the output of the tests short."""


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "ftp://head", "http://", "x"])
def test_an_invalid_address_is_refused(address, submit):
    found = submit("digits", "--out", "/runs", "--address", address)
    assert found.exit_code == 2
    assert f"--address is {address}; it must be" in found.stderr
    assert "http://head:8265" in found.stderr


def test_an_unreachable_address_is_reported(submit):
    found = submit("digits", "--out", "/runs", "--address", "http://127.0.0.1:9")
    assert found.exit_code == 2
    assert "nothing answers at http://127.0.0.1:9" in found.stderr


def test_a_server_that_is_not_a_ray_dashboard_is_reported(stranger, submit):
    found = submit("--status", "job", "--address", f"http://{stranger}")
    assert found.exit_code == 2
    assert f"http://{stranger} answers, but it is not a Ray dashboard" in found.stderr


def test_a_server_without_https_is_reported(stranger, submit):
    found = submit("--status", "job", "--address", f"https://{stranger}")
    assert found.exit_code == 2
    assert "does not speak https" in found.stderr


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LocalHost"])
def test_no_proxy_is_asked_for_this_machine(variable, host, stranger, submit, monkeypatch):
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "internal")
    address = f"http://{host}:{stranger.partition(':')[2]}"
    found = submit("--status", "job", "--address", address)
    assert found.exit_code == 2
    assert f"{address} answers, but it is not a Ray dashboard" in found.stderr


def test_a_proxy_that_was_asked_is_named_without_its_password(submit, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    found = submit("--status", "job", "--address", "http://head.invalid:8265")
    assert found.exit_code == 2
    assert "http://head.invalid:8265 through the proxy 127.0.0.1:9 " in found.stderr
    assert "NO_PROXY=head.invalid" in found.stderr
    assert "secret" not in found.stderr


def test_a_missing_address_is_reported(submit):
    found = submit("digits", "--out", "/runs")
    assert found.exit_code == 2
    assert "--address http://head:8265" in found.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digits"], "--out is missing"),
        (["digits", "--out", "runs/digits"], "--out runs/digits: give an absolute path"),
        (["digits", "--out", "/runs", "--data", "data"], "--data data: give an absolute path"),
        (["nowhere.yaml", "--out", "/runs"], "there is no spec file nowhere.yaml"),
        ([], "give exactly one of SPEC, --follow JOB, --status JOB, --stop JOB"),
        (["digits", "--stop", "job"], "give exactly one of SPEC"),
    ],
)
def test_invalid_arguments_are_refused(words, message, submit):
    found = submit(*words, "--address", "http://127.0.0.1:9")
    assert found.exit_code == 2
    assert message in found.stderr


def test_a_missing_cluster_extra_is_reported(submit, monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    found = submit("--status", "job", "--address", "http://127.0.0.1:9")
    assert found.exit_code == 2
    assert "pip install 'prune-sweep[cluster]'" in found.stderr


def test_cluster_files_are_copied_and_never_overwrite_a_file(tmp_path):
    copy = lambda: CliRunner().invoke(app, ["cluster-files", str(tmp_path / "mine")])  # noqa: E731
    assert copy().exit_code == 0
    names = {path.name for path in (tmp_path / "mine").iterdir()}
    assert {"Containerfile", "slurm.sbatch", "aws.yaml", "kuberay-job.yaml"} <= names
    (tmp_path / "mine" / "aws.yaml").write_text("filled in")
    again = copy()
    assert again.exit_code == 2
    assert "mine has Containerfile, aws.yaml, " in again.stderr
    assert "already; name another folder" in again.stderr
    assert (tmp_path / "mine" / "aws.yaml").read_text() == "filled in"


def test_the_bundle_contains_only_the_spec_and_the_code(tmp_path):
    from cluster.bundle import bundle

    spec = tmp_path / "digits"
    spec.write_text(
        "name: mine\ndatasets: [digits]\nmetrics: [random]\nratios: [0.5]\n"
        "recipe: {epochs: 1}\nfinetune: {epochs: 1}\n"
    )
    folder = tmp_path / "bundle"
    folder.mkdir()
    # A file takes precedence over a packaged spec with the same name.
    packed = bundle(str(tmp_path / "." / "digits"), folder)
    assert packed.spec == "mine.yaml"
    assert (folder / "mine.yaml").read_text() == spec.read_text()
    names = {path.name for path in folder.iterdir()}
    code = {"prune_core", "results", "sweep", "cluster"}
    assert {name for name in names if not name.endswith(".dist-info")} == {*code, "mine.yaml"}
    assert packed.size < 2_000_000
    assert not list(folder.rglob("__pycache__"))
    shipped = {p.relative_to(folder) for p in (folder / "sweep").rglob("*") if p.is_file()}
    assert Path("sweep/spec/packaged/digits.yaml") in shipped
