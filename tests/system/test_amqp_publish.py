"""The publishing side of RabbitMQ: `weir api` without a spool on a real server, with pika as the
consumer that knows nothing of weir. A 202 must be in the queue, whatever happened; what is not
sure is 503."""

import contextlib
import json
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

import servers
import weirlib
from weirlib import event, until

INGEST = "events.ingest"
CONFIG_ERROR = 78  # EX_CONFIG
FRAME_BODY = 131072 - 8
OTHER_QUEUE = ["amqp.queue_type", "rabbitmqctl delete_queue", INGEST]

pytestmark = pytest.mark.nobalance  # nothing is processed here


def messages(rabbit, queue=INGEST):
    """Takes every message: a list of (properties, body)."""
    taken = []
    with contextlib.closing(rabbit.pika()) as connection:
        channel = connection.channel()
        while True:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return taken
            taken.append((properties, body))


def ids_of(taken):
    return [json.loads(line)["event_id"] for _, body in taken for line in body.splitlines()]


@contextlib.contextmanager
def channel_of(rabbit):
    with contextlib.closing(rabbit.pika()) as connection:
        yield connection.channel()


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


def post(api, event_id, **kw):
    return api.post(event(event_id), **kw)


def until_accepted(api, prefix, deadline=30):
    """The id of the first event that is answered 202."""
    tries = iter(range(100000))

    def accepted():
        event_id = f"{prefix}-{next(tries)}"
        return event_id if post(api, event_id).status_code == 202 else None
    return until(accepted, deadline, what="an event is accepted again", every=0.05)


def assert_refused(answer):
    assert answer.status_code == 503, answer.text
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


def unready(api):
    """What /readyz says is the matter; None while it is ready."""
    answer = api.get("/readyz")
    return None if answer.status_code == 200 else answer.json()["detail"]


@pytest.fixture
def start(weir, rabbit):
    """start(*flags): an api on this test's vhost, without a spool."""
    def begin(*flags, url=None, **kw):
        return weir("--queue", url or rabbit.url, "--spool", "off", *flags, command="api", **kw)
    return begin


@pytest.fixture
def api(start):
    return start("--amqp-confirm-timeout", "2s")


def refused_start(url, *flags):
    """Standard error of an api that must not start."""
    done = weirlib.run("api", "--listen", "127.0.0.1:0", "--spool", "off", "--queue", url, *flags,
                       timeout=30)
    assert done.returncode == CONFIG_ERROR, (done.returncode, done.stderr)
    said = [line for line in done.stderr.splitlines() if line.startswith("weir: ")]
    assert len(said) == 1, done.stderr
    return said[0]


# what is sent


@pytest.mark.sanitize
def test_an_event_is_in_the_queue_before_its_202(api, rabbit):
    answer = post(api, "evt_001")
    assert answer.status_code == 202
    assert answer.json() == {"event_id": "evt_001", "durability": "confirmed"}
    [(properties, body)] = messages(rabbit)
    assert json.loads(body) == event("evt_001")
    assert properties.delivery_mode == 2
    assert properties.message_id == "evt_001"
    assert properties.content_type == "application/json"
    assert abs(properties.headers["x-weir-accepted"] / 1000 - time.time()) < 30


@pytest.mark.sanitize
def test_events_of_a_request_travel_in_envelopes(api, rabbit):
    sent = [event(f"e{n}") for n in range(1000)]
    assert api.post_ndjson(sent).json()["accepted"] == 1000
    taken = messages(rabbit)
    assert 1000 / 256 <= len(taken) < 50
    assert ids_of(taken) == [e["event_id"] for e in sent]
    assert {p.content_type for p, _ in taken} == {"application/x-ndjson"}
    assert max(len(body) for _, body in taken) <= 65536


