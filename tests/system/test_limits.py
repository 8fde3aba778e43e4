"""Every bound, at the bound: refused with 503 and Retry-After, and well again afterwards."""

import contextlib
import json
import os
import threading

import pytest

import weirlib
from weirlib import Raw, event, until

# a request has to fit into each of these bounds, so a small bound needs small requests
SMALL_BODIES = ("--http-max-body", "64KiB", "--event-max-bytes", "64KiB")


def check_refusal(status, headers, body, *words):
    assert status == 503, body
    assert headers["content-type"] == "application/problem+json"
    assert 1 <= int(headers["retry-after"]) <= 60
    problem = json.loads(body)
    assert problem["status"] == 503
    assert any(word in problem["detail"].lower() for word in words), problem


def check_refused(answer, *words):
    lower = {k.lower(): v for k, v in answer.headers.items()}
    check_refusal(answer.status_code, lower, answer.content, *words)


def fill(w, kib=8, most=400):
    """Posts until the first refusal: (ids that were accepted, the refusal)."""
    accepted = []
    for i in range(most):
        answer = w.post(event(f"f-{i}", {"filler": "f" * (kib * 1024)}))
        if answer.status_code != 202:
            return accepted, answer
        accepted.append(f"f-{i}")
    raise AssertionError(f"{most} events of {kib} KiB and no bound")


@pytest.mark.sanitize
def test_a_full_queue_refuses_and_recovers_when_the_sink_answers_again(weir, shim, tmp_path):
    out = tmp_path / "sink.ndjson"
    fault = shim("sink.ndjson")
    fault.order("enospc")
    w = weir("--queue-max-bytes", "128KiB", "--sink", f"log:{out}", env=fault.env)
    accepted, refusal = fill(w)
    assert 10 <= len(accepted) <= 17, "8 KiB each, 128 KiB together"
    check_refused(refusal, "queue")
    assert w.depth() == len(accepted)
    ready = w.get("/readyz")
    assert ready.status_code == 503 and "queue" in ready.text
    assert w.get("/livez").status_code == 200
    assert w.count("refused") >= 1
    fault.clear()
    w.wait_drained()
    assert w.post(event("after")).status_code == 202
    until(lambda: w.count("processed") == len(accepted) + 1, what="all are processed")
    assert w.get("/readyz").status_code == 200
    ids = [json.loads(line)["event_id"] for line in out.read_text().splitlines()]
    assert list(dict.fromkeys(ids)) == [*accepted, "after"]


def test_a_full_queue_is_still_full_after_a_kill_and_drains_with_a_sink_that_works(weir):
    w = weir("--queue-max-bytes", "64KiB", "--sink", "log:/dev/full")
    accepted, refusal = fill(w)
    check_refused(refusal, "queue")
    w.kill()
    w.start()
    check_refused(w.post(event("more", {"filler": "f" * 8192})), "queue")
    assert w.depth() == len(accepted)
    w.kill()
    w.restart("--sink", "local")
    w.wait_drained()
    assert all(weirlib.find_state(w.show(i)) == "processed" for i in accepted)
    assert w.show("more") is None


def test_a_batch_that_does_not_fit_is_refused_as_a_whole(weir):
    w = weir("--queue-max-bytes", "64KiB", "--sink", "log:/dev/full")
    assert w.post(event("before", {"filler": "f" * 20000})).status_code == 202
    batch = [event(f"b-{i}", {"filler": "f" * 8192}) for i in range(12)]
    check_refused(w.post(batch), "queue")
    assert w.depth() == 1
    assert all(w.show(e["event_id"]) is None for e in batch)


