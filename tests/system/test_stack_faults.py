"""What the pipeline keeps when one of its parts dies, hangs, forgets or fills up under load.

After each fault the same verdict (weirlib.Stack.check): every 202 has exactly one row, no id has
two, no row is one that nobody sent, events.ingest and events.dlq are empty. WEIR_TEST_SEED: the
seed that a failed test printed."""

import contextlib
import os
import random
import signal
import threading
import time

import pytest

from weirlib import History, Load, event, until

pytestmark = pytest.mark.slow

INGEST = "events.ingest"
DEAD = "events.dlq"


class Scene:
    """A load on a stack, with a memory."""

    def __init__(self, stack, tmp_path):
        self.stack = stack
        self.seed = os.environ.get("WEIR_TEST_SEED") or random.randrange(1 << 32)
        print(f"WEIR_TEST_SEED={self.seed}")
        self.rng = random.Random(self.seed)
        self.history = History(tmp_path / "history")
        self.load = None
        self.loads = 0

    @contextlib.contextmanager
    def under_load(self, instances, **kw):
        """Answers come before the body runs and after it, and the load saw 202 and 503 only."""
        self.loads += 1
        kw = {"seed": self.seed, "repeat": 0.05, "pace": 0.01, "name": f"load{self.loads}", **kw}
        with Load(instances, self.history, **kw) as self.load:
            self.wait_answers(300)
            yield self.load
            self.wait_answers(300)
            self.load.end()
        print(dict(self.load.codes), dict(self.load.durability),
              f"slowest answer {self.load.slowest:.2f} s")
        assert not self.load.unexpected, self.load.unexpected[:3]
        assert set(self.load.durability) <= {"confirmed", "spooled"}

    def wait_answers(self, more, deadline=60):
        """Waits until that many more events were answered 202."""
        goal = len(self.history.answered) + more
        until(lambda: len(self.history.answered) >= goal, deadline,
              what=f"{more} more events are answered 202; so far {dict(self.load.codes)}")

    def wait_answer_of(self, durability, deadline=30):
        """Waits for a 202 with that word among those from now on."""
        before = self.load.durability[durability]
        until(lambda: self.load.durability[durability] > before, deadline,
              what=f"a 202 that is {durability}; so far {dict(self.load.codes)}")

    def wait_code(self, code, deadline=30):
        before = self.load.codes[code]
        until(lambda: self.load.codes[code] > before + 3, deadline,
              what=f"answers {code}; so far {dict(self.load.codes)}")

    def check(self, deadline=90):
        self.stack.check(self.history, deadline)


@pytest.fixture
def scene(stack, tmp_path):
    return Scene(stack, tmp_path)


def spool_depth(api):
    return api.stats()["spool"]["depth"]


def wait_spool_empty(api, deadline=60):
    until(lambda: spool_depth(api) == 0, deadline, what="the spool drained by itself")


# RabbitMQ


def test_broker_killed_and_started_again_loses_and_repeats_nothing(stack, scene):
    api = stack.api()
    stack.worker(), stack.worker()
    with scene.under_load(api):
        for _ in range(2):
            stack.rabbit.kill()
            scene.wait_answer_of("spooled")
            stack.rabbit.start()
            scene.wait_answer_of("confirmed", 60)
    wait_spool_empty(api)
    scene.check()


def test_broker_away_for_twenty_seconds_fills_the_spool_and_it_drains_by_itself(stack, scene):
    api = stack.api()
    stack.worker()
    with scene.under_load(api):
        stack.rabbit.stop()
        began = time.monotonic()
        scene.wait_answer_of("spooled")
        until(lambda: time.monotonic() - began > 20, 25, what="twenty seconds")
        stats = api.stats()["spool"]
        assert stats["depth"] > 0 and stats["bytes"] > 0 and stats["oldest_age_ms"] > 10000, stats
        stack.rabbit.start()
        scene.wait_answer_of("confirmed", 60)
    wait_spool_empty(api)
    assert scene.load.codes["no answer"] == 0, "every request was answered"
    scene.check()


