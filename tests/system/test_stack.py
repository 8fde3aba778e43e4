"""The pipeline across processes: api and worker over a real RabbitMQ, Redis and PostgreSQL, seen by
independent clients (pika, redis-py, psycopg2)."""

import contextlib
import json
import re
import threading

import pika
import pytest
import requests

import servers
import weirlib
from weirlib import History, Load, event, until

SEED = (b'{"event_id":"evt_001","type":"GRIEVANCE","timestamp":"2026-02-03T12:30:00Z",'
        b'"payload":{"message":"Water issue"}}')
INGEST = "events.ingest"
DEAD = "events.dlq"


def settled(*workers):
    """Stops the workers; what they say at the end: {"processed": n, "duplicate": n, "dead": n}."""
    total = dict.fromkeys(weirlib.SETTLED, 0)
    for w in workers:
        assert w.stop() == 0
        (line,) = re.findall(r"event=stop .*", w.log_text())
        for word in total:
            total[word] += int(re.search(rf"\b{word}=(\d+)", line).group(1))
    return total


@contextlib.contextmanager
def channel_of(rabbit):
    with contextlib.closing(rabbit.pika()) as connection:
        yield connection.channel()


def publish(rabbit, *bodies, **properties):
    """As a foreign publisher does: confirmed, mandatory, persistent."""
    with channel_of(rabbit) as channel:
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish("", INGEST, body, mandatory=True, properties=pika.BasicProperties(
                delivery_mode=2, **properties))


def fetch(channel, queue, deadline=10):
    """The next message of a queue, acked: (properties, body)."""
    found = until(lambda: (m := channel.basic_get(queue, auto_ack=True))[0] and m, deadline,
                  what=f"a message in {queue}")
    return found[1], found[2]


def wait_declared(stack):
    def declared():
        with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):
            return stack.depths() == {INGEST: 0, DEAD: 0}
    until(declared, what="the queues are declared")


# the example


def test_the_seed_event_sent_twice_has_one_row_and_the_second_is_a_duplicate(stack):
    api, worker = stack.api(), stack.worker()
    for _ in range(2):
        answer = api.post(SEED)
        assert (answer.status_code, answer.text.strip()) == (
            202, '{"event_id":"evt_001","durability":"confirmed"}')
        stack.wait_rows(["evt_001"])
    until(lambda: stack.depths() == {INGEST: 0, DEAD: 0}, what="the queues are empty")
    assert settled(worker) == {"processed": 1, "duplicate": 1, "dead": 0}
    rows = stack.rows(columns="event_id, type, payload, timestamp = '2026-02-03T12:30:00Z', "
                              "stored_at >= accepted_at, now() - accepted_at < interval '1 min'")
    assert rows == [("evt_001", "GRIEVANCE", {"message": "Water issue"}, True, True, True)]
    assert stack.depths() == {INGEST: 0, DEAD: 0}


def test_one_id_with_two_payloads_keeps_the_first_and_says_that_they_differ(stack):
    api, worker = stack.api(), stack.worker()
    assert api.post(SEED).status_code == 202
    stack.wait_rows(["evt_001"])
    assert api.post(SEED.replace(b"Water", b"Power")).status_code == 202
    until(lambda: "conflict" in worker.log_text(), what="the worker's log names the conflict")
    assert settled(worker) == {"processed": 1, "duplicate": 1, "dead": 0}
    assert stack.rows(columns="payload") == [({"message": "Water issue"},)]


def test_a_batch_gets_one_answer_and_a_row_for_each_good_event(stack):
    api = stack.api()
    stack.worker()
    events = [event(f"b-{i}", {"n": i, "text": "zeile\u2028 ü"}) for i in range(1000)]
    events[3]["timestamp"] = "2026-02-30T00:00:00Z"
    told = api.post(events).json()
    assert (told["accepted"], told["durability"]) == (999, "confirmed")
    assert [(r["index"], r["event_id"]) for r in told["rejected"]] == [(3, "b-3")]
    stack.wait_rows(f"b-{i}" for i in range(1000) if i != 3)
    rows = dict(stack.rows(columns="event_id, payload"))
    assert rows == {e["event_id"]: e["payload"] for e in events if e["event_id"] != "b-3"}


