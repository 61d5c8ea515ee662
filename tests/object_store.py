"""An S3 server in this process that records requests and can be made to fail."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pyarrow import fs

BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_EC2_METADATA_DISABLED": "true",
    # The client gives up a request that always fails after a third of a second.
    "AWS_MAX_ATTEMPTS": "5",
}


@dataclass(frozen=True)
class Request:
    """A request of a client."""

    method: str
    path: str
    query: str

    @property
    def of_an_object(self) -> bool:
        """Whether it concerns an object, and not a folder marker."""
        return self.path.count("/") > 1 and not self.path.endswith("/")


@dataclass
class ObjectStore:
    """The server; it records all requests and can refuse some.

    Attributes
    ----------
    requests : all requests, in order.
    refuse : the HTTP status to refuse a request with, or None to let it through.
    """

    application: Callable[..., Iterable[bytes]]
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    refuse: Callable[[Request], str | None] = lambda _: None
    _buckets: Iterator[int] = field(default_factory=itertools.count)

    def __call__(self, environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(
            environment["REQUEST_METHOD"],
            environment["PATH_INFO"],
            environment.get("QUERY_STRING", ""),
        )
        self.requests.append(request)
        if (status := self.refuse(request)) is None:
            return self.application(environment, start)
        environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
        start(status, [("Content-Type", "application/xml")])
        return [BUSY]

    def new_prefix(self) -> str:
        """A URI with a prefix in a new bucket."""
        bucket = f"bucket-{next(self._buckets)}"
        where = f"scheme=http&endpoint_override=127.0.0.1:{self.port}"
        client, _ = fs.FileSystem.from_uri(f"s3://{bucket}?{where}&allow_bucket_creation=true")
        client.create_dir(bucket)
        self.requests.clear()
        return f"s3://{bucket}/some/prefix?{where}"

    def sent(self, method: str) -> list[Request]:
        """The requests with this method that concern objects."""
        return [one for one in self.requests if one.method == method and one.of_an_object]

    @contextmanager
    def refusing(self, refuse: Callable[[Request], str | None]) -> Iterator[None]:
        """Refuses requests while the context is open."""
        self.refuse = refuse
        try:
            yield
        finally:
            self.refuse = lambda _: None


@contextmanager
def serving() -> Iterator[ObjectStore]:
    """Runs a server on a free port of this machine while the context is open."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = ObjectStore(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, store, threaded=True)
    store.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield store
    server.shutdown()
    thread.join()
    server.server_close()
