"""A Ray cluster that is not there is told at once, before Ray waits for it."""

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import ray

from sweep.errors import ClusterError
from sweep.execution.tune.address import check_address


@pytest.fixture
def closed() -> int:
    """A port of this machine at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}"])
def test_an_address_where_nothing_listens(form, closed):
    with pytest.raises(ClusterError, match=r"nothing listens there .*unset RAY_ADDRESS"):
        check_address(form.format(closed))


@pytest.mark.parametrize("address", ["host.invalid:6379", "127.0.0.1:99999", "[::1]:1"])
def test_an_address_that_cannot_be(address):
    with pytest.raises(ClusterError, match="nothing listens there"):
        check_address(address)


def test_an_address_where_a_grpc_server_listens():
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        check_address(f"127.0.0.1:{port}")
        check_address(f"ray://127.0.0.1:{port}")
    finally:
        server.stop(None)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", None])
def test_an_address_where_something_else_listens(answer, monkeypatch):
    """It closes the connection, answers in another language, or never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve():
            with server.accept()[0] as connection:
                connection.recv(1)
                if answer is None:
                    connection.recv(1000)
                    connection.recv(1)  # until the other side gives up
                else:
                    connection.sendall(answer)

        with ThreadPoolExecutor(1) as threads:
            served = threads.submit(serve)
            with pytest.raises(ClusterError, match="what listens there is not Ray, or it hangs"):
                check_address(address, seconds=0.2)
            served.exception()
        monkeypatch.setenv("RAY_USE_TLS", "1")
        check_address(address, seconds=0.2)


@pytest.mark.parametrize("address", ["auto", "local", "anyscale://cluster"])
def test_other_forms_are_left_to_ray(address):
    check_address(address)


def test_a_run_ends_without_starting_ray(closed, invoke, write_spec, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed}")
    done = invoke("run", write_spec(), "--out", tmp_path / "runs")
    assert done.exit_code == 2
    assert f"RAY_ADDRESS is 127.0.0.1:{closed}, but nothing listens there" in done.stderr


def test_a_process_that_uses_ray_already_is_told(invoke, write_spec, tmp_path, monkeypatch):
    """From Python, the person's own program may have called ray.init()."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    done = invoke("run", write_spec(), "--out", tmp_path / "runs")
    assert done.exit_code == 2
    assert "this process is connected to Ray already; call ray.shutdown()" in done.stderr