def test_the_spool_survives_a_kill_of_the_api_while_the_broker_is_away(stack, scene):
    api = stack.api()
    stack.worker()
    with scene.under_load(api):
        stack.rabbit.kill()
        for _ in range(3):
            scene.wait_answer_of("spooled")
            api.kill()
            api.start()
        scene.wait_answer_of("spooled")
        stack.rabbit.start()
        scene.wait_answer_of("confirmed", 60)
    wait_spool_empty(api)
    scene.check()


def test_without_a_spool_a_broker_that_is_away_is_503_with_a_time(stack, scene):
    api = stack.api("--spool", "off")
    stack.worker()
    with scene.under_load(api) as load:
        stack.rabbit.kill()
        scene.wait_code(503)
        before = load.codes[202]
        scene.wait_code(503)
        assert load.codes[202] == before, "never 202 while nothing can be durable"
        answer = api.post(event("refused"))
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
        assert api.get("/readyz").status_code == 503
        stack.rabbit.start()
        scene.wait_answer_of("confirmed", 60)
        until(lambda: api.get("/readyz").status_code == 200, what="ready again")
    assert load.durability["spooled"] == 0
    assert stack.rows("event_id = 'refused'") == []
    scene.check()


def test_broker_killed_at_random_moments_without_a_spool(stack, scene):
    apis = [stack.api("--spool", "off"), stack.api("--spool", "off", "--amqp-publishers", "2")]
    stack.worker(), stack.worker("--amqp-prefetch", "5")
    with scene.under_load(apis):
        for _ in range(3):
            scene.wait_answers(scene.rng.randrange(50, 1500))
            stack.rabbit.kill()
            stack.rabbit.start()
    scene.check()


def test_a_memory_alarm_is_spooled_and_afterwards_confirmed_again(stack, scene):
    api = stack.api("--spool-after", "500ms")
    stack.worker()
    with scene.under_load(api) as load:
        stack.rabbit.ctl("set_vm_memory_high_watermark", "0")
        scene.wait_answer_of("spooled")
        began = time.monotonic()
        before = load.durability["confirmed"]
        until(lambda: time.monotonic() - began > 5, 10, what="five seconds of alarm")
        assert load.durability["confirmed"] - before < 20, "what the broker took is a rest"
        stack.rabbit.calm()
        scene.wait_answer_of("confirmed")
    wait_spool_empty(api)
    assert load.slowest < 5, "and no client waited long"
    scene.check()


def test_a_memory_alarm_without_a_spool_is_503(stack, scene):
    api = stack.api("--spool", "off", "--amqp-confirm-timeout", "2s")
    stack.worker()
    with scene.under_load(api) as load:
        stack.rabbit.ctl("set_vm_memory_high_watermark", "0")
        scene.wait_code(503)
        until(lambda: api.get("/readyz").status_code == 503, what="not ready, and it says so")
        stack.rabbit.calm()
        scene.wait_answer_of("confirmed", 60)
        until(lambda: api.get("/readyz").status_code == 200, what="ready again")
    assert load.durability["spooled"] == 0
    scene.check()


def test_a_broker_that_hangs_is_spooled_around(stack, scene):
    api = stack.api("--spool-after", "500ms", "--amqp-confirm-timeout", "2s")
    stack.worker()
    with scene.under_load(api) as load:
        stack.rabbit.pause()
        scene.wait_answer_of("spooled")
        scene.wait_answers(500)
        stack.rabbit.resume()
        scene.wait_answer_of("confirmed", 60)
    wait_spool_empty(api)
    assert load.slowest < 14, "the watchdog let nobody wait for ever"
    scene.check()


def test_a_queue_deleted_under_the_consumer_comes_back(stack, scene):
    api = stack.api()
    stack.worker(), stack.worker()
    for round in range(2):
        with scene.under_load(api):
            pass
        stack.wait_rows(scene.history.answered)  # nothing is in the queue that a user deletes
        with contextlib.closing(stack.rabbit.pika()) as connection:
            connection.channel().queue_delete(INGEST)
    with scene.under_load(api):
        scene.wait_answer_of("confirmed")
    wait_spool_empty(api)
    scene.check()