@pytest.mark.sanitize
def test_a_full_mailbox_refuses_while_the_disk_is_slow_and_recovers(weir, shim):
    slow = shim("-wal")
    w = weir("--queue-mailbox-bytes", "64KiB", *SMALL_BODIES, env=slow.env)
    slow.order("sleep500")
    answers = []

    def post(n):
        answers.append((n, w.post(event(f"m-{n}", {"filler": "m" * 30000}))))

    threads = [threading.Thread(target=post, args=(n,)) for n in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    refused = [(n, a) for n, a in answers if a.status_code != 202]
    assert 1 <= len(refused) <= 10, [a.status_code for _, a in answers]
    for _, answer in refused:
        check_refused(answer, "mailbox", "busy", "commit")
    slow.clear()
    for n, _ in refused:
        assert w.post(event(f"m-{n}", {"filler": "m" * 30000})).status_code == 202
    until(lambda: w.count("processed") == 12, what="all are processed")


def is_served(connection):
    connection.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection.answer()[0] == 200


def is_closed_at_once(port):
    with Raw(port, timeout=5) as c:
        with contextlib.suppress(ConnectionError):
            return c.sock.recv(1) == b""
        return True


@pytest.mark.sanitize
def test_connections_beyond_the_cap_are_closed_and_the_others_served(weir):
    w = weir("--http-max-connections", "10")
    w.session.close()
    kept = []
    until(lambda: weirlib.unread_bytes(w.port)[0] == 0, what="the first ones are gone")
    for _ in range(10):
        kept.append(Raw(w.port))
        assert is_served(kept[-1])
    for _ in range(3):
        assert is_closed_at_once(w.port)
    assert all(is_served(c) for c in kept)
    kept.pop().close()

    def served():
        with contextlib.suppress(OSError, weirlib.http.client.HTTPException):
            kept.append(Raw(w.port, timeout=5))
            return is_served(kept[-1])

    until(served, what="a place is free again")
    for c in kept:
        c.close()
    until(lambda: w.count("connections_refused") >= 3, what="they are counted")


@pytest.mark.sanitize
def test_bodies_beyond_the_inflight_bound_are_refused_until_there_is_room(weir):
    w = weir("--http-max-inflight", "64KiB", *SMALL_BODIES)
    large = json.dumps(event("large", {"filler": "l" * 60000})).encode()
    small = event("small", {"filler": "s" * 20000})
    with Raw(w.port) as c:
        c.send(weirlib.post_head(len(large)) + large[:-1])
        until(lambda: w.post(small).status_code == 503, what="no room for another body")
        check_refused(w.post(small), "inflight", "in flight", "memory", "bodies")
        assert w.get("/livez").status_code == 200
        c.send(large[-1:])
        assert c.answer()[0] == 202
    until(lambda: w.post(small).status_code == 202, what="there is room again")
    w.wait_state("large", "processed")
    w.wait_state("small", "processed")


@pytest.mark.sanitize
def test_an_abandoned_body_gives_its_room_back(weir):
    w = weir("--http-max-inflight", "64KiB", *SMALL_BODIES)
    small = event("small", {"filler": "s" * 20000})
    for _ in range(5):
        with Raw(w.port) as c:
            c.send(weirlib.post_head(60000) + b"{" + b" " * 59000)
            until(lambda: w.post(small).status_code == 503, what="no room for another body")
        until(lambda: w.post(small).status_code == 202, what="there is room again")


def test_running_out_of_file_descriptors_does_not_stop_the_service(weir):
    import resource
    w = weir(preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    crowd = []
    for _ in range(100):
        with contextlib.suppress(OSError):
            crowd.append(Raw(w.port, timeout=5))
    assert w.running()
    for c in crowd:
        c.close()
    until(lambda: w.post(event("after")).status_code == 202, 20, what="it serves again")
    w.wait_state("after", "processed")


@pytest.mark.slow
def test_five_thousand_idle_connections_are_held_and_work_goes_on(weir):
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 12000), hard))
    crowd = []
    try:
        w = weir()
        before = resident_kib(w.pid)
        for _ in range(5000):
            crowd.append(Raw(w.port))
        until(lambda: w.count("connections_opened") >= 5000, 20, what="all are accepted")
        for i in range(20):
            assert w.post(event(f"e-{i}")).status_code == 202
        assert all(is_served(c) for c in crowd[::500])
        grown = resident_kib(w.pid) - before
        assert grown <= 40 * 1024, f"{grown} KiB for 5000 idle connections"
    finally:
        for c in crowd:
            c.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    until(lambda: w.count("connections_closed") >= 5000, 20, what="all are gone")


def resident_kib(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
