"""The front door, byte by byte: what RFC 9112 says must be refused, what must work, who is too
slow, and what a connection may cost."""

import contextlib
import http.client
import json
import os
import resource
import socket
import time

import pytest

import weirlib
from weirlib import Raw, event, post_head, until

HOST = b"Host: localhost\r\n"
TYPE = b"Content-Type: application/json\r\n"
POST = b"POST /events HTTP/1.1\r\n" + HOST + TYPE
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = json.dumps(event("raw-1")).encode()
GET = b"GET /livez HTTP/1.1\r\n" + HOST


def length(n):
    return b"Content-Length: %s\r\n" % str(n).encode()


def with_body(extra=b""):
    return POST + extra + length(len(BODY)) + b"\r\n" + BODY


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def refuse(w, name, request, status):
    """What is wrong with the answer to a request that has to be refused; None when nothing is."""
    with Raw(w.port) as c:
        try:
            c.send(request)
            got, headers, body = c.answer()
            if got != status:
                return f"{name}: {got}, expected {status}: {body!r}"
            if headers.get("content-type") != "application/problem+json":
                return f"{name}: {headers}"
            if json.loads(body)["status"] != status:
                return f"{name}: {body!r}"
            if headers.get("connection") != "close" or not c.ended():
                return f"{name}: the connection stays open"
        except (OSError, http.client.HTTPException, ValueError) as e:
            return f"{name}: {e!r}"
    return None


