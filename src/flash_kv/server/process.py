"""Running a service: sockets, the event loop, uvicorn, and how it stops.

`serve` is what `flash-kv serve` runs until a signal; `running` is a server in a thread of this process, for tests and
for programs that want to be looked into. Both stop alike: no new connections, streams without an end finish, requests
in flight too within `stop_timeout_s`; then whoever opened the store closes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import uvicorn

from flash_kv.errors import OptionsError, naming_place
from flash_kv.server.auth import Gate
from flash_kv.server.http.protocol import Config, Connection, sweep_for_ever
from flash_kv.server.http.resources import all_routes
from flash_kv.server.service import Service
from flash_kv.server.settings import Address, ServerSettings
from flash_kv.server.tracing import make_application

BACKLOG = 1024
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """uvicorn, except that streams are told of a stop before it waits for them, and that signals are left alone."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.service = config.service
        self.service.connection_count = lambda: len(self.server_state.connections)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn would give a TLS handshake the 60 s of asyncio: it gets no sockets to listen at, they are listened at
        # here.
        await super().startup([])
        await self._listen(sockets or [])
        settings = self.service.settings
        shortest_s = min(settings.header_timeout_s, settings.transfer_timeout_s, settings.idle_timeout_s)
        sweep = sweep_for_ever(self.server_state, min(1.0, shortest_s / 4))
        self.sweeper = asyncio.create_task(sweep, name="sweep")

    async def _listen(self, sockets: list[socket.socket]) -> None:
        config, loop = self.config, asyncio.get_running_loop()

        def connect() -> asyncio.Protocol:
            return Connection(config, self.server_state, self.lifespan.state, loop)

        # Without TLS no time for it may be given.
        timeout_s = self.service.settings.tls_handshake_timeout_s if config.ssl else None
        for one in sockets:
            server = await loop.create_server(
                connect, sock=one, ssl=config.ssl, backlog=config.backlog, ssl_handshake_timeout=timeout_s
            )
            self.servers.append(server)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.service.stopping.set()
        await super().shutdown(sockets)
        self.sweeper.cancel()
        # Those whose time was up: their requests have been cancelled.
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.gather(self.sweeper, *self.server_state.tasks, return_exceptions=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again at the end, which would end the process before the store is closed.
        yield


def serve(service: Service, ready: Callable[[str], object]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the URL once connections are taken."""
    with listening(service.settings.address) as listener:
        server = Server(make_config(service))

        async def run() -> None:
            loop = asyncio.get_running_loop()
            for number in SIGNALS:
                loop.add_signal_handler(number, stop)
            try:
                await server.serve([listener])
            finally:
                for number in SIGNALS:
                    loop.remove_signal_handler(number)

        def stop() -> None:
            # The second one does not wait.
            server.force_exit = server.should_exit
            server.should_exit = True

        async def announce() -> None:
            ready(url_of(service.settings, listener))

        service.starters.append(announce)
        _run(server, run)


@contextlib.contextmanager
def running(service: Service) -> Iterator[str]:
    """`service` in a thread, its URL; afterwards the service is closed, its store is not.

    with flash_kv.open(path) as db, running(Service(db, ServerSettings(http="127.0.0.1:0"))) as url: ...
    """
    is_ready = threading.Event()
    failures: list[BaseException] = []

    with listening(service.settings.address) as listener, contextlib.closing(service):
        server = Server(make_config(service))

        async def announce() -> None:
            is_ready.set()

        def run() -> None:
            try:
                _run(server, lambda: server.serve([listener]))
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
                failures.append(error)
            finally:
                is_ready.set()

        service.starters.append(announce)
        thread = threading.Thread(target=run, name="flash-kv-server")
        thread.start()
        is_ready.wait()
        try:
            if not failures:
                yield url_of(service.settings, listener)
        finally:
            server.should_exit = True
            thread.join()
        if failures:
            raise failures[0]


def make_config(service: Service) -> Config:
    """uvicorn's settings for a service."""
    settings = service.settings
    context = tls_context(settings)
    config = Config(
        make_application(service, all_routes(service)),
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        # Whatever fails is logged where it fails, by us.
        log_level=logging.CRITICAL,
        access_log=False,
        # Addresses and schemes are those of the connection, whatever a header says.
        proxy_headers=False,
        server_header=False,
        # `Connection` keeps the time itself.
        timeout_keep_alive=int(settings.idle_timeout_s) + 10,
        timeout_graceful_shutdown=math.ceil(settings.stop_timeout_s),
        ssl_context_factory=None if context is None else lambda *_: context,
    )
    config.service = service
    return config


def check_files(settings: ServerSettings) -> None:
    """OptionsError when a file that the settings name is missing or broken: before a store is opened for them."""
    Gate(settings.token_file)
    tls_context(settings)


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or later with the server's certificate; with `tls_client_ca` the client has to have one as well."""
    if settings.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:
        raise OptionsError([f"tls_certificate {settings.tls_certificate}, tls_key: {error}"]) from error
    if settings.tls_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(settings.tls_client_ca)
        except OSError as error:
            raise OptionsError([f"tls_client_ca {settings.tls_client_ca}: {error}"]) from error
    return context


@contextlib.contextmanager
def listening(address: Address) -> Iterator[socket.socket]:
    """A bound socket; StorageError when the address is taken or is none of this machine."""
    with naming_place(str(address), "listen"):
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    with listener:
        yield listener


def url_of(settings: ServerSettings, listener: socket.socket) -> str:
    """Where the server can be reached; the port that was taken stands in for 0."""
    scheme = "http" if settings.tls_certificate is None else "https"
    return f"{scheme}://{Address(settings.address.host, listener.getsockname()[1])}"


def _run(server: Server, main: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(main())  # type: ignore[arg-type]
