"""The consuming side of RabbitMQ: `weir worker` on a real server, with pika as the publisher that
knows nothing of weir. The sink is the local store: one row an effect."""

import contextlib
import json
import random
import threading
import time

import pika
import pytest

import weirlib
from weirlib import event, until

INGEST = "events.ingest"
DEAD = "events.dlq"


class Broker:
    """What a test does on its vhost."""

    def __init__(self, rabbit):
        self.rabbit = rabbit
        self.connection = None
        self.channel = None

    def open(self):
        """A new connection, with confirms; the old one may be dead."""
        self.close()
        self.connection = self.rabbit.pika()
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        return self.channel

    def close(self):
        if self.connection is not None:
            with contextlib.suppress(pika.exceptions.AMQPError):
                self.connection.close()
        self.connection = self.channel = None

    def usable(self):
        return self.channel if self.channel is not None and self.channel.is_open else self.open()

    def publish(self, body, *, queue=INGEST, **properties):
        """Returns when the broker has confirmed it."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.usable().basic_publish(
            "", queue, raw, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True)

    def ready(self, queue=INGEST):
        """Messages that wait; None: there is no such queue."""
        try:
            return self.usable().queue_declare(queue, passive=True).method.message_count
        except pika.exceptions.ChannelClosedByBroker:
            return None

    def get(self, queue=DEAD):
        """The next message, acked: (properties, body); None: there is none."""
        method, properties, body = self.usable().basic_get(queue, auto_ack=True)
        return None if method is None else (properties, body)

    def wait_get(self, queue=DEAD, deadline=20):
        return until(lambda: self.get(queue), deadline, what=f"a message in {queue}")

    def counts(self, queue=INGEST):
        """(ready, unacked), as rabbitmqctl sees them."""
        text = self.rabbit.ctl("list_queues", "-p", self.rabbit.name, "--no-table-headers", "name",
                               "messages_ready", "messages_unacknowledged")
        rows = {line.split("\t")[0]: line.split("\t")[1:] for line in text.splitlines()}
        return tuple(int(n) for n in rows[queue])

    def wait_counts(self, wanted, queue=INGEST):
        """The server's figures are some seconds late."""
        until(lambda: self.counts(queue) == wanted, 20, what=f"(ready, unacked) is {wanted}",
              every=0.5)

    def delete(self, queue):
        self.usable().queue_delete(queue)

    def cut(self):
        """Closes every connection of the vhost, as an operator would."""
        self.rabbit.ctl("close_all_connections", "--vhost", self.rabbit.name, "a test says so")


@pytest.fixture
def broker(rabbit):
    b = Broker(rabbit)
    yield b
    b.close()


@pytest.fixture
def worker(weir, rabbit, broker):
    """worker(*flags): starts one and waits until it consumes."""
    def begin(*flags, **kw):
        w = weir("--queue", rabbit.url, "--sink", "local", "--dedup", "local", *flags,
                 command="worker", listen=None, **kw)
        wait_linked(w)
        return w
    return begin


def count_log(w, name):
    return w.log_text().count(f"event={name} ")


def wait_log(w, name, times=1, deadline=30):
    until(lambda: count_log(w, name) >= times, deadline, what=f"the log says {name}")


def wait_linked(w, times=1, deadline=30):
    wait_log(w, "amqp.consumer.linked", times, deadline)


def stored(w):
    return weirlib.stored_ids(w.data)


def stored_rows(w, columns="event_id, payload"):
    with weirlib.open_database(w.data) as db:
        return db.execute(f"select {columns} from events order by seq").fetchall()


def wait_stored(w, ids, deadline=30):
    """Each of them; then none is there twice, and nobody else's."""
    wanted = set(ids)
    until(lambda: set(stored(w)) >= wanted, deadline, what=f"{len(wanted)} events are stored")
    assert sorted(stored(w)) == sorted(wanted)


def wait_settled(w, broker, deadline=30):
    """Everything published is acked: after the worker's end nothing goes back to the queue."""
    until(lambda: broker.ready() == 0, deadline, what="the queue is empty")
    assert w.stop() == 0
    assert broker.ready() == 0, "something was given back: it had not been acked"


def text_of(e):
    return json.dumps(e)


# what a message may be


