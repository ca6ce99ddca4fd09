"""Servers that say, byte by byte, what a test wants them to, in plain text or over TLS; and a proxy."""

import contextlib
import datetime as dt
import ipaddress
import select
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_TLS_HANDSHAKE = b"\x16"

Say = Callable[[bytes], None]
Answer = Callable[[bytes, Say], None]
"""Hears a whole request and says whatever it likes; then the connection ends."""


def whole(body: bytes, *, status: str = "200 OK", headers: str = "") -> Answer:
    """An ordinary answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
    return lambda request, say: say(head + body)


@dataclass
class Wire:
    """A server on loopback. `heard` are the requests that came through, TLS taken off."""

    port: int
    heard: list[bytes] = field(default_factory=list)
    connections: int = 0


@contextlib.contextmanager
def serving(answer: Answer, *, tls: ssl.SSLContext | None = None) -> Iterator[Wire]:
    """Answer each connection's first request so."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            wire.connections += 1
            # Clients that refuse a certificate, have enough or give up are what is tested.
            with contextlib.suppress(OSError):
                connection = tls.wrap_socket(self.request, server_side=True) if tls else self.request
                with connection:
                    request = _request(connection)
                    wire.heard.append(request)
                    answer(request, connection.sendall)

    with _served(Handler) as port:
        wire = Wire(port)
        yield wire


@contextlib.contextmanager
def proxying(port: int) -> Iterator[Wire]:
    """A proxy that connects to a port on loopback, whatever host it is asked for; `heard` is all that it could read."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            wire.connections += 1
            wire.heard.append(_request(self.request))
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                other = {self.request: server, server: self.request}
                while True:
                    for side in select.select(list(other), [], [])[0]:
                        if not (passing := side.recv(65536)):
                            return
                        wire.heard.append(passing)
                        other[side].sendall(passing)

    with _served(Handler) as proxy_port:
        wire = Wire(proxy_port)
        yield wire


@contextlib.contextmanager
def _served(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _request(connection: Any) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request and not request.startswith(_TLS_HANDSHAKE):
        if not (part := connection.recv(65536)):
            return request
        request += part
    head, _, body = request.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.splitlines() if line.lower().startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


class Authority:
    """A certificate authority of one's own, as companies have; `bundle` is the file to trust it by."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority of one's own")])
        self._certificate = self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.bundle = directory / "authority.pem"
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, host: str, *, days: int = 1) -> ssl.SSLContext:
        """TLS for a server of that name or address; with negative days its certificate is over."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        certificate = self._signed(name, key, x509.SubjectAlternativeName([alternative]), days=days)
        file = self._directory / f"{host}.pem"
        file.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _signed(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType, *, days: int = 1
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=10))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self._key, hashes.SHA256())
        )