def test_events_of_several_requests_share_an_envelope(start, rabbit):
    api = start()
    rabbit.pause()
    threads = [threading.Thread(target=post, args=(api, f"t{n}")) for n in range(30)]
    for t in threads:
        t.start()
    time.sleep(0.3)  # so that they have all arrived; were they late, the test would still be right
    rabbit.resume()
    for t in threads:
        t.join()
    taken = messages(rabbit)
    assert sorted(ids_of(taken)) == sorted(f"t{n}" for n in range(30))
    assert len(taken) < 30


def test_with_an_envelope_of_one_each_event_is_a_message(start, rabbit):
    assert start("--amqp-envelope", "1").post([event(f"e{n}") for n in range(700)]).ok
    taken = messages(rabbit)
    assert [p.message_id for p, _ in taken] == [f"e{n}" for n in range(700)]


def test_the_older_services_form_is_published_on_demand(start, rabbit):
    assert start("--amqp-format", "nest").post([event("n1"), event("n2")]).ok
    bodies = [json.loads(body) for _, body in messages(rabbit)]
    assert bodies == [{"pattern": "event_created", "data": event(i)} for i in ("n1", "n2")]


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_a_body_around_the_frame_size_is_sent_whole_and_at_once(start, rabbit, frames, off):
    """librabbitmq marks the last frame of an exact multiple as if more followed (amqp_link.c)."""
    api = start("--event-max-bytes", "1MiB")
    around = len(compact(event("b0", {"x": ""})))
    filler = "y" * (frames * FRAME_BODY + off - around)
    times = []
    for n in range(5):
        began = time.monotonic()
        assert api.post(compact(event(f"b{n}", {"x": filler}))).status_code == 202
        times.append(time.monotonic() - began)
    bodies = [body for _, body in messages(rabbit)]
    assert {len(body) for body in bodies} == {frames * FRAME_BODY + off}
    assert [json.loads(body)["payload"]["x"] for body in bodies] == [filler] * 5
    assert min(times) < 0.15, times  # the kernel may keep it back for 0.2 s


def test_an_event_larger_than_the_send_window_is_sent(start, rabbit):
    api = start("--event-max-bytes", "3MiB")
    assert api.post(event("big", {"x": "y" * (5 << 19)})).status_code == 202
    assert post(api, "small").status_code == 202
    assert ids_of(messages(rabbit)) == ["big", "small"]


def test_several_publishers_share_the_work(start, rabbit, tmp_path):
    api = start("--amqp-publishers", "3")
    until(lambda: api.log_text().count("event=amqp.connected") == 3, what="three connections")
    history = weirlib.History(tmp_path / "history")
    with weirlib.Load(api, history, threads=6):
        until(lambda: len(history.answered) > 2000, what="2000 events are answered")
    assert not set(history.answered) - set(ids_of(messages(rabbit)))


def test_the_depth_of_the_queue_is_shown(start, rabbit):
    api = start("--amqp-envelope", "1")
    assert api.post([event(f"e{n}") for n in range(40)]).ok
    until(lambda: api.depth() == 40, 15, what="/stats shows 40")


# RabbitMQ says no


def test_an_event_that_no_queue_takes_is_503_and_the_queue_comes_back(api, rabbit):
    assert post(api, "before").status_code == 202
    with channel_of(rabbit) as channel:
        channel.queue_delete(INGEST)
    assert_refused(post(api, "lost"))
    assert "event=amqp.returned" in api.log_text()
    accepted = until_accepted(api, "after")
    assert accepted in ids_of(messages(rabbit))


def test_what_a_full_queue_refuses_is_503_and_not_in_it(start, rabbit):
    api = start("--amqp-envelope", "1")
    policy = json.dumps({"max-length": 5, "overflow": "reject-publish"})
    rabbit.ctl("set_policy", "-p", rabbit.name, "limit", INGEST, policy, "--apply-to", "queues")
    answers = {}

    def is_full():
        event_id = f"m{len(answers)}"
        answers[event_id] = post(api, event_id)
        return answers[event_id].status_code == 503
    until(is_full, 20, what="the queue is full", every=0)
    for n in range(20):
        answers[f"x{n}"] = post(api, f"x{n}")
    taken = ids_of(messages(rabbit))
    assert sorted(taken) == sorted(i for i, a in answers.items() if a.status_code == 202)
    for answer in answers.values():
        if answer.status_code != 202:
            assert_refused(answer)
    assert "event=amqp.nack" in api.log_text()
    until_accepted(api, "again")


