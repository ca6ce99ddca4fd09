"""What travels between us and SmileBack, over real sockets: verified, never redirected, bounded in time and size."""

import gzip
import json
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest

from smileback_pipeline.api.client import Patience, SmileBackClient
from smileback_pipeline.api.errors import AccessError, ApiError, RefusedError, TransientError
from smileback_pipeline.api.tokens import Token, TokenStore
from smileback_pipeline.api.transport import Bounds, Transport
from smileback_pipeline.endpoints import REVIEWS
from smileback_pipeline.settings import ConfigurationError, Settings, validated_settings
from smileback_pipeline_tests.terminal import free_port
from smileback_pipeline_tests.wire import Answer, Authority, Say, proxying, serving, whole

HOST = "smileback.test"  # which no resolver knows
PAGE = whole(b'{"count": 1, "next": null, "results": [{"id": 1, "last_modified": "2026-01-01T00:00:00Z"}]}')
QUICK = Bounds(connect_seconds=2, silence_seconds=0.3, answer_seconds=0.6, body_bytes=1_000_000)
IMPATIENT = Patience(attempts=3, first_wait_seconds=0, bounds=QUICK)
TOKEN = "the-access-token"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def settings_for(origin: str, directory: Path) -> Settings:
    """The settings of somebody who is connected to a SmileBack at that origin."""
    settings = validated_settings(
        base_url=f"{origin}/api",
        client_id="a-client",
        client_secret="a-secret",
        requests_per_minute=0,
        token_path=directory / "tokens.json",
    )
    token = Token(
        access_token=TOKEN,
        refresh_token="the-refresh-token",
        expires_at=time.time() + 36_000,
        scope="read",
        grant="authorization_code",
        server=settings.base_url,
        client_id="a-client",
        username=None,
    )
    TokenStore(settings).save(token)
    return settings


def reviews_at(origin: str, directory: Path, patience: Patience = IMPATIENT) -> int:
    """How many reviews a SmileBack at that origin has."""
    with SmileBackClient(settings_for(origin, directory), patience=patience) as client:
        return client.fetch_page(REVIEWS, since=None, offset=0).count


def get(url: str, bounds: Bounds = QUICK) -> bytes:
    transport = Transport(bounds)
    try:
        return transport.get(url, "Reading").content
    finally:
        transport.close()


# TLS


def test_a_certificate_of_nobody_we_know_is_refused_at_once_with_what_to_do(
    authority: Authority, tmp_path: Path
) -> None:
    with (
        serving(PAGE, tls=authority.server("127.0.0.1")) as wire,
        pytest.raises(RefusedError, match=r"certificate of 127\.0\.0\.1 .* SSL_CERT_FILE"),
    ):
        reviews_at(f"https://127.0.0.1:{wire.port}", tmp_path)
    assert (wire.connections, wire.heard) == (1, [])