LENGTH = length(len(BODY)).strip()
REFUSED = [
    # name, bytes, status: the rows of RFC 9112 that decide where a message ends
    ("length and coding", POST + length(5) + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("coding and length", POST + b"Transfer-Encoding: chunked\r\n" + length(5) + b"\r\n0\r\n\r\n",
     400),
    ("chunked is not last", POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    ("chunked twice", POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    ("unknown coding", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("coding in HTTP/1.0", b"POST /events HTTP/1.0\r\n" + HOST + TYPE +
     b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("vertical tab in coding", POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    *[(f"length {value!r}", POST + b"Content-Length: " + value + b"\r\n\r\n" + BODY, 400)
      for value in (b"", b"+5", b"-5", b"0x5", b"5_0", b"5 5", b"5,5", b"5, 6", b"5.0", b"\xb2",
                    b"99999999999999999999999", b"18446744073709551621")],
    ("two lengths", POST + length(5) + length(6) + b"\r\nabcdef", 400),
    ("two equal lengths", POST + length(5) + length(5) + b"\r\nabcde", 400),
    ("space before colon", POST + b"Content-Length : 5\r\n\r\nabcde", 400),
    ("tab before colon", GET + b"X\t: 5\r\n\r\n", 400),
    ("folded header", GET + b"X: a\r\n b\r\n\r\n", 400),
    ("folded first header", b"GET /livez HTTP/1.1\r\n Host: localhost\r\n\r\n", 400),
    ("header without name", GET + b": a\r\n\r\n", 400),
    ("header without colon", GET + b"X\r\n\r\n", 400),
    ("bare CR in a value", GET + b"X: a\rb\r\n\r\n", 400),
    ("bare CR in the request line", b"GET /livez\r HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("bare LF after the request line", b"GET /livez HTTP/1.1\n" + HOST + b"\r\n", 400),
    ("bare LF after a header", b"GET /livez HTTP/1.1\r\nHost: localhost\n\r\n", 400),
    ("bare LF at the end", GET + b"\n", 400),
    ("NUL in a value", GET + b"X: a\0b\r\n\r\n", 400),
    ("NUL in the target", b"GET /li\0vez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("encoded NUL in the path", b"GET /events/a%00b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("bad escape", b"GET /events/%zz HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("no Host", b"GET /livez HTTP/1.1\r\n\r\n", 400),
    ("two Hosts", GET + b"Host: other\r\n\r\n", 400),
    ("Host with a path", b"GET /livez HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("Host with a user", b"GET /livez HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    ("two spaces in the request line", b"GET  /livez HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("no version", b"GET /livez\r\n" + HOST + b"\r\n", 400),
    ("HTTP/0.9", b"GET /livez\r\n\r\n", 400),
    ("TLS", bytes.fromhex("16030100f5010000f10303") + bytes(40), 400),
    ("lower case version", b"GET /livez http/1.1\r\n" + HOST + b"\r\n", 400),
    ("HTTP/2.0", b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    ("HTTP/1.2", b"GET /livez HTTP/1.2\r\n" + HOST + b"\r\n", 505),
    # chunks
    ("chunk size of 0x", CHUNKED + b"0x5\r\nabcde\r\n0\r\n\r\n", 400),
    ("chunk size with sign", CHUNKED + b"+5\r\nabcde\r\n0\r\n\r\n", 400),
    ("chunk size with underscore", CHUNKED + b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n", 400),
    ("chunk size with space", CHUNKED + b"5 \r\nabcde\r\n0\r\n\r\n", 400),
    ("no chunk size", CHUNKED + b"\r\nabcde\r\n0\r\n\r\n", 400),
    ("chunk size that overflows", CHUNKED + b"10000000000000005\r\nabcde\r\n0\r\n\r\n", 400),
    ("bare LF after a chunk size", CHUNKED + b"5\nabcde\r\n0\r\n\r\n", 400),
    ("chunk longer than its size", CHUNKED + b"5\r\nabcdef\r\n0\r\n\r\n", 400),
    ("long chunk extensions", CHUNKED + b"5;" + b"a" * 400 + b"\r\nabcde\r\n0\r\n\r\n", 400),
    ("bad trailer", CHUNKED + chunk(BODY) + b"0\r\nX : 1\r\n\r\n", 400),
    # too much
    ("long target", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    ("long method", b"A" * 100 + b" /livez HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    ("long header", GET + b"X: " + b"a" * 17000 + b"\r\n\r\n", 431),
    ("many headers", GET + b"X: 1\r\n" * 100 + b"\r\n", 431),
    ("many trailers", CHUNKED + chunk(BODY) + b"0\r\n" + b"X: 1\r\n" * 100 + b"\r\n", 431),
    ("declared body too large", POST + length(5 * 1024 * 1024) + b"\r\n", 413),
    ("chunk too large", CHUNKED + b"500000\r\n", 413),
    # refused before the body
    ("no such path", b"POST /nothing HTTP/1.1\r\n" + HOST + TYPE + length(5) + b"\r\n", 404),
    ("no such method here", b"PUT /events HTTP/1.1\r\n" + HOST + TYPE + length(5) + b"\r\n", 405),
    ("unknown method", b"BREW /events HTTP/1.1\r\n" + HOST + length(5) + b"\r\n", 501),
    ("unknown type", b"POST /events HTTP/1.1\r\n" + HOST + b"Content-Type: text/plain\r\n" +
     length(5) + b"\r\n", 415),
    ("no type", b"POST /events HTTP/1.1\r\n" + HOST + length(5) + b"\r\n", 415),
    ("other expectation", POST + b"Expect: 200-ok\r\n" + length(5) + b"\r\n", 417),
]


@pytest.mark.sanitize
def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(weir):
    w = weir()
    wrong = [refuse(w, *row) for row in REFUSED]
    assert [text for text in wrong if text] == []
    stats = w.stats()
    assert stats["accepted"] == 0
    assert stats["http_errors"] == len(REFUSED)


def test_a_refused_request_hides_no_second_one(weir):
    w = weir()
    hidden = with_body()
    for name, request in [
        ("length and coding", POST + length(len(hidden) + 5) +
         b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden),
        ("two lengths", POST + length(0) + length(len(hidden)) + b"\r\n" + hidden),
        ("space before colon", POST + b"Content-Length : 0\r\n\r\n" + hidden),
        ("bare LF in chunks", CHUNKED + b"0\n\n" + hidden),
    ]:
        with Raw(w.port) as c:
            c.send(request)
            assert c.answer()[0] == 400, name
            assert c.ended(), name
    assert w.count("accepted") == 0


ACCEPTED = [
    ("plain", with_body()),
    ("chunks", CHUNKED + chunk(BODY[:20]) + chunk(BODY[20:]) + b"0\r\n\r\n"),
    ("chunk extension and trailer", CHUNKED + b"%x;a=b\r\n%s\r\n" % (len(BODY), BODY) +
     b"0\r\nX: 1\r\n\r\n"),
    ("leading zeros in a chunk size", CHUNKED + b"000%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    ("absolute target", with_body().replace(b"/events", b"http://elsewhere:1/events", 1)),
    ("escaped path", with_body().replace(b"/events", b"/%65vents", 1)),
    ("one empty line before", b"\r\n" + with_body()),
    ("type with charset", with_body().replace(b"json\r\n", b"json; charset=utf-8\r\n", 1)),
    ("names without case", with_body().replace(b"Content-Length", b"cOnTeNt-LeNgTh")),
    ("no space after the colon", with_body().replace(b"Host: ", b"Host:")),
    ("HTTP/1.0", with_body().replace(b"HTTP/1.1", b"HTTP/1.0")),
    ("a query on POST", with_body().replace(b"/events", b"/events?a=b", 1)),
]


@pytest.mark.sanitize
def test_what_the_standard_allows_is_accepted_in_any_split_of_its_bytes(weir):
    w = weir()
    for name, request in ACCEPTED:
        for step in (len(request), 1, 7):
            with Raw(w.port) as c:
                c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(0, len(request), step):
                    c.send(request[at:at + step])
                status, _, body = c.answer()
                assert status == 202, (name, step, body)
    assert w.count("accepted") == 3 * len(ACCEPTED)
    until(lambda: w.count("processed", "duplicate") == 3 * len(ACCEPTED), what="all are settled")
    assert w.count("processed") == 1


def test_a_body_cut_at_any_byte_has_no_effect(weir):
    w = weir()
    for request in (with_body(), CHUNKED + chunk(BODY[:20]) + chunk(BODY[20:]) + b"0\r\n\r\n"):
        for cut in range(1, len(request)):
            with Raw(w.port) as c:
                c.send(request[:cut])
                c.sock.shutdown(socket.SHUT_WR)
                assert c.ended(), cut
    assert w.count("accepted") == 0


# connections


def test_a_connection_serves_many_requests(weir):
    w = weir()
    opened = w.count("connections_opened")
    with Raw(w.port) as c:
        for i in range(200):
            c.send_post(json.dumps(event(f"k-{i}")).encode())
            assert c.answer()[0] == 202
    assert w.count("connections_opened") == opened + 1


def read_answer(f):
    """(status, body) of the next of several answers on one buffered file."""
    status = int(f.readline().split()[1])
    size = 0
    while (line := f.readline()) != b"\r\n":
        if line.lower().startswith(b"content-length:"):
            size = int(line.split()[1])
    return status, f.read(size)


@pytest.mark.sanitize
def test_pipelined_requests_are_answered_in_their_order(weir):
    w = weir()
    with Raw(w.port) as c:
        requests = []
        for i in range(300):
            body = json.dumps(event(f"p-{i}")).encode()
            requests.append(post_head(len(body)) + body)
            if i % 10 == 9:
                requests.append(b"GET /events/p-%d HTTP/1.1\r\n" % i + HOST + b"\r\n")
        c.send(b"".join(requests))
        f = c.sock.makefile("rb")
        for i in range(300):
            status, body = read_answer(f)
            assert (status, json.loads(body)["event_id"]) == (202, f"p-{i}")
            if i % 10 == 9:  # its event was durable before it was asked for
                status, body = read_answer(f)
                assert (status, json.loads(body)["event_id"]) == (200, f"p-{i}")


def test_head_is_get_without_the_body(weir):
    w = weir()
    w.post(event("h-1"))
    w.wait_state("h-1", "processed")
    for path in ("/livez", "/readyz", "/version", "/events", "/events/h-1", "/openapi.json"):
        head, get = w.request("HEAD", path), w.get(path)
        assert head.status_code == get.status_code == 200, path
        assert head.headers == get.headers and head.content == b""


def test_a_client_that_expects_100_continue_is_told_before_it_sends(weir):
    w = weir()
    with Raw(w.port) as c:
        c.send(post_head(len(BODY), "Expect: 100-continue\r\n"))
        assert c.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        c.send(BODY)
        assert c.answer()[0] == 202
        c.send(post_head(10 * 1024 * 1024, "Expect: 100-continue\r\n"))
        assert c.answer()[0] == 413
        assert c.ended()


def test_a_closing_client_is_answered_and_closed(weir):
    w = weir()
    for request in (with_body(b"Connection: close\r\n"),
                    with_body().replace(b"HTTP/1.1", b"HTTP/1.0")):
        with Raw(w.port) as c:
            c.send(request)
            status, headers, _ = c.answer()
            assert (status, headers["connection"]) == (202, "close")
            assert c.ended()
    with Raw(w.port) as c:
        c.send(with_body())
        c.sock.shutdown(socket.SHUT_WR)
        assert c.answer()[0] == 202
        assert c.ended()


def test_wrong_paths_methods_and_lengths_keep_the_connection(weir):
    w = weir()
    with Raw(w.port) as c:
        for request, status in [
            (b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n", 404),
            (b"DELETE /events/x HTTP/1.1\r\n" + HOST + b"\r\n", 405),
            (b"POST /events HTTP/1.1\r\n" + HOST + TYPE + b"\r\n", 411),
            (GET + b"\r\n", 200),
        ]:
            c.send(request)
            got, headers, _ = c.answer()
            assert got == status
            assert status != 405 or headers["allow"] == "GET, HEAD"


def test_a_large_body_is_refused_so_that_the_client_can_read_why(weir):
    w = weir("--http-max-body", "256KiB")
    body = b"x" * 300_000
    for head in (post_head(len(body)), CHUNKED + b"%x\r\n" % len(body)):
        with Raw(w.port) as c:
            c.send(head)
            c.send(body[:200_000])
            assert c.answer()[0] == 413
            assert c.ended()


# who is too slow


def test_a_slow_head_gets_408_and_a_silent_client_nothing(weir):
    w = weir("--http-header-timeout", "300ms", "--http-idle-timeout", "600ms")
    with Raw(w.port) as slow, Raw(w.port) as silent, Raw(w.port) as used:
        slow.send(b"GET /livez HT")
        used.send(GET + b"\r\n")
        assert used.answer()[0] == 200
        status, headers, _ = slow.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert slow.ended() and silent.ended() and used.ended()


def test_a_head_in_drops_does_not_extend_its_time(weir):
    w = weir("--http-header-timeout", "500ms")
    with Raw(w.port) as c:
        began = time.monotonic()
        c.sock.settimeout(0.05)
        c.send(b"GET /livez HTTP/1.1\r\nX: ")
        answer = b""
        while not answer and time.monotonic() - began < 10:
            c.send(b"a")
            with contextlib.suppress(TimeoutError):
                answer = c.sock.recv(1000)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began < 3


@pytest.mark.slow
def test_a_body_in_drops_gets_408_after_ten_seconds(weir):
    w = weir()
    with Raw(w.port, timeout=30) as slow, Raw(w.port, timeout=30) as fast:
        began = time.monotonic()
        slow.send(post_head(1_000_000))
        fast.send(post_head(100_000) + b" " * 50_000)
        slow.send(b"{")
        assert slow.answer()[0] == 408
        assert 9 < time.monotonic() - began < 13
        assert slow.ended()
        fast.send(b" " * 50_000)
        assert fast.answer()[0] == 400, "it was fast enough, and is only no JSON"
    assert w.count("accepted") == 0


def small_window(port):
    c = socket.socket()
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    c.settimeout(20)
    c.connect(("127.0.0.1", port))
    return c


def fill_history(w, mib):
    filler = "x" * 200_000
    for i in range(mib * 5):
        assert w.post(event(f"big-{i}", {"filler": filler})).status_code == 202
    w.wait_drained()


def test_a_client_that_does_not_read_is_cut_and_costs_nothing_after_that(weir):
    w = weir("--http-write-timeout", "500ms")
    fill_history(w, 5)
    closed = w.count("connections_closed")
    with contextlib.closing(small_window(w.port)) as c:
        for _ in range(8):  # 4 MiB each, more than socket buffers hold
            c.sendall(b"GET /events?limit=1000 HTTP/1.1\r\n" + HOST + b"\r\n")
        until(lambda: w.count("connections_closed") == closed + 1, what="it is cut")
        with pytest.raises(ConnectionResetError):
            while c.recv(1 << 20):
                pass


def test_a_client_that_reads_slowly_but_reads_is_served(weir):
    w = weir("--http-write-timeout", "500ms")
    fill_history(w, 3)
    with contextlib.closing(small_window(w.port)) as c:
        c.sendall(b"GET /events?limit=1000 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        began = time.monotonic()
        read = 0
        while True:
            part = c.recv(65536)
            if not part:
                break
            read += len(part)
            if time.monotonic() - began < 1.5:
                time.sleep(0.02)  # the slowness that is being tested
        assert read > 3_000_000


# what connections cost


def limit_files(n):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))


def raise_files(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < n:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, max(hard, n)))


def rss(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.slow
def test_5000_idle_connections_cost_at_most_40_mib(weir):
    raise_files(12_000)
    w = weir(preexec=lambda: raise_files(12_000))
    w.post(event("before"))
    before = rss(w.pid)
    with contextlib.ExitStack() as stack:
        conns = [stack.enter_context(Raw(w.port)) for _ in range(5000)]
        until(lambda: w.count("connections_opened") >= 5000, what="all are accepted")
        for c in conns:  # each has served a request: what it keeps is part of the cost
            c.send(GET + b"\r\n")
        for c in conns:
            assert c.answer()[0] == 200
        assert rss(w.pid) - before <= 40 * 1024 * 1024
        assert w.post(event("among")).status_code == 202


def test_connections_beyond_the_cap_are_closed_and_room_is_used_again(weir):
    w = weir("--http-max-connections", "20")
    with contextlib.ExitStack() as stack:
        mine = [stack.enter_context(Raw(w.port)) for _ in range(19)]
        until(lambda: w.count("connections_opened", "connections_refused") >= 20, what="accepted")
        over = stack.enter_context(Raw(w.port))
        try:
            assert over.ended()
        except ConnectionResetError:
            pass
        assert w.count("connections_refused") >= 1
        mine.pop().close()
        until(lambda: accepts(w), what="there is room again")


@pytest.mark.sanitize
def test_without_file_descriptors_it_refuses_survives_and_does_not_spin(weir):
    w = weir(preexec=limit_files(64))
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(Raw(w.port))
        until(lambda: "api.accept.no_fds" in w.log_text(), what="it says so")
        used = cpu_seconds(w.pid)
        # asked on the connection that is there since the start
        until(lambda: w.count("connections_refused") >= 1, what="it counts them")
        began = time.monotonic()
        while time.monotonic() - began < 1:
            time.sleep(0.1)
        assert cpu_seconds(w.pid) - used < 0.5, "one second of waiting costs no CPU"
    until(lambda: accepts(w), what="it accepts again")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def accepts(w):
    with contextlib.suppress(OSError, http.client.HTTPException), Raw(w.port) as c:
        c.send(with_body())
        return c.answer()[0] == 202
    return False


# where it listens


def ask(sock, request=GET + b"Connection: close\r\n\r\n"):
    sock.settimeout(10)
    sock.sendall(request)
    r = http.client.HTTPResponse(sock)
    r.begin()
    return r.status


def test_it_listens_on_ipv6(weir):
    w = weir(listen="[::1]:0")
    assert w.url.startswith("http://[::1]:")
    assert w.post(event("v6")).status_code == 202


def test_a_port_alone_means_all_addresses_of_both_kinds(weir):
    w = weir(listen=":0")
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as s:
            s.connect((host, w.port))
            assert ask(s) == 200


@pytest.mark.sanitize
def test_it_listens_on_a_unix_socket_and_removes_it(weir, tmp_path):
    path = tmp_path / "s"
    w = weir("--api-threads", "2", listen=f"unix:{path}")
    for _ in range(10):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(path))
            assert ask(s, with_body(b"Connection: close\r\n")) == 202
    second = weirlib.run("run", "--data", tmp_path / "other", "--listen", f"unix:{path}")
    assert second.returncode != 0 and "in use by another process" in second.stderr
    w.kill()
    w.start()  # the socket file of the killed one is in the way, and nobody listens on it
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        assert ask(s) == 200
    assert w.stop() == 0
    assert not path.exists()


def test_a_taken_port_is_said_clearly(weir, tmp_path):
    w = weir()
    for threads in ("1", "2"):
        second = weirlib.run("run", "--data", tmp_path / "other", "--listen",
                             f"127.0.0.1:{w.port}", "--api-threads", threads)
        assert second.returncode != 0
        assert (f"127.0.0.1:{w.port} is in use by another process; "
                "choose another with --listen") in second.stderr


@pytest.mark.sanitize
def test_several_loops_share_the_port(weir):
    w = weir("--api-threads", "3")
    for i in range(60):
        with Raw(w.port) as c:
            c.send_post(json.dumps(event(f"loops-{i}")).encode(), "Connection: close\r\n")
            assert c.answer()[0] == 202
    assert w.count("accepted") == 60


# what it says about itself


def test_the_description_names_the_routes_and_counters_that_there_are(weir):
    w = weir()
    w.post(event("d-1"))
    w.wait_state("d-1", "processed")
    doc = w.get("/openapi.json").json()
    assert doc["openapi"].startswith("3.1.")
    assert doc["info"]["version"] == w.get("/version").json()["version"]
    for path, methods in doc["paths"].items():
        real = path.replace("{event_id}", "d-1")
        for method in methods:
            answer = w.post(event("d-2")) if method == "post" else w.request(method.upper(), real)
            assert str(answer.status_code) in methods[method]["responses"]
            assert answer.status_code in (200, 202), path
    schemas = doc["components"]["schemas"]
    assert set(schemas["Stats"]["required"]) == set(w.stats())
    shown = w.show("d-1")
    assert set(schemas["StoredEvent"]["required"]) <= set(shown)
    assert set(shown) - {"timeline"} <= set(schemas["StoredEvent"]["properties"])
    refused = w.post({}).json()
    assert set(schemas["Problem"]["required"]) <= set(refused) <= set(
        schemas["Problem"]["properties"])
    batch = w.post([event("d-3"), {}]).json()
    assert set(batch) <= set(schemas["BatchAccepted"]["properties"])