def test_a_single_event_is_stored_as_it_came(worker, broker):
    w = worker()
    payload = '{"message": "Wasser \\u00fc",\n "n": 1e400, "deep": [[{}]]}'
    body = ('{"event_id":"a","type":"GRIEVANCE","timestamp":"2026-02-03T12:30:00Z","payload":'
            + payload + "}")
    broker.publish(body.encode(), content_type="application/json")
    wait_stored(w, ["a"])
    assert stored_rows(w) == [("a", payload)]
    wait_settled(w, broker)


def test_events_of_an_envelope_are_stored_in_its_order(worker, broker):
    w = worker()
    ids = [f"e-{i:03}" for i in range(300)]
    broker.publish(weirlib.ndjson(event(i) for i in ids))
    wait_stored(w, ids)
    assert stored(w) == ids
    wait_settled(w, broker)


def test_an_envelope_larger_than_the_workers_batch_is_stored_whole(worker, broker):
    w = worker("--worker-batch", "7")
    ids = [f"e-{i:04}" for i in range(1000)]
    broker.publish(event("before"))
    broker.publish(weirlib.ndjson(event(i) for i in ids))
    broker.publish(event("after"))
    wait_stored(w, ["before", *ids, "after"])
    wait_settled(w, broker)


def test_messages_of_the_older_service_are_understood(worker, broker):
    w = worker()
    broker.publish({"pattern": "event_created", "data": event("old", {"n": 1})})
    broker.publish({"data": event("turned", {"n": 2}), "pattern": "event_created"})
    wait_stored(w, ["old", "turned"])
    assert {i: json.loads(p) for i, p in stored_rows(w)} == {"old": {"n": 1}, "turned": {"n": 2}}
    wait_settled(w, broker)


def test_the_same_event_in_one_envelope_and_in_another_has_one_effect(worker, broker):
    w = worker()
    for _ in range(3):
        broker.publish(weirlib.ndjson([event("a"), event("b"), event("a")]))
    broker.publish(event("b"))
    broker.publish(event("end"))
    wait_stored(w, ["a", "b", "end"])
    wait_settled(w, broker)


def test_the_time_of_acceptance_travels_with_the_message(worker, broker):
    w = worker()
    broker.publish(event("told"), headers={"x-weir-accepted": 1770000000123})
    before = time.time() * 1000
    broker.publish(event("untold"))
    wait_stored(w, ["told", "untold"])
    accepted = dict(stored_rows(w, "event_id, accepted_at"))
    assert accepted["told"] == 1770000000123
    assert before - 1000 < accepted["untold"] < time.time() * 1000 + 1000


FOREIGN = [
    b"hello",
    b"",
    b"\x00\xff\xfe binary \x00",
    b'{"event_id":"x"}',
    b'{"pattern":"event_deleted","data":' + json.dumps(event("x")).encode() + b"}",
    weirlib.ndjson([event("x")]) + b'{"event_id":7}\n' + weirlib.ndjson([event("y")]),
    json.dumps([event("x"), {}]).encode(),
    b"[" * 100000,
    json.dumps(event("x", {"large": "x" * 300000})).encode(),
    b"\x1f\x8b" + random.Random(1).randbytes(200000),
]


def test_what_is_not_understood_becomes_a_dead_letter_byte_for_byte(worker, broker):
    w = worker()
    broker.publish(event("before"))
    for i, body in enumerate(FOREIGN):
        broker.publish(body, message_id=f"m{i}", content_type="text/x-odd")
        broker.publish(event(f"between-{i}"))
    wait_stored(w, ["before", *(f"between-{i}" for i in range(len(FOREIGN)))])
    dead = {}
    while len(dead) < len(FOREIGN):
        properties, body = broker.wait_get()
        dead[properties.message_id] = (properties, body)
    for i, body in enumerate(FOREIGN):
        properties, got = dead[f"m{i}"]
        assert got == body
        assert properties.headers["x-weir-error"], "it says why"
        assert properties.headers["x-weir-first-failed"] > 1.7e12
        assert properties.content_type == "text/x-odd"
        assert properties.delivery_mode == 2
    assert broker.get() is None, "each is there once"
    assert "hello" not in w.log_text(), "payloads are not logged"
    wait_log(w, "amqp.foreign")
    wait_settled(w, broker)