@pytest.mark.parametrize("alarm", ["memory", "disk"])
def test_an_alarm_is_503_at_once_and_ends_without_a_new_connection(start, rabbit, alarm):
    api = start("--amqp-confirm-timeout", "20s")
    assert post(api, "before").status_code == 202
    rabbit.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.0)." if alarm == "memory" else
                "rabbit_disk_monitor:set_disk_free_limit(1000000000000000).")
    until(lambda: post(api, "blocked").status_code == 503, 15, what="the alarm is noticed")
    began = time.monotonic()
    assert_refused(post(api, "blocked"))
    assert time.monotonic() - began < 2
    assert "alarm" in unready(api)
    rabbit.calm()
    until(lambda: unready(api) is None, 20, what="the alarm is over")
    assert post(api, "after").status_code == 202
    taken = ids_of(messages(rabbit))
    assert "before" in taken and "after" in taken
    assert api.log_text().count("event=amqp.connected") == 1


@pytest.mark.slow
def test_a_long_alarm_does_not_end_the_connection(start, rabbit):
    api = start()
    rabbit.eval("vm_memory_monitor:set_vm_memory_high_watermark(0.0).")
    until(lambda: post(api, "blocked").status_code == 503, 15, what="the alarm is noticed")
    time.sleep(25)  # more than two heartbeats: the time itself is what is tested
    rabbit.calm()
    until(lambda: unready(api) is None, 20, what="the alarm is over")
    assert post(api, "after").status_code == 202
    assert api.log_text().count("event=amqp.connected") == 1


# RabbitMQ is away


@pytest.mark.sanitize
def test_a_broker_killed_under_load_loses_no_answered_event(api, rabbit, tmp_path):
    history = weirlib.History(tmp_path / "history")
    with weirlib.Load(api, history, threads=6) as load:
        until(lambda: len(history.answered) > 500, 20, what="events are answered")
        rabbit.kill()
        until(lambda: unready(api), what="it is not ready")
        assert_refused(post(api, "away"))
        rabbit.start()
        count = len(history.answered)
        until(lambda: len(history.answered) > count + 500, 40, what="events are answered again")
    assert not load.unexpected
    lost = set(history.answered) - set(ids_of(messages(rabbit)))
    assert not lost, f"{len(lost)} of {len(history.answered)}"


def test_a_queue_made_a_moment_ago_survives_a_kill_with_what_it_confirmed(start, rabbit):
    """RabbitMQ 3.10 writes the name of a new quorum queue up to a second late (amqp_topology.c)."""
    began = time.monotonic()
    api = start()
    assert time.monotonic() - began > 1.5
    assert post(api, "first").status_code == 202
    rabbit.kill()
    rabbit.start()
    assert "first" in ids_of(messages(rabbit))
    until_accepted(api, "after")


def test_connections_cut_by_the_broker_lose_no_answered_event(api, rabbit, tmp_path):
    history = weirlib.History(tmp_path / "history")
    with weirlib.Load(api, history, threads=6):
        for n in range(5):
            count = len(history.answered)
            until(lambda: len(history.answered) > count + 200, 30, what="events are answered")
            rabbit.eval("[rabbit_networking:close_connection(P, <<\"test\">>) "
                        "|| P <- rabbit_networking:connections()].")
    assert api.log_text().count("event=amqp.connected") > 1
    assert not set(history.answered) - set(ids_of(messages(rabbit)))


def test_a_broker_that_hangs_is_503_after_the_confirm_timeout(api, rabbit):
    assert post(api, "before").status_code == 202
    rabbit.pause()
    began = time.monotonic()
    assert_refused(post(api, "hangs"))
    assert time.monotonic() - began < 5  # 2 s and a turn
    until(lambda: unready(api), 5, what="it is not ready")
    began = time.monotonic()
    assert_refused(post(api, "away"))
    assert time.monotonic() - began < 1
    rabbit.resume()
    until_accepted(api, "after")