def test_an_event_that_no_queue_takes_is_not_promised(stack):
    api = stack.api("--spool", "off")
    assert api.post(event("before")).status_code == 202
    with contextlib.closing(stack.rabbit.pika()) as connection:
        connection.channel().queue_delete(INGEST)
    codes = []

    def accepted():
        codes.append(api.post(event(f"after-{len(codes)}")).status_code)
        return codes[-1] == 202
    until(accepted, 20, what="it makes the queue again")
    assert set(codes) <= {202, 503}
    until(lambda: stack.depths((INGEST,)) == {INGEST: 1}, what="and the one that got 202 is in it")


def test_a_full_queue_is_refused_by_the_broker_and_not_promised(stack, scene):
    api = stack.api("--spool", "off")
    stack.rabbit.ctl("set_policy", "-p", stack.rabbit.name, "cap", INGEST, '{"max-length":20}',
                     "--apply-to", "queues")
    codes = [api.post(event(f"e-{n}")).status_code for n in range(60)]
    assert codes[0] == 202 and codes[-1] == 503 and set(codes) == {202, 503}
    worker = stack.worker()
    stack.wait_rows(f"e-{n}" for n, code in enumerate(codes) if code == 202)
    rows = {row[0] for row in stack.rows()}
    assert len(rows) <= 25, "what was refused is not stored: the queue takes no more than its cap"
    until(lambda: api.post(event("later")).status_code == 202, 20, what="there is room again")
    stack.wait_rows(["later"])
    assert worker.stop() == 0


def test_a_full_queue_is_spooled_around(stack, scene):
    api = stack.api()
    stack.rabbit.ctl("set_policy", "-p", stack.rabbit.name, "cap", INGEST, '{"max-length":20}',
                     "--apply-to", "queues")
    with scene.under_load(api):
        scene.wait_answer_of("spooled")
        stack.worker()
        stack.rabbit.ctl("clear_policy", "-p", stack.rabbit.name, "cap")
        scene.wait_answer_of("confirmed", 60)
    wait_spool_empty(api)
    scene.check()


def test_parts_that_start_before_the_broker_find_it_later(stack, scene):
    stack.rabbit.kill()
    api = stack.api()
    worker = stack.worker()
    with scene.under_load(api) as load:
        assert load.durability["confirmed"] == 0
        stack.rabbit.start()
        scene.wait_answer_of("confirmed", 60)
    wait_spool_empty(api)
    tries = len([line for line in worker.log_text().splitlines() if "level=warn" in line])
    assert tries < 60, "it waits between its tries"
    scene.check()


# Redis


def test_redis_killed_paused_and_flushed_changes_nothing_but_speed(stack, scene):
    api = stack.api()
    stack.worker(), stack.worker()
    with scene.under_load(api, repeat=0.3):
        stack.redis.kill()
        scene.wait_answers(1000)
        stack.redis.start()
        scene.wait_answers(500)
        stack.redis.pause()
        scene.wait_answers(1000)
        stack.wait_rows(list(scene.history.answered)[:500])
        stack.redis.resume()
        for _ in range(20):
            stack.redis.client().flushall()
            scene.wait_answers(50)
        until(lambda: stack.redis.client().dbsize() > 0, what="Redis is used again")
    scene.check()


def test_a_full_redis_changes_nothing(stack, scene):
    stack.redis.client().config_set("maxmemory", "1mb")
    api = stack.api()
    stack.worker()
    with scene.under_load(api, repeat=0.3):
        scene.wait_answers(1000)
    scene.check()


def sleep(client, seconds):
    """Redis answers, but late: after a tenth of a second each time."""
    for _ in range(seconds * 10):
        client.execute_command("DEBUG", "SLEEP", "0.1")


def test_a_redis_that_answers_slowly_does_not_hold_the_worker(stack, scene):
    api = stack.api()
    stack.worker()
    with scene.under_load(api):
        asleep = threading.Thread(target=sleep, args=(stack.redis.client(), 8))
        asleep.start()
        scene.wait_answers(200)
        stack.wait_rows(list(scene.history.answered), 6)
        assert asleep.is_alive(), "they were stored while Redis slept"
        asleep.join()
    scene.check()