def test_a_bundle_of_ones_own_is_trusted_through_ssl_cert_file(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    with serving(PAGE, tls=authority.server("127.0.0.1")) as wire:
        assert reviews_at(f"https://127.0.0.1:{wire.port}", tmp_path) == 1
    assert TOKEN.encode() in wire.heard[0]


@pytest.mark.parametrize(
    ("host", "days", "reason"), [("192.0.2.1", 1, "not valid for '127.0.0.1'"), ("127.0.0.1", -1, "expired")]
)
def test_a_certificate_of_another_host_or_time_is_refused(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, days: int, reason: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    with serving(PAGE, tls=authority.server(host, days=days)) as wire, pytest.raises(RefusedError, match=reason):
        reviews_at(f"https://127.0.0.1:{wire.port}", tmp_path)
    assert wire.heard == []


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_bundle_that_is_none_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with pytest.raises(ConfigurationError, match="check SSL_CERT_FILE"):
        Transport()


def test_a_server_that_speaks_no_tls_is_no_answer(tmp_path: Path) -> None:
    with serving(PAGE) as wire, pytest.raises(TransientError, match="no whole answer"):
        reviews_at(f"https://127.0.0.1:{wire.port}", tmp_path)
    assert TOKEN.encode() not in b"".join(wire.heard)


@pytest.mark.parametrize(
    "url",
    [
        "http://app.smileback.io/api",
        "http://127.0.0.1.example.com/api",
        "http://127.0.0.1@example.com/api",
        "http://localhost.example.com/api",
        "http://[::2]/api",
        "ftp://127.0.0.1/api",
        "//127.0.0.1/api",
        "https://user:w0rd@app.smileback.io/api",
        "https://",
    ],
)
@pytest.mark.parametrize("variable", ["base_url", "authorize_url", "redirect_uri"])
def test_an_address_that_is_neither_https_nor_loopback_is_refused(variable: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match=f"SMILEBACK_{variable.upper()} must") as refusal:
        validated_settings(**{variable: url})
    assert "w0rd" not in str(refusal.value)


# Redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_no_redirect_is_followed_so_that_none_can_carry_a_token_away(tmp_path: Path, status: str) -> None:
    with serving(PAGE) as other:
        elsewhere = f"http://127.0.0.1:{other.port}/api/v3/reviews/"
        with (
            serving(whole(b"", status=status, headers=f"Location: {elsewhere}\r\n")) as wire,
            pytest.raises(RefusedError, match=r"redirects elsewhere; check SMILEBACK_BASE_URL"),
        ):
            reviews_at(f"http://127.0.0.1:{wire.port}", tmp_path)
    assert (wire.connections, other.connections) == (1, 0)


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary"])
def test_credentials_are_not_redirected_either(tmp_path: Path, status: str) -> None:
    with serving(PAGE) as other:
        elsewhere = f"Location: http://127.0.0.1:{other.port}/token/\r\n"
        with serving(whole(b"", status=status, headers=elsewhere)) as wire:
            settings = settings_for(f"http://127.0.0.1:{wire.port}", tmp_path)
            TokenStore(settings).forget()
            account = settings.model_copy(update={"username": "u", "password": settings.client_secret})
            with SmileBackClient(account, patience=IMPATIENT) as client, pytest.raises(AccessError, match="not as a"):
                client.fetch_page(REVIEWS, since=None, offset=0)
    assert (wire.connections, other.connections) == (1, 0)


@pytest.mark.parametrize(
    "location",
    ["https://[", "http://a:99999999/", "//", "javascript:alert(1)", "\x80\xff", "x" * 70_000, "http://\xff/"],
)
def test_a_redirect_to_nonsense_is_an_error_like_others(tmp_path: Path, location: str) -> None:
    head = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n".encode("latin-1")
    with serving(lambda request, say: say(head)) as wire, pytest.raises(ApiError, match="Reading reviews"):
        reviews_at(f"http://127.0.0.1:{wire.port}", tmp_path)


def test_next_is_not_followed_to_another_origin(tmp_path: Path) -> None:
    """Pages are asked for by address of our own making, so that `next` has no say in where a token goes."""
    with serving(PAGE) as other:
        page = {"count": 2, "next": f"http://127.0.0.1:{other.port}/", "results": [{"id": 1}]}
        with serving(whole(json.dumps(page).encode())) as wire:
            assert reviews_at(f"http://127.0.0.1:{wire.port}", tmp_path) == 2
    assert other.connections == 0


def test_headers_may_hold_any_bytes(tmp_path: Path) -> None:
    page = b'{"count": 3, "results": []}'
    head = b"HTTP/1.1 200 OK\r\nServer: \xc3\x9c\xff\r\nContent-Type: \xff\r\nContent-Length: %d\r\n\r\n" % len(page)
    with serving(lambda request, say: say(head + page)) as wire:
        assert reviews_at(f"http://127.0.0.1:{wire.port}", tmp_path) == 3


# Time


def drip(head: bytes, drop: bytes) -> Answer:
    """Say a drop every 50 ms, for as long as anybody listens: no time-out that begins anew at each byte helps."""

    def answer(request: bytes, say: Say) -> None:
        say(head)
        while True:
            say(drop)
            pause.wait(0.05)

    pause = threading.Event()
    return answer


def silent(request: bytes, say: Say) -> None:
    threading.Event().wait(5)


HEAD = b"HTTP/1.1 200 OK\r\n"
ENDLESS = {
    "the status": drip(b"H", b""),
    "a header": drip(HEAD + b"X: ", b"x"),
    "headers": drip(HEAD, b"X: y\r\n"),
    "interim answers": drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "a body": drip(HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
    "a body without length": drip(HEAD + b"Connection: close\r\n\r\n", b" "),
    "chunks": drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "a compressed body": drip(HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n", gzip.compress(b"")),
}


@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http", "https"])
def test_an_answer_that_drips_is_over_when_its_time_is(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, kind: str, is_encrypted: bool
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    with serving(ENDLESS[kind], tls=authority.server("127.0.0.1") if is_encrypted else None) as wire:
        began = time.monotonic()
        with pytest.raises(TransientError, match=r"^Reading: "):
            get(f"http{'s' if is_encrypted else ''}://127.0.0.1:{wire.port}/")
    assert time.monotonic() - began < 5


def test_an_answer_that_drips_is_asked_for_again_on_a_new_connection(tmp_path: Path) -> None:
    answers = [ENDLESS["a header"], ENDLESS["a body"], PAGE]
    with serving(lambda request, say: answers.pop(0)(request, say)) as wire:
        assert reviews_at(f"http://127.0.0.1:{wire.port}", tmp_path) == 1
    assert wire.connections == 3


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["http", "https"])
def test_silence_is_over_when_its_time_is(is_encrypted: bool) -> None:
    with serving(silent) as wire, pytest.raises(TransientError, match="no whole answer"):
        get(
            f"http{'s' if is_encrypted else ''}://127.0.0.1:{wire.port}/",
            Bounds(connect_seconds=0.3, silence_seconds=0.3),
        )


def test_nobody_there_is_a_sentence_that_names_the_host(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match=r"Reading reviews at offset 0: no whole answer from 127\.0\.0\.1"):
        reviews_at(f"http://127.0.0.1:{free_port()}", tmp_path)


# Size


def compressed(body: bytes) -> Answer:
    return whole(body, headers="Content-Encoding: gzip\r\n")


def bomb(times: int) -> bytes:
    """A gigabyte of spaces for 1,000."""
    squeezer = zlib.compressobj(9, wbits=31)
    return b"".join(squeezer.compress(b" " * 1_000_000) for _ in range(times)) + squeezer.flush()


def test_a_compressed_page_is_read(tmp_path: Path) -> None:
    with serving(compressed(gzip.compress(b'{"count": 7, "results": []}'))) as wire:
        assert reviews_at(f"http://127.0.0.1:{wire.port}", tmp_path) == 7


def test_a_decompression_bomb_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    with serving(compressed(bomb(300))) as wire:
        tracemalloc.start()
        try:
            with pytest.raises(RefusedError, match=r"longer than 1,000,000 bytes"):
                reviews_at(f"http://127.0.0.1:{wire.port}", tmp_path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 20_000_000
    assert wire.connections == 1


def endless(head: bytes, block: bytes) -> Answer:
    def answer(request: bytes, say: Say) -> None:
        say(head)
        while True:
            say(block)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        endless(HEAD + b"Content-Length: 1000000000000\r\n\r\n", b" " * 65536),
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
        endless(HEAD + b"Connection: close\r\n\r\n", b" " * 65536),
        # After the end of what was compressed nothing comes out any more, so what goes in has to be bounded as well.
        endless(HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(b"{}"), b"x" * 65536),
        endless(HEAD + b"X: ", b"x" * 65536),
        endless(HEAD, b"X: y\r\n" * 10_000),
        endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536),
    ],
    ids=["length", "chunked", "until close", "after gzip", "header", "headers", "chunk extension"],
)
def test_an_answer_without_end_is_refused_in_bounded_memory(answer: Answer) -> None:
    with serving(answer) as wire:
        tracemalloc.start()
        try:
            with pytest.raises(ApiError, match=r"^Reading: "):
                get(f"http://127.0.0.1:{wire.port}/", Bounds(body_bytes=1_000_000))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"{}")[:-1], gzip.compress(b"{}")[:12], gzip.compress(b"{}" * 99)[:-12]],
    ids=["nothing", "no gzip", "a byte less", "the beginning", "without its end"],
)
def test_a_compressed_answer_that_is_broken_is_no_page(tmp_path: Path, content: bytes) -> None:
    with serving(compressed(content)) as wire, pytest.raises(TransientError):
        reviews_at(f"http://127.0.0.1:{wire.port}", tmp_path)
    assert wire.connections == 3