def test_a_broker_that_hangs_while_a_large_event_is_written_is_503(start, rabbit):
    """Larger than every buffer between the two: the write itself blocks, and has no deadline."""
    api = start("--amqp-confirm-timeout", "2s", "--event-max-bytes", "16MiB", "--http-max-body",
                "32MiB", "--queue-mailbox-bytes", "64MiB", "--http-max-inflight", "64MiB")
    assert post(api, "before").status_code == 202
    rabbit.pause()
    began = time.monotonic()
    assert_refused(api.post(event("huge", {"x": "y" * (15 << 20)}), timeout=30))
    assert time.monotonic() - began < 8
    rabbit.resume()
    until_accepted(api, "after")


@pytest.mark.slow
def test_an_idle_publisher_whose_broker_hung_for_three_heartbeats_refuses_in_time(start, rabbit):
    api = start()
    assert post(api, "before").status_code == 202
    rabbit.pause()
    time.sleep(30)  # three heartbeats: the time itself is what is tested
    began = time.monotonic()
    assert_refused(post(api, "after"))
    assert time.monotonic() - began < 12
    rabbit.resume()
    until_accepted(api, "again")


def test_an_api_that_starts_before_its_broker_becomes_ready_by_itself(start, rabbit):
    rabbit.stop()
    api = start()
    assert "cannot be reached" in unready(api)
    assert_refused(post(api, "early"))
    rabbit.start()
    until(lambda: unready(api) is None, 30, what="it is ready")
    assert post(api, "late").status_code == 202


def test_the_second_of_two_hosts_is_tried(start, rabbit):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{nobody.getsockname()[1]}"
        api = start(url=rabbit.url.replace("@", f"@{dead},"))
        assert post(api, "evt").status_code == 202


def test_what_waits_for_its_confirm_is_answered_before_the_end(start, rabbit):
    api = start("--amqp-confirm-timeout", "10s")
    assert post(api, "before").status_code == 202
    rabbit.pause()
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(post(api, "waits")))
    waiting.start()
    time.sleep(0.3)  # so that it waits; were it late, it would be refused
    api.proc.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    rabbit.resume()
    waiting.join()
    assert api.wait() == 0
    accepted = [a for a in answers if a.status_code == 202]
    assert accepted, answers[0].text
    assert "waits" in ids_of(messages(rabbit))


# RabbitMQ will never do


def test_a_wrong_password_ends_the_start_with_one_line(rabbit):
    said = refused_start(rabbit.url_of(rabbit.name, password="wrong"))
    assert "403 ACCESS_REFUSED" in said and "wrong" not in said


def test_a_vhost_that_is_not_there_ends_the_start_with_one_line(rabbit):
    assert "vhost" in refused_start(rabbit.url_of("nowhere"))


def test_a_queue_of_another_type_ends_the_start_and_says_what_mends_it(rabbit):
    with channel_of(rabbit) as channel:
        channel.queue_declare(INGEST, durable=True)
    said = refused_start(rabbit.url)
    assert all(word in said for word in OTHER_QUEUE), said


def test_an_older_services_queue_is_used_on_demand_and_called_weaker(start, rabbit):
    with channel_of(rabbit) as channel:
        channel.queue_declare(INGEST, durable=True)
    api = start("--amqp-queue-type", "classic")
    assert "classic" in api.get("/readyz").json()["note"]
    assert post(api, "evt").status_code == 202
    assert ids_of(messages(rabbit)) == ["evt"]


def test_a_classic_queue_is_made_on_demand_with_dead_letters(start, rabbit):
    assert post(start("--amqp-queue-type", "classic"), "evt").status_code == 202
    with channel_of(rabbit) as channel:
        method, _, _ = channel.basic_get(INGEST)
        channel.basic_reject(method.delivery_tag, requeue=False)
    until(lambda: messages(rabbit, "events.dlq"), what="it is dead")