def test_a_flood_of_foreign_messages_does_not_stop_the_others(worker, broker):
    w = worker("--amqp-prefetch", "10")
    ids = []
    for i in range(300):
        broker.publish(b"garbage %d" % i)
        if i % 10 == 0:
            ids.append(f"e-{i}")
            broker.publish(event(ids[-1]))
    wait_stored(w, ids)
    until(lambda: broker.ready(DEAD) == 300, what="all of them are dead letters")
    wait_settled(w, broker)
    assert {broker.get()[1] for _ in range(300)} == {b"garbage %d" % i for i in range(300)}


def test_a_dead_letter_has_its_reason_and_is_acked_once_it_is_there(weir, rabbit, postgres, broker):
    w = weir("--queue", rabbit.url, "--sink", postgres.url, "--dedup", "none", command="worker",
             listen=None)
    wait_linked(w)
    good = [event(f"e-{i}") for i in range(3)]
    bad = event("bad", {"text": "no \u0000 in PostgreSQL"})
    broker.publish(weirlib.ndjson([*good, bad]),
                   headers={"x-weir-accepted": 1770000000123, "x-weir-attempt": 2})
    properties, body = broker.wait_get()
    assert json.loads(body) == bad
    assert properties.message_id == "bad"
    assert properties.content_type == "application/json"
    assert properties.headers["x-weir-error"]
    assert properties.headers["x-weir-accepted"] == 1770000000123
    assert properties.headers["x-weir-attempt"] == 2
    assert properties.headers["x-weir-first-failed"] > 1.7e12
    until(lambda: {r[0] for r in postgres.query("select event_id from events")}
          == {"e-0", "e-1", "e-2"}, what="the others are stored")
    wait_settled(w, broker)
    assert broker.get() is None


@pytest.mark.slow
def test_a_message_larger_than_a_worker_holds_is_moved_without_being_held(worker, broker):
    w = worker()
    large = b"x" * (65 << 20)
    broker.publish(large)
    broker.publish(event("behind"))
    wait_stored(w, ["behind"])
    properties, body = broker.wait_get(deadline=60)
    assert body == large
    assert properties.headers["x-death"][0]["reason"] == "rejected"
    assert peak_rss(w) < 64 << 20
    wait_log(w, "amqp.foreign")
    wait_settled(w, broker)