@pytest.mark.sanitize
def test_two_apis_and_three_workers_store_each_id_once(stack, tmp_path):
    apis = [stack.api(), stack.api("--api-threads", "2")]
    workers = [stack.worker(), stack.worker("--worker-threads", "2"),
               stack.worker("--worker-batch", "7", "--amqp-prefetch", "3")]
    history = History(tmp_path / "history")
    with Load(apis, history, repeat=0.3) as load:
        until(lambda: len(history.answered) > 3000, 60, what="the load gets answers")
        load.end()
    assert not load.unexpected, load.unexpected[:3]
    assert set(load.codes) == {202} and set(load.durability) == {"confirmed"}
    stack.check(history)
    told = settled(*workers)
    assert told["processed"] == len(history.asked)
    assert told["duplicate"] > 0 and told["dead"] == 0


def test_copies_at_once_have_one_effect_without_redis_too(stack):
    apis = [stack.api(), stack.api()]
    workers = [stack.worker("--dedup", "none") for _ in range(3)]
    go = threading.Barrier(6)
    codes = []

    def post(w):
        go.wait()
        codes.extend(w.post([event(f"c-{k}") for k in range(20)]).status_code for _ in range(10))

    threads = [threading.Thread(target=post, args=(apis[n % 2],)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert codes == [202] * 60
    stack.wait_rows(f"c-{k}" for k in range(20))
    until(lambda: stack.depths() == {INGEST: 0, DEAD: 0}, what="the queues are empty")
    assert settled(*workers) == {"processed": 20, "duplicate": 1180, "dead": 0}
    assert len(stack.rows()) == 20


# looking back


def test_the_api_lists_what_the_workers_stored_newest_first_and_page_by_page(stack):
    api = stack.api()
    stack.worker()
    for n in range(30):
        assert api.post(event(f"e-{n:02}", {"n": n}, type="EVEN" if n % 2 == 0 else "ODD")
                        ).status_code == 202
        stack.wait_rows([f"e-{n:02}"])
    listed = [e["event_id"] for e in weirlib.walk(api, page=7)]
    assert listed == [f"e-{n:02}" for n in reversed(range(30))]
    odd = api.get("/events", params={"type": "ODD", "limit": 100}).json()["events"]
    assert [e["payload"]["n"] for e in odd] == list(range(29, 0, -2))
    assert api.get("/events/never-sent").status_code == 404


def test_an_event_reads_the_same_from_postgresql_as_from_the_local_store(stack, weir):
    local = weir()
    api = stack.api()
    stack.worker()
    assert [w.post(SEED).status_code for w in (local, api)] == [202, 202]
    ours = local.wait_state("evt_001", "processed")
    theirs = api.wait_state("evt_001", "processed")

    def form(value):
        """Names and words; not the times, and not where it was durable first."""
        if isinstance(value, dict):
            return {k: form(v) for k, v in value.items() if k != "durability"}
        if isinstance(value, list):
            return [form(v) for v in value]
        is_time = isinstance(value, str) and re.match(r"20\d\d-.*T", value)
        return "a time" if is_time else value
    assert form(theirs) == form(ours)
    assert form(api.get("/events").json()) == form(local.get("/events").json())
    assert weirlib.find_member(theirs, "timestamp") == "2026-02-03T12:30:00Z"


def test_an_event_that_waits_is_not_shown_as_processed(stack):
    api = stack.api()
    assert api.post(SEED).status_code == 202
    answer = api.get("/events/evt_001")
    assert answer.status_code == 404 or weirlib.find_state(answer.json()) == "queued"
    stack.worker()
    api.wait_state("evt_001", "processed")


def test_an_api_without_the_sink_says_that_it_cannot_look_back(rabbit, weir):
    api = weir("--queue", rabbit.url, "--sink", "log", command="api")
    assert api.post(SEED).status_code == 202
    answer = api.get("/events/evt_001")
    assert answer.status_code in (501, 503), answer.text
    assert "sink" in answer.json()["detail"]


# the older service's halves


def test_a_single_event_travels_as_plain_json_that_says_who_it_is(stack):
    api = stack.api()
    assert api.post(SEED).status_code == 202
    with channel_of(stack.rabbit) as channel:
        properties, body = fetch(channel, INGEST)
    assert json.loads(body) == json.loads(SEED)
    assert (properties.delivery_mode, properties.message_id, properties.content_type) == (
        2, "evt_001", "application/json")


def test_with_amqp_format_nest_the_older_worker_understands_the_new_api(stack):
    api = stack.api("--amqp-format", "nest")
    assert api.post([json.loads(SEED), event("evt_002")]).json()["accepted"] == 2
    with channel_of(stack.rabbit) as channel:
        bodies = [json.loads(fetch(channel, INGEST)[1]) for _ in range(2)]
    assert bodies == [{"pattern": "event_created", "data": json.loads(SEED)},
                      {"pattern": "event_created", "data": event("evt_002")}]


def test_the_new_worker_understands_the_older_api(stack):
    stack.worker()
    wait_declared(stack)
    wrapped = json.dumps({"pattern": "event_created", "data": json.loads(SEED)}).encode()
    backwards = json.dumps({"data": event("evt_002"), "pattern": "event_created"}).encode()
    publish(stack.rabbit, wrapped, backwards)
    publish(stack.rabbit, json.dumps(event("evt_003")).encode())
    publish(stack.rabbit, weirlib.ndjson(event(f"line-{n}") for n in range(5)),
            content_type="application/x-ndjson")
    stack.wait_rows(["evt_001", "evt_002", "evt_003", *(f"line-{n}" for n in range(5))])
    assert stack.rows("event_id = 'evt_001'", "type, payload") == [
        ("GRIEVANCE", {"message": "Water issue"})]


@pytest.mark.parametrize("body", [b"not json", b"[]", b"{}", b'{"pattern":"other","data":{}}', b"",
                                  b'\xff\xfe', SEED.replace(b"12:30", b"12:61")])
def test_a_message_that_is_no_event_goes_to_the_dead_letters_as_it_came(stack, body):
    stack.worker()
    wait_declared(stack)
    publish(stack.rabbit, body, SEED)
    stack.wait_rows(["evt_001"])
    with channel_of(stack.rabbit) as channel:
        _, dead = fetch(channel, DEAD)
    assert dead == body
    assert stack.depths() == {INGEST: 0, DEAD: 0}


def test_a_processed_id_is_a_key_in_redis_that_the_older_worker_understands(stack):
    api = stack.api()
    stack.worker("--dedup-ttl", "1h")
    assert api.post(SEED).status_code == 202
    redis = stack.redis.client()
    until(lambda: redis.exists("processed:evt_001"), what="the key is there")
    assert 3500 < redis.ttl("processed:evt_001") <= 3600
    probe = "processed:"  # of the start, for a moment: no event has the empty id
    assert set(redis.keys("*")) - {probe} == {"processed:evt_001"}


def test_an_id_that_the_older_worker_processed_is_a_duplicate(stack):
    api, worker = stack.api(), stack.worker()
    stack.redis.client().set("processed:evt_001", "1", ex=3600)
    assert api.post([json.loads(SEED), event("evt_002")]).status_code == 202
    stack.wait_rows(["evt_002"])
    until(lambda: stack.depths() == {INGEST: 0, DEAD: 0}, what="the queues are empty")
    assert settled(worker) == {"processed": 1, "duplicate": 1, "dead": 0}
    assert stack.rows() == [("evt_002",)]


# starting where something is wrong


def refused(command, flags):
    """Starts it; returns the one line with which it must end by itself, not 0."""
    listen = ["--listen", "127.0.0.1:0"] if command == "api" else []
    done = weirlib.run(command, *listen, *flags, timeout=30)
    assert done.returncode not in (0, None) and done.returncode > 0, done
    assert "s3cret" not in done.stderr, "never a password"
    lines = [line for line in done.stderr.splitlines() if "level=info" not in line]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize("command", ["api", "worker"])
@pytest.mark.parametrize("setting, url, said", [
    ("--queue", "amqp://guest:s3cret@127.0.0.1:{rabbit.port}/", "password|refused|access"),
    ("--queue", "amqp://guest:guest@127.0.0.1:{rabbit.port}/no-such-vhost", "no-such-vhost"),
    ("--queue", "amqp://guest:guest@127.0.0.1:port/", "queue|port|URL"),
    ("--queue", "amqq://guest:guest@127.0.0.1/", "queue"),
    ("--queue", "amqp://", "queue|host"),
    ("--sink", "postgresql://weir:s3cret@127.0.0.1:{postgres.port}/postgres", "password"),
    ("--sink", "postgresql://weir:weir@127.0.0.1:{postgres.port}/no_such_db", "no_such_db"),
    ("--sink", "postgresql://weir:weir@127.0.0.1:port/x", "sink|port"),
    ("--sink", "{postgres.server.url}", "weir migrate"),
    ("--dedup", "redis://127.0.0.1:port", "dedup|port"),
    ("--dedup", "memcached://127.0.0.1", "dedup"),
])
def test_a_wrong_address_ends_the_start_with_one_line(tmp_path, stack, command, setting, url, said):
    rabbit, redis, postgres = stack.rabbit, stack.redis, stack.postgres
    flags = {"--data": tmp_path / "d", "--queue": rabbit.url, "--sink": postgres.url,
             "--dedup": redis.url}
    flags[setting] = url.format(rabbit=rabbit, postgres=postgres)
    line = refused(command, [word for pair in flags.items() for word in pair])
    assert re.search(said, line), line


def test_a_wrong_redis_password_ends_the_start_with_one_line(stack, tmp_path):
    with contextlib.closing(servers.Redis("--requirepass", "right").start()) as guarded:
        common = ["--data", tmp_path / "d", "--queue", stack.rabbit.url, "--sink",
                  stack.postgres.url, "--dedup"]
        wrong = f"redis://:s3cret@127.0.0.1:{guarded.port}"
        assert re.search("password|Redis", refused("worker", [*common, wrong]))
        worker = stack.worker("--dedup", f"redis://:right@127.0.0.1:{guarded.port}")
        assert stack.api().post(SEED).status_code == 202
        stack.wait_rows(["evt_001"])
        until(lambda: guarded.client(password="right").exists("processed:evt_001"))
        assert worker.stop() == 0


def test_a_classic_queue_of_the_older_service_is_refused_with_the_way_out(stack, tmp_path):
    with channel_of(stack.rabbit) as channel:
        channel.queue_declare(INGEST, durable=True)
    for command in ("api", "worker"):
        line = refused(command, ["--data", tmp_path / "d", "--queue", stack.rabbit.url, "--sink",
                                 stack.postgres.url, "--dedup", stack.redis.url])
        assert INGEST in line and "amqp.queue_type" in line.replace("-", "."), line


def test_with_amqp_queue_type_classic_it_works_and_says_that_it_is_weaker(stack):
    with channel_of(stack.rabbit) as channel:
        channel.queue_declare(INGEST, durable=True)
    api = stack.api("--amqp-queue-type", "classic")
    stack.worker("--amqp-queue-type", "classic")
    assert api.post(SEED).status_code == 202
    stack.wait_rows(["evt_001"])
    ready = api.get("/readyz")
    assert ready.status_code == 200 and "classic" in ready.text


def test_half_of_it_alone_needs_a_queue_that_others_can_reach(tmp_path):
    for command in ("api", "worker"):
        assert "--queue amqp://" in refused(command, ["--data", tmp_path / "d"])


def test_passwords_are_in_no_log_and_no_answer(stack):
    password = stack.postgres.password
    api, worker = stack.api(), stack.worker()
    assert api.post(SEED).status_code == 202
    stack.wait_rows(["evt_001"])
    shown = [api.get(path).text for path in ("/stats", "/readyz", "/version")]
    shown += [w.log_text() + w.out_text() for w in (api, worker)]
    for text in shown:
        assert f":{password}@" not in text and ":guest@" not in text


# run with RabbitMQ: both halves in one process


def test_weir_run_over_the_three_servers_is_the_same(stack, weir):
    w = weir("--queue", stack.rabbit.url, "--dedup", stack.redis.url, "--sink", stack.postgres.url)
    assert w.post(SEED).json() == {"event_id": "evt_001", "durability": "confirmed"}
    w.wait_state("evt_001", "processed")
    assert w.post(SEED).status_code == 202
    until(lambda: w.count("duplicate") == 1, what="the second is a duplicate")
    assert len(stack.rows()) == 1


def test_the_api_stops_in_order_under_load(stack, tmp_path):
    api = stack.api()
    stack.worker()
    history = History(tmp_path / "history")
    with Load(api, history) as load:
        until(lambda: len(history.answered) > 500, 30, what="the load gets answers")
        assert api.stop() == 0
        load.end()
    assert not load.unexpected, load.unexpected[:3]
    stack.check(history)


def test_livez_and_readyz_are_200_while_all_is_well(stack):
    api = stack.api()
    until(lambda: api.get("/readyz").status_code == 200, what="ready")
    assert api.get("/livez").status_code == 200
    assert requests.get(api.url + "/readyz", timeout=5).json()["status"] == "ready"