# PostgreSQL


@contextlib.contextmanager
def locked(stack):
    """While the body runs, workers wait in the middle of their write."""
    with contextlib.closing(stack.postgres.connect(autocommit=False)) as db:
        db.cursor().execute("LOCK TABLE events, event_ids IN ACCESS EXCLUSIVE MODE")
        yield
        db.rollback()


def wait_in_write(stack):
    """Returns the pid of the backend that waits for a worker's write."""
    return until(lambda: stack.postgres.query(
        "select pid from pg_stat_activity where datname = current_database() and "
        "wait_event_type = 'Lock'"), what="a worker waits in its write")[0][0]


def test_postgresql_killed_and_started_again_loses_and_repeats_nothing(stack, scene):
    api = stack.api()
    stack.worker(), stack.worker("--worker-threads", "2")
    with scene.under_load(api):
        for _ in range(4):
            scene.wait_answers(scene.rng.randrange(100, 1000))
            stack.postgres.kill()
            scene.wait_answers(200)
            stack.postgres.start()
            stack.wait_rows(list(scene.history.answered)[-20:], 60)
    scene.check()


def test_one_backend_killed_takes_all_down_and_nothing_is_lost(stack, scene):
    api = stack.api()
    stack.worker(), stack.worker()
    with scene.under_load(api):
        for _ in range(4):
            (pid,), *_ = until(lambda: stack.postgres.query(
                "select pid from pg_stat_activity where datname = current_database() and "
                "pid <> pg_backend_pid() and query ilike '%insert%'"), what="a worker's backend")
            os.kill(pid, signal.SIGKILL)
            scene.wait_answers(300)
            stack.postgres.wait()
            stack.wait_rows(list(scene.history.answered)[-20:], 60)
    scene.check()


def test_a_connection_that_an_administrator_ends_is_made_anew(stack, scene):
    api = stack.api()
    stack.worker()
    with scene.under_load(api):
        for _ in range(20):
            stack.postgres.query(
                "select pg_terminate_backend(pid) from pg_stat_activity where pid <> "
                "pg_backend_pid() and datname = current_database()")
            scene.wait_answers(50)
    scene.check()


def test_a_locked_table_is_waited_for(stack, scene):
    api = stack.api()
    stack.worker(), stack.worker()
    with scene.under_load(api):
        with locked(stack):
            began = time.monotonic()
            until(lambda: time.monotonic() - began > 5, 10, what="five seconds")
    scene.check()


def test_a_lock_longer_than_sink_timeout_is_an_error_that_is_tried_again(stack, scene):
    api = stack.api()
    worker = stack.worker("--sink-timeout", "500ms")
    with scene.under_load(api):
        with locked(stack):
            until(lambda: "worker.pause" in worker.log_text(), what="the worker says so")
            scene.wait_answers(300)
    scene.check()


def test_postgresql_paused_is_waited_for_and_the_api_answers_on(stack, scene):
    api = stack.api()
    stack.worker("--sink-timeout", "2s")
    with scene.under_load(api):
        backends = [row[0] for row in stack.postgres.query(
            "select pid from pg_stat_activity where datname = current_database() and "
            "pid <> pg_backend_pid()")]
        for pid in backends:
            os.kill(pid, signal.SIGSTOP)
        scene.wait_answers(1000)
        assert api.get("/livez").status_code == 200
        for pid in backends:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    scene.check()


# between two steps of deliver()


def test_a_worker_killed_in_its_write_leaves_the_batch_to_another(stack, scene):
    api, killed = stack.api(), stack.worker()
    events = [event(f"w-{n}") for n in range(50)]
    scene.history.ask(events)
    with locked(stack):
        assert api.post(events).status_code == 202
        scene.history.ok([e["event_id"] for e in events])
        backend = wait_in_write(stack)
        killed.kill()
        stack.postgres.query("select pg_terminate_backend(%s)", backend)  # it would go on alone
        other = stack.worker(wait=False)
    other.wait_until_up()
    scene.check()
    assert len(stack.rows()) == 50