def peak_rss(w):
    with open(f"/proc/{w.pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


# when a dead letter cannot be kept


def test_while_the_dead_letters_are_full_nothing_is_dropped(worker, broker, rabbit):
    w = worker()
    rabbit.ctl("set_policy", "-p", rabbit.name, "full", "^events.dlq$",
               '{"max-length":10,"overflow":"reject-publish"}', "--apply-to", "queues")
    for _ in range(30):  # until it is full: a quorum queue takes a few more than it should
        with contextlib.suppress(pika.exceptions.NackError):
            broker.publish(b"filler", queue=DEAD)
    broker.publish(b"garbage")
    wait_log(w, "amqp.dead_letter.refused")
    broker.wait_counts((0, 1))  # held, not acked
    broker.publish(event("behind"))
    bodies = []

    def drained():
        while (got := broker.get()) is not None:
            bodies.append(got[1])
        return b"garbage" in bodies
    until(drained, what="the dead letter comes once there is room")
    wait_stored(w, ["behind"])
    wait_settled(w, broker)
    drained()
    assert bodies.count(b"garbage") == 1


def test_dead_letters_without_a_queue_make_one(worker, broker):
    w = worker()
    broker.delete(DEAD)
    broker.publish(b"garbage")
    until(lambda: broker.ready(DEAD) == 1, 30, what="events.dlq is declared again and holds it")
    assert broker.get()[1] == b"garbage"
    broker.publish(event("a"))
    wait_stored(w, ["a"])
    wait_settled(w, broker)


def test_during_an_alarm_events_are_still_consumed_and_dead_letters_wait(worker, broker, rabbit):
    w = worker()
    ids = [f"e-{i}" for i in range(50)]
    broker.publish(event("first"))
    wait_stored(w, ["first"])
    broker.publish(weirlib.ndjson(event(i) for i in ids))
    rabbit.ctl("set_vm_memory_high_watermark", "0")
    try:
        wait_stored(w, ["first", *ids])
    finally:
        rabbit.calm()
    broker.publish(b"garbage")
    assert broker.wait_get()[1] == b"garbage"
    wait_settled(w, broker)


def test_foreign_messages_held_up_by_an_alarm_are_kept_once(worker, broker, rabbit, weir):
    w = worker()
    w.pause()
    for i in range(5):
        broker.publish(b"garbage %d" % i)
        broker.publish(event(f"e-{i}"))
    rabbit.ctl("set_vm_memory_high_watermark", "0")
    try:
        w.resume()
        wait_log(w, "amqp.dead_letter.refused", 2)
        assert broker_free_count(rabbit, DEAD) == 0
    finally:
        rabbit.calm()
    wait_stored(w, [f"e-{i}" for i in range(5)])
    wait_settled(w, broker)
    assert {broker.get()[1] for _ in range(5)} == {b"garbage %d" % i for i in range(5)}
    assert broker.get() is None


def broker_free_count(rabbit, queue):
    with contextlib.closing(rabbit.pika()) as connection:
        return connection.channel().queue_declare(queue, passive=True).method.message_count


# acks


def test_a_message_is_acked_only_after_its_commit(worker, broker, shim):
    disk = shim("-wal")
    w = worker(env=disk.env)
    disk.order("enospc")
    broker.publish(event("a"))
    wait_log(w, "worker.pause")
    broker.wait_counts((0, 1))  # taken, not acked
    w.kill()
    until(lambda: broker.ready() == 1, what="it is back in the queue")
    disk.clear()
    w.start()
    wait_stored(w, ["a"])
    wait_settled(w, broker)


def test_a_sink_that_fails_for_a_while_stores_everything_once(worker, broker, shim):
    disk = shim("-wal")
    w = worker(env=disk.env)
    ids = [f"e-{i}" for i in range(60)]
    for round_ in range(3):
        disk.order("enospc")
        for i in ids[round_ * 20:round_ * 20 + 10]:
            broker.publish(event(i))
        wait_log(w, "worker.pause", round_ + 1)
        disk.clear()
        wait_log(w, "worker.resume", round_ + 1)
        for i in ids[round_ * 20 + 10:round_ * 20 + 20]:
            broker.publish(event(i))
        wait_stored(w, ids[:round_ * 20 + 20])
    wait_settled(w, broker)


def test_a_link_is_kept_while_the_sink_is_away_for_longer_than_the_heartbeat(
        worker, broker, shim, rabbit, heartbeat):
    heartbeat(2)
    disk = shim("-wal")
    w = worker(env=disk.env)
    disk.order("enospc")
    broker.publish(event("a"))
    wait_log(w, "worker.pause")
    begin = time.monotonic()
    until(lambda: time.monotonic() - begin > 10, 15, what="five heartbeats pass")
    disk.clear()
    wait_stored(w, ["a"])
    assert count_log(w, "amqp.consumer.lost") == 0
    assert count_log(w, "amqp.consumer.linked") == 1
    wait_settled(w, broker)


@pytest.fixture
def heartbeat(rabbit):
    """heartbeat(s): what the server proposes to connections from now on."""
    def propose(seconds):
        rabbit.eval(f"application:set_env(rabbit, heartbeat, {seconds}).")
    yield propose
    rabbit.revive()
    propose(60)


# links that are lost


def publish_until(broker, stop, sent, rng):
    """Publishes singles and envelopes; `sent` holds what was confirmed, and more may be there."""
    serial = 0
    while not stop.is_set():
        n = rng.choice([1, 1, 5, 50])
        ids = [f"e-{serial + k}" for k in range(n)]
        body = weirlib.ndjson(event(i) for i in ids)
        with contextlib.suppress(pika.exceptions.AMQPError, OSError):
            broker.publish(body)
            sent.extend(ids)
            serial += n
        stop.wait(0.002)


@contextlib.contextmanager
def load(broker, seed):
    stop, sent = threading.Event(), []
    rng = random.Random(seed)
    thread = threading.Thread(target=publish_until, args=(broker, stop, sent, rng))
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def wait_more(sent, more, deadline=60):
    goal = len(sent) + more
    until(lambda: len(sent) >= goal, deadline, what=f"{more} more events are published")


def check_all(w, broker, sent):
    assert len(sent) > 100, "this proves nothing"
    until(lambda: set(stored(w)) >= set(sent), 60, what=f"{len(sent)} events are stored")
    assert len(stored(w)) == len(set(stored(w)))
    wait_settled(w, broker, 60)
    assert broker.ready(DEAD) == 0


def test_a_worker_killed_at_any_moment_stores_each_event_once(worker, broker):
    w = worker("--worker-batch", "64", "--amqp-prefetch", "20")
    rng = random.Random(11)
    with load(broker, 1) as sent:
        for _ in range(8):
            wait_more(sent, 100)
            time.sleep(rng.uniform(0, 0.1))  # the moment of the kill, not a wait for anything
            w.kill()
            w.start()
            wait_linked(w)
    check_all(w, broker, sent)


def test_a_broker_killed_and_restarted_under_load_loses_nothing(worker, broker, rabbit):
    w = worker()
    with load(broker, 2) as sent:
        for _ in range(2):
            wait_more(sent, 500)
            rabbit.kill()
            rabbit.start()
            wait_more(sent, 300)
    check_all(w, broker, sent)
    assert count_log(w, "worker.fatal") == 0


def test_connections_cut_by_the_broker_are_made_anew(worker, broker):
    w = worker()
    with load(broker, 3) as sent:
        for i in range(3):
            wait_more(sent, 300)
            broker.cut()
            wait_linked(w, i + 2)
    check_all(w, broker, sent)


def test_a_queue_deleted_under_the_consumer_is_declared_again(worker, broker):
    w = worker()
    broker.publish(event("before"))
    wait_stored(w, ["before"])
    broker.delete(INGEST)
    wait_log(w, "amqp.consumer.cancelled")
    wait_linked(w, 2)
    broker.publish(event("after"))
    wait_stored(w, ["before", "after"])
    wait_settled(w, broker)


def test_what_was_read_before_the_queue_was_deleted_is_still_stored(worker, broker, shim):
    disk = shim("-wal")
    w = worker("--worker-batch", "2", env=disk.env)
    disk.order("enospc")
    for i in range(20):
        broker.publish(event(f"e-{i}"))
    wait_log(w, "worker.pause")
    until(lambda: broker.ready() == 0, what="all of it is read ahead")
    broker.delete(INGEST)
    wait_log(w, "amqp.consumer.cancelled")
    disk.clear()
    wait_stored(w, [f"e-{i}" for i in range(20)])
    wait_linked(w, 2)
    broker.publish(event("after"))
    wait_stored(w, ["after", *(f"e-{i}" for i in range(20))])
    wait_settled(w, broker)


@pytest.mark.slow
def test_a_worker_stopped_past_the_heartbeat_finds_out_and_goes_on(worker, broker, heartbeat):
    heartbeat(2)
    w = worker("--worker-batch", "16")
    with load(broker, 4) as sent:
        wait_more(sent, 300)
        w.pause()
        ready = broker_free_count(broker.rabbit, INGEST)
        until(lambda: broker_free_count(broker.rabbit, INGEST) >= ready + 100, 60,
              what="what it held, and more, waits again")
        begin = time.monotonic()
        until(lambda: time.monotonic() - begin > 8, 12, what="the broker gives it up")
        w.resume()
        wait_linked(w, 2)
        wait_more(sent, 100)
    check_all(w, broker, sent)


# brokers that will not do


def test_a_queue_that_becomes_another_type_is_refused_and_tried_again_until_it_is_mended(
        worker, broker):
    w = worker()
    w.pause()
    broker.delete(INGEST)
    broker.usable().queue_declare(INGEST, durable=True)
    w.resume()
    wait_log(w, "amqp.consumer.refused")
    assert "delete_queue" in w.log_text(), "it says what mends it"
    broker.publish(event("in the wrong queue"))
    broker.delete(INGEST)
    wait_linked(w, 2, deadline=40)
    broker.publish(event("a"))
    wait_stored(w, ["a"])
    wait_settled(w, broker)


def test_a_worker_without_a_broker_waits_for_one_and_stops_at_once_when_told(weir, rabbit, broker):
    rabbit.kill()
    w = weir("--queue", rabbit.url, "--sink", "local", "--dedup", "local", command="worker",
             listen=None)
    wait_log(w, "amqp.consumer.away", 3)
    begin = time.monotonic()
    assert w.stop() == 0
    assert time.monotonic() - begin < 3
    w.start()
    rabbit.start()
    wait_linked(w)
    broker.publish(event("a"))
    wait_stored(w, ["a"])


def test_an_idle_worker_stops_within_a_second(worker):
    w = worker("--worker-threads", "3")
    wait_linked(w, 3)
    begin = time.monotonic()
    assert w.stop() == 0
    assert time.monotonic() - begin < 1
