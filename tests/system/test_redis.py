"""Redis saves work and never decides: flushed, killed, paused, full, results stay the same. Only a
sink without a unique key leans on it, and then waits for it."""

import collections
import json
import threading
import time

import pytest

import weirlib
from test_crash import check_everything, kill_many_times
from weirlib import History, Load, event, until


def flush(redis):
    redis.client().flushall()
    time.sleep(0.01)


def kill(redis):
    time.sleep(0.2)
    redis.kill()
    time.sleep(0.2)
    redis.start()


def pause(redis):
    time.sleep(0.2)
    redis.pause()
    time.sleep(0.4)
    redis.resume()


def fill(redis):
    client = redis.client()
    client.config_set("maxmemory", 1)
    time.sleep(0.2)
    client.config_set("maxmemory", 0)
    time.sleep(0.2)


TROUBLES = [flush, kill, pause, fill]


def load_through(trouble, w, redis, history, seconds=2.5, **load):
    with Load(w, history, repeat=0.3, **load) as running:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            trouble(redis)
        answered = len(history.answered)
        until(lambda: len(history.answered) > answered + 10, what="the load goes on")
        running.end()
        assert not running.unexpected, running.unexpected[:3]
    redis.revive()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_redis_in_trouble_changes_nothing_in_the_local_store(weir, redis, tmp_path, trouble):
    w = weir("--dedup", redis.url)
    history = History(tmp_path / "history")
    load_through(trouble, w, redis, history)
    check_everything(w, history)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_redis_in_trouble_changes_nothing_in_postgresql(weir, redis, postgres, tmp_path, trouble):
    w = weir("--dedup", redis.url, "--sink", postgres.url)
    history = History(tmp_path / "history")
    load_through(trouble, w, redis, history)
    w.wait_drained()
    rows = collections.Counter(row[0] for row in postgres.query("select event_id from events"))
    assert set(history.answered) <= set(rows) <= set(history.asked)
    assert set(rows.values()) == {1}


@pytest.mark.slow
def test_kills_of_the_process_lose_nothing_with_redis(weir, redis, tmp_path):
    """A note in Redis before the commit would turn an event into a duplicate of nothing."""
    kill_many_times(weir("--dedup", redis.url), tmp_path, 8, repeat=0.3)


def test_what_postgresql_has_is_noted_with_its_time_to_live(weir, redis, postgres):
    w = weir("--dedup", redis.url, "--sink", postgres.url, "--dedup-ttl", "1h")
    assert w.post(event("evt_1")).status_code == 202
    until(lambda: redis.client().exists("processed:evt_1"), what="the id is noted")
    assert 3500 < redis.client().ttl("processed:evt_1") <= 3600
    assert w.post(event("evt_1")).status_code == 202
    until(lambda: w.count("duplicate") == 1, what="the second one is a duplicate")
    assert postgres.query("select count(*) from events")[0][0] == 1


def test_what_the_older_service_noted_is_a_duplicate(weir, redis):
    redis.client().set("processed:evt_old", "1")
    w = weir("--dedup", redis.url)
    assert w.post([event("evt_old"), event("evt_new")]).status_code == 202
    until(lambda: w.count("duplicate") == 1 and w.count("processed") == 1, what="both are settled")
    assert w.count("conflict") == 0
    assert w.show("evt_new") is not None


def test_a_redis_that_is_away_keeps_nobody_from_starting(weir, redis):
    redis.kill()
    w = weir("--dedup", redis.url)
    assert w.post(event("evt_1")).status_code == 202
    w.wait_state("evt_1", "processed")
    assert "event=dedup.redis.away" in w.log_text()


def test_a_wrong_password_is_one_clear_line(redis, tmp_path):
    client = redis.client()
    client.execute_command("ACL", "SETUSER", "me", "on", ">right", "allkeys", "+@all")
    url = f"redis://me:wr0ng@127.0.0.1:{redis.port}"
    done = weirlib.run("run", "--data", tmp_path / "data", "--listen", "127.0.0.1:0", "--dedup", url)
    client.execute_command("ACL", "DELUSER", "me")
    assert done.returncode > 0
    assert "WRONGPASS" in done.stderr
    assert "wr0ng" not in done.stderr + done.stdout
    assert len([line for line in done.stderr.splitlines() if "WRONGPASS" in line]) == 1


# a sink without a unique key


def logged(path):
    return [json.loads(line)["event_id"] for line in path.read_text().splitlines()]


def test_two_processes_write_each_id_once_to_their_logs(weir, redis, tmp_path):
    """Both are given every id at the same time: the claims are all that keeps them apart."""
    logs = [tmp_path / "log0", tmp_path / "log1"]
    both = [weir("--dedup", redis.url, "--sink", f"log:{path}", "--worker-batch", "20",
                 "--dedup-timeout", "2s") for path in logs]
    events = [event(f"evt_{n}") for n in range(400)]

    def send(w):
        for n in range(0, len(events), 10):
            assert w.post(events[n:n + 10]).status_code == 202
    threads = [threading.Thread(target=send, args=(w,)) for w in both]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for w in both:
        w.wait_drained(60)
    counts = collections.Counter(logged(logs[0]) + logged(logs[1]))
    assert counts == collections.Counter(e["event_id"] for e in events)
    assert sum(w.count("duplicate") for w in both) == len(events)


def test_without_redis_a_log_waits_and_says_so(weir, redis, tmp_path):
    path = tmp_path / "log"
    w = weir("--dedup", redis.url, "--sink", f"log:{path}")
    redis.kill()
    assert w.post([event(f"evt_{n}") for n in range(50)]).status_code == 202
    until(lambda: "event=worker.pause" in w.log_text(), what="the worker pauses")
    assert "event=dedup.redis.away" in w.log_text()
    assert not path.exists() or path.read_text() == ""
    redis.start()
    w.wait_drained()
    assert sorted(logged(path)) == sorted(f"evt_{n}" for n in range(50))


@pytest.mark.parametrize("trouble", [kill, pause, fill])
def test_a_log_misses_nothing_however_redis_fares(weir, redis, tmp_path, trouble):
    path = tmp_path / "log"
    w = weir("--dedup", redis.url, "--sink", f"log:{path}")
    history = History(tmp_path / "history")
    load_through(trouble, w, redis, history)
    w.wait_drained(60)
    counts = collections.Counter(logged(path))
    assert set(history.answered) <= set(counts) <= set(history.asked)
    if trouble is not kill:  # it forgot nothing
        assert set(counts.values()) == {1}
