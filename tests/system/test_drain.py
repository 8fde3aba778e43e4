"""SIGTERM: what was received is answered, what was accepted is kept, and the end is in time."""

import http.client
import json
import signal
import threading
import time

import pytest

import weirlib
from weirlib import Raw, event, ndjson, until


def body_of(event_id):
    return json.dumps(event(event_id)).encode()


def received(w, connections):
    """Every byte that was sent on at least that many connections was read by the server."""
    def all_read():
        n, unread = weirlib.unread_bytes(w.port)
        return n >= connections and unread == 0
    return all_read


@pytest.mark.sanitize
def test_requests_on_their_way_are_answered_before_the_end(weir, shim):
    slow = shim("-wal")
    w = weir(env=slow.env)
    slow.order("sleep400")
    clients = [Raw(w.port) for _ in range(40)]
    for n, c in enumerate(clients):
        c.send_post(body_of(f"d-{n}"))
    until(received(w, 40), what="the server has read every request")
    w.proc.send_signal(signal.SIGTERM)
    answers = [c.answer() for c in clients]
    assert [status for status, _, _ in answers] == [202] * 40
    assert [json.loads(body)["event_id"] for _, _, body in answers] == [
        f"d-{n}" for n in range(40)]
    assert all(headers.get("connection") == "close" for _, headers, _ in answers)
    assert all(c.ended() for c in clients), "a clean end, no reset"
    assert w.wait(10) == 0
    kept = weirlib.stored_ids(w.data) + weirlib.queued_ids(w.data)
    assert sorted(kept) == sorted(f"d-{n}" for n in range(40))


@pytest.mark.sanitize
def test_a_request_whose_body_is_still_coming_is_answered(weir):
    w = weir()
    with Raw(w.port) as c:
        body = body_of("half")
        c.send(weirlib.post_head(len(body)) + body[:30])
        until(received(w, 1), what="the server has read the first half")
        w.proc.send_signal(signal.SIGTERM)
        until(lambda: refuses_connections(w), what="it does not accept any more")
        c.send(body[30:])
        status, _, _ = c.answer()
        assert status in (202, 503)
        assert c.ended()
    assert w.wait(10) == 0
    w.start()
    w.wait_drained()
    assert (w.show("half") is not None) == (status == 202)


def refuses_connections(w):
    try:
        Raw(w.port, timeout=2).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.sanitize
def test_idle_connections_do_not_delay_the_end(weir):
    w = weir()
    idle = [Raw(w.port) for _ in range(20)]
    idle[0].send_post(body_of("one"))
    assert idle[0].answer()[0] == 202
    began = time.monotonic()
    assert w.stop() == 0
    assert time.monotonic() - began < 3
    assert all(c.ended() for c in idle)


class Client:
    """Posts one event after the other on one connection, and notes what came of each."""

    def __init__(self, w, number):
        self.w = w
        self.number = number
        self.answered = []
        self.cut = []  # when the requests were sent that got no answer
        self.odd = []
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self):
        serial = 0
        while True:
            try:
                connection = Raw(self.w.port)
            except OSError:  # it no longer accepts: the end
                return
            with connection:
                while self._post(connection, f"t-{self.number}-{serial}"):
                    serial += 1
            serial += 1

    def _post(self, connection, event_id):
        sent = time.monotonic()
        try:
            connection.send_post(body_of(event_id))
            status, headers, _ = connection.answer()
        except (OSError, http.client.HTTPException):
            self.cut.append(sent)
            return False
        if status == 202:
            self.answered.append(event_id)
        elif status != 503:
            self.odd.append(status)
        return headers.get("connection") != "close"


@pytest.mark.sanitize
def test_sigterm_under_load_keeps_what_it_answered(weir):
    w = weir()
    clients = [Client(w, n) for n in range(6)]
    until(lambda: sum(len(c.answered) for c in clients) > 500, 30, what="load")
    began = time.monotonic()
    w.proc.send_signal(signal.SIGTERM)
    assert w.wait(35) == 0
    assert time.monotonic() - began < 10
    for c in clients:
        c.thread.join()
    assert [c.odd for c in clients] == [[]] * 6
    early = [sent for c in clients for sent in c.cut if sent < began]
    assert not early, f"{len(early)} requests sent before SIGTERM got no answer"
    w.start()
    w.wait_drained()
    assert w.stop() == 0
    stored = weirlib.stored_ids(w.data)
    assert len(stored) == len(set(stored))
    lost = {i for c in clients for i in c.answered} - set(stored)
    assert not lost, f"answered 202 and lost: {sorted(lost)[:5]}"


@pytest.mark.sanitize
def test_what_is_left_in_the_queue_is_processed_by_the_next_start_in_accept_order(weir, tmp_path):
    w = weir("--sink", "log:/dev/full", "--drain-timeout", "1s")
    ids = [f"left-{i:03}" for i in range(300)]
    for first in range(0, 300, 30):
        assert w.post([event(i) for i in ids[first:first + 30]]).status_code == 202
    began = time.monotonic()
    assert w.stop() == 0, "what is left is safe, so the end is a good one"
    assert time.monotonic() - began < 5
    out = tmp_path / "sink.ndjson"
    w.restart("--sink", f"log:{out}")
    w.wait_drained()
    assert [json.loads(line)["event_id"] for line in out.read_text().splitlines()] == ids


def test_a_second_signal_ends_at_once_and_nothing_is_lost(weir, shim):
    slow = shim("-wal")
    w = weir(env=slow.env)
    assert w.post([event(f"s-{i}") for i in range(50)]).status_code == 202
    slow.order("sleep8000")
    with Raw(w.port) as c:
        c.send_post(body_of("in-hand"))
        until(received(w, 1), what="the server has read it")
        w.proc.send_signal(signal.SIGTERM)
        until(lambda: "stop.begin" in w.log_text(), what="it has begun to stop")
        began = time.monotonic()
        w.proc.send_signal(signal.SIGINT)
        assert w.wait(5) == 1
        assert time.monotonic() - began < 3
    slow.clear()
    w.start()
    w.wait_drained()
    assert all(w.show(f"s-{i}") for i in range(50))


@pytest.mark.slow
def test_ten_stops_and_starts_under_load_lose_nothing(weir, tmp_path):
    w = weir()
    history = weirlib.History(tmp_path / "history")
    with weirlib.Load(w, history) as load:
        for _ in range(10):
            before = len(history.answered)
            until(lambda: len(history.answered) > before + 200, what="load")
            w.restart()
        load.end()
        assert not load.unexpected, load.unexpected[:3]
    w.wait_drained()
    assert w.stop() == 0
    ids = weirlib.stored_ids(w.data)
    assert len(ids) == len(set(ids))
    assert set(history.answered) <= set(ids) <= set(history.asked)


def test_a_large_batch_that_was_received_is_processed_or_kept(weir):
    w = weir()
    events = [event(f"big-{i}", {"filler": "y" * 200}) for i in range(9000)]
    with Raw(w.port) as c:
        body = ndjson(events)
        c.send(weirlib.post_head(len(body)).replace(b"application/json", b"application/x-ndjson")
               + body)
        assert c.answer()[0] == 202
    assert w.stop() == 0
    w.start()
    w.wait_drained()
    assert w.stop() == 0
    assert len(set(weirlib.stored_ids(w.data))) == 9000