def test_a_compression_that_was_not_asked_for_is_refused(tmp_path: Path) -> None:
    with (
        serving(whole(b"x", headers="Content-Encoding: \x1b[2Jbr, gzip\r\n")) as wire,
        pytest.raises(ApiError, match="Reading reviews") as refusal,
    ):
        reviews_at(f"http://127.0.0.1:{wire.port}", tmp_path)
    assert "\x1b" not in str(refusal.value)


# Proxies


def test_a_proxy_of_the_environment_is_used_and_learns_nothing_but_the_host(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    with serving(PAGE, tls=authority.server(HOST)) as wire, proxying(wire.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://somebody:s3cret@127.0.0.1:{proxy.port}")
        assert reviews_at(f"https://{HOST}", tmp_path) == 1
    assert proxy.heard[0].startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic" in proxy.heard[0]
    assert TOKEN.encode() in wire.heard[0]
    assert b"Proxy-Authorization" not in wire.heard[0]
    assert TOKEN.encode() not in b"".join(proxy.heard)


def test_through_a_proxy_certificates_are_verified_as_well(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(PAGE, tls=authority.server(HOST)) as wire, proxying(wire.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(RefusedError, match=rf"certificate of {HOST}"):
            reviews_at(f"https://{HOST}", tmp_path)
    assert wire.heard == []


def test_through_a_proxy_an_answer_is_bounded_in_time_as_well(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    with serving(ENDLESS["a header"], tls=authority.server(HOST)) as wire, proxying(wire.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(TransientError, match="not over after"):
            get(f"https://{HOST}/")


def test_a_host_in_no_proxy_is_asked_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(PAGE) as wire, proxying(wire.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", HOST)
        with pytest.raises(TransientError, match=f"no whole answer from {HOST}"):
            reviews_at(f"https://{HOST}", tmp_path)
    assert proxy.connections == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_asked_directly_whatever_proxies_there_are(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, host: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.bundle))
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    with serving(PAGE, tls=authority.server(host) if scheme == "https" else None) as wire:
        assert reviews_at(f"{scheme}://{host}:{wire.port}", tmp_path) == 1


@pytest.mark.parametrize("proxy", ["ftp://me:s3cret@proxy", "http://me:s3cret@proxy:port", "socks5://me:s3cret@proxy"])
def test_a_proxy_that_cannot_be_used_is_a_sentence_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as refusal:
        Transport()
    assert "s3cret" not in str(refusal.value)


def test_a_proxy_that_refuses_is_an_error_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(whole(b"no", status="407 Proxy Authentication Required")) as wire:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:s3cret@127.0.0.1:{wire.port}")
        with pytest.raises(TransientError, match="407 Proxy Authentication Required") as refusal:
            reviews_at(f"https://{HOST}", tmp_path)
    assert "s3cret" not in str(refusal.value)
    assert TOKEN.encode() not in b"".join(wire.heard)