def test_a_queue_that_would_not_survive_a_restart_is_refused_in_every_mode(rabbit):
    with channel_of(rabbit) as channel:
        channel.queue_declare(INGEST, durable=False)
        assert "durable" in refused_start(rabbit.url)
        assert "durable" in refused_start(rabbit.url, "--amqp-queue-type", "classic")


def test_a_queue_replaced_while_it_runs_is_503_and_said_to_people(api, rabbit):
    assert post(api, "before").status_code == 202
    with channel_of(rabbit) as channel:
        channel.queue_delete(INGEST)
        channel.queue_declare(INGEST, durable=True)
    assert post(api, "routed").status_code in (202, 503)  # it may still be confirmed there
    rabbit.eval("[rabbit_networking:close_connection(P, <<\"test\">>) "
                "|| P <- rabbit_networking:connections()].")
    until(lambda: "refuses" in (unready(api) or ""), 15, what="it says so")
    assert re.search(r"event=amqp\.refused .*delete_queue", api.log_text())
    assert_refused(post(api, "after"))
    with channel_of(rabbit) as channel:
        channel.queue_delete(INGEST)
    until_accepted(api, "mended")


def test_the_topology_keeps_what_is_rejected(api, rabbit):
    assert post(api, "evt").status_code == 202
    with channel_of(rabbit) as channel:
        method, _, _ = channel.basic_get(INGEST)
        channel.basic_reject(method.delivery_tag, requeue=False)
    until(lambda: ids_of(messages(rabbit, "events.dlq")) == ["evt"], what="it is dead")


# TLS


def make_certificates(folder):
    """An authority, and a certificate for localhost signed by it."""
    def openssl(*argv):
        subprocess.run(["openssl", *argv], cwd=folder, check=True, capture_output=True)
    new = ["req", "-newkey", "rsa:2048", "-nodes", "-sha256"]
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=weir test", "-keyout", "ca.key", "-out",
            "ca.pem")
    openssl(*new, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "server.pem")
    for name in ("ca.pem", "server.pem", "server.key"):
        (folder / name).chmod(0o644)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A broker that also listens with TLS: (server, port, the authority's file)."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    [port] = servers.free_ports(1)
    settings = [f"listeners.ssl.1 = 127.0.0.1:{port}", "ssl_options.verify = verify_none",
                "ssl_options.fail_if_no_peer_cert = false",
                f"ssl_options.cacertfile = {folder}/ca.pem",
                f"ssl_options.certfile = {folder}/server.pem",
                f"ssl_options.keyfile = {folder}/server.key"]
    with contextlib.closing(servers.Rabbit(settings=settings).start()) as server:
        yield server, port, folder / "ca.pem"


def test_tls_with_a_trusted_certificate(weir, tls):
    server, port, authority = tls
    api = weir("--queue", f"amqps://guest:guest@localhost:{port}/?cacertfile={authority}",
               "--spool", "off", command="api")
    ids = {f"t{n}" for n in range(3000)}
    assert api.post_ndjson([event(i) for i in ids]).status_code == 202
    assert ids <= set(ids_of(messages(server)))


def test_tls_with_a_stranger_is_refused(tls):
    _, port, authority = tls
    assert "certificate" in refused_start(f"amqps://guest:guest@localhost:{port}/")
    named = refused_start(f"amqps://guest:guest@127.0.0.1:{port}/?cacertfile={authority}")
    assert "another host name" in named
    assert "certificate" not in (unverified(port) or "")


def unverified(port):
    """What a start says with verify=verify_none and a wrong password: that it got so far."""
    return refused_start(f"amqps://guest:wrong@127.0.0.1:{port}/?verify=verify_none")


def test_tls_spoken_to_a_port_without_it_is_refused(rabbit):
    assert "TLS" in refused_start(f"amqps://guest:guest@127.0.0.1:{rabbit.port}/")