def test_a_batch_that_was_stored_and_whose_ack_is_lost_is_a_duplicate(stack, scene):
    api, worker = stack.api(), stack.worker()
    events = [event(f"w-{n}") for n in range(50)]
    scene.history.ask(events)
    with locked(stack):
        assert api.post(events).status_code == 202
        scene.history.ok([e["event_id"] for e in events])
        wait_in_write(stack)
        stack.rabbit.pause()  # it will not read the ack
    stack.wait_rows(scene.history.answered)
    marks = [f"processed:{i}" for i in scene.history.answered]
    until(lambda: stack.redis.client().exists(*marks) == 50, what="and the ids are marked")
    stack.rabbit.kill()
    stack.redis.client().flushall()  # the unique key decides alone
    stack.rabbit.start()
    until(lambda: "worker.resume" in worker.log_text(), 60, what="it was given again")
    scene.check()
    assert "processed=50 duplicate=50 dead=0" in worker.log_text()


# our own parts


def test_a_worker_killed_again_and_again_repeats_work_and_no_effect(stack, scene):
    api = stack.api()
    workers = [stack.worker("--worker-batch", "50"), stack.worker()]
    with scene.under_load(api):
        for n in range(15):
            scene.wait_answers(scene.rng.randrange(20, 400))
            workers[n % 2].kill()
            workers[n % 2].start()
    scene.check()


def test_an_api_killed_again_and_again_keeps_what_it_answered(stack, scene):
    apis = [stack.api(), stack.api()]
    stack.worker()
    with scene.under_load(apis):
        for n in range(10):
            scene.wait_answers(scene.rng.randrange(20, 400))
            apis[n % 2].kill()
            apis[n % 2].start()
    for api in apis:
        wait_spool_empty(api)
    scene.check()


def test_a_worker_stopped_past_its_heartbeat_gives_its_batch_to_another(stack, scene):
    stack.rabbit.set_heartbeat(4)  # ours is longer: a worker may be busy with its sink
    api = stack.api()
    asleep, awake = stack.worker(), stack.worker()
    with scene.under_load(api):
        asleep.pause()
        until(lambda: "missed heartbeats" in stack.rabbit.log.read_text(errors="replace"), 30,
              what="the broker gives the sleeper up")
        scene.wait_answers(500)
        stack.wait_rows(list(scene.history.answered), 30)
        asleep.resume()
        scene.wait_answers(1000)
    until(lambda: "worker.lost" in asleep.log_text() or "level=warn" in asleep.log_text(),
          what="the sleeper says that it lost its connection")
    assert awake.running() and asleep.running()
    scene.check()


# two at once


@pytest.mark.parametrize("pair", ["broker+worker", "broker+api", "postgres+broker",
                                  "postgres+redis", "worker+redis"])
def test_two_parts_killed_at_once(stack, scene, pair):
    api, worker = stack.api(), stack.worker()
    stack.worker()
    parts = {"broker": stack.rabbit, "postgres": stack.postgres, "redis": stack.redis,
             "api": api, "worker": worker}
    with scene.under_load(api):
        scene.wait_answers(scene.rng.randrange(100, 800))
        victims = [parts[name] for name in pair.split("+")]
        for part in victims:
            part.kill()
        for part in reversed(victims):
            part.start()
    wait_spool_empty(api)
    scene.check()


# the verdict itself


def test_the_verdict_sees_a_lost_and_a_doubled_event(stack, scene):
    api = stack.api()
    stack.worker()
    events = [event(f"e-{n}") for n in range(5)]
    scene.history.ask([*events, event("never-sent")])
    assert api.post(events).status_code == 202
    scene.history.ok([e["event_id"] for e in events])
    stack.wait_rows(scene.history.answered)
    scene.history.ok(["never-sent"])
    with pytest.raises(AssertionError, match="1 of 6 answered events have no row"):
        stack.check(scene.history, deadline=1)
    del scene.history.answered["never-sent"]
    stack.postgres.query("insert into events select * from events where event_id = 'e-3'")
    with pytest.raises(AssertionError, match="1 ids have two rows"):
        stack.check(scene.history)
