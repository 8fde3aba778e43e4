"""weir run with PostgreSQL as its sink: what is stored, what is shown, what is refused, and what is
kept when the server dies, hangs or is not there."""

import collections
import contextlib
import os
import random
import signal
import time

import pytest
import servers
from weirlib import History, Load, event, run, until, walk

EX_TEMPFAIL = 75
EX_CONFIG = 78


@pytest.fixture
def w(weir, postgres):
    return weir("--sink", postgres.url)


def wait_rows(postgres, count, deadline=30):
    until(lambda: postgres.query("select count(*) from events")[0][0] == count, deadline,
          what=f"{count} rows", every=0.05)


def refused(*flags, command="run"):
    """(exit code, standard error) of a start that must not succeed."""
    done = run(command, "--listen", "127.0.0.1:0", *flags, timeout=30)
    assert done.returncode != 0
    assert "secret" not in done.stdout + done.stderr
    return done.returncode, done.stderr


# what is stored and shown


def test_an_event_becomes_a_row_and_is_shown(w, postgres):
    sent = event("evt_001", {"message": "Water issue", "n": [1.50, None]}, type="GRIEVANCE",
                 timestamp="2026-02-03T12:30:00+05:30")
    assert w.post(sent).status_code == 202
    wait_rows(postgres, 1)
    rows = postgres.query("select event_id, type, timestamp at time zone 'UTC', payload, "
                          "accepted_at <= stored_at from events")
    assert rows[0][:2] == ("evt_001", "GRIEVANCE")
    assert rows[0][2].isoformat() == "2026-02-03T07:00:00"
    assert rows[0][3:] == (sent["payload"], True)
    shown = w.get("/events/evt_001").json()
    assert shown["state"] == "processed"
    assert shown["timestamp"] == "2026-02-03T07:00:00Z"
    assert shown["payload"] == sent["payload"]
    assert shown["processed_at"] >= shown["accepted_at"]
    assert w.get("/events/evt_002").status_code == 404


def test_the_same_id_twice_is_one_row(w, postgres):
    for payload in ({"n": 1}, {"n": 1}, {"n": 2}):
        assert w.post(event("a", payload)).status_code == 202
        w.wait_drained()
    assert postgres.query("select payload from events") == [({"n": 1},)]
    assert w.count("processed") == 1
    assert w.count("duplicate") == 2
    assert w.count("conflict") == 1
    assert "event=event.conflict id=\"a\"" in w.log_text()


def test_without_dedup_the_key_alone_decides(weir, postgres):
    w = weir("--sink", postgres.url, "--dedup", "none")
    for payload in ({"n": 1}, {"n": 1}, {"n": 2}):
        assert w.post(event("a", payload)).status_code == 202
        w.wait_drained()
    assert postgres.query("select payload from events") == [({"n": 1},)]
    assert w.count("duplicate") == 2
    assert w.count("conflict") == 1


def test_lists_are_filtered_and_paged(w, postgres):
    events = [event(f"e{n}", type="ODD" if n % 2 else "EVEN") for n in range(250)]
    assert w.post_ndjson(events[:125]).status_code == 202
    middle = until(lambda: w.get("/events", params={"limit": 1}).json()["events"])[0]
    wait_rows(postgres, 125)
    time.sleep(0.002)  # the next are accepted in a later millisecond
    assert w.post_ndjson(events[125:]).status_code == 202
    wait_rows(postgres, 250)
    seen = [e["event_id"] for e in walk(w, page=40)]
    assert seen == [f"e{n}" for n in reversed(range(250))]
    odd = w.get("/events", params={"type": "ODD", "limit": 1000}).json()
    assert [e["event_id"] for e in odd["events"]] == [f"e{n}" for n in range(249, 0, -2)]
    assert "next" not in odd
    later = w.get("/events", params={"since": events_after(middle), "limit": 1000}).json()
    assert len(later["events"]) == 125
    assert w.get("/events", params={"until": middle["accepted_at"]}).json() == {"events": []}


def events_after(shown):
    """The millisecond after one event's."""
    text = shown["accepted_at"]
    return f"{text[:-1]}9Z" if int(text[-4:-1]) == 999 else f"{text[:-4]}{int(text[-4:-1]) + 1:03d}Z"


def test_a_payload_that_postgresql_cannot_hold_is_dead_and_the_others_are_stored(w, postgres):
    events = [event(f"e{n}") for n in range(300)]
    events[123]["payload"] = {"text": "a\u0000b"}
    assert w.post_ndjson(events).json()["accepted"] == 300
    wait_rows(postgres, 299)
    w.wait_drained()
    assert w.count("dead") == 1
    assert postgres.query("select count(*) from event_ids where event_id = 'e123'") == [(0,)]


# what is refused at the start


def test_a_database_without_tables_names_the_command_that_makes_them(postgres_empty, tmp_path):
    url = postgres_empty.url
    code, said = refused("--sink", url, "--data", tmp_path / "d")
    assert code == EX_CONFIG
    assert f"run: weir migrate --sink {url.replace(':weir@', ':***@')}" in said
    assert len(said.splitlines()) == 1
    for expected in ("created the tables", "nothing to do"):
        done = run("migrate", "--sink", url)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout


def test_wrong_passwords_databases_and_addresses_are_one_clear_line(postgres, tmp_path):
    base = f"127.0.0.1:{postgres.port}"
    (free,) = servers.free_ports(1)
    for url, expected, word in [
            (f"postgresql://weir:secret@{base}/postgres", EX_CONFIG, "authentication failed"),
            (postgres.url_of("nowhere"), EX_CONFIG, 'database "nowhere" does not exist'),
            (f"postgresql://weir:secret@127.0.0.1:{free}/weir", EX_TEMPFAIL, "refused"),
            (f"postgresql://weir:secret@{base}/postgres?colour=red", EX_CONFIG, "colour")]:
        code, said = refused("--sink", url, "--data", tmp_path / "d")
        assert (code, len(said.splitlines())) == (expected, 1), said
        assert word in said
        done = run("migrate", "--sink", url)
        assert done.returncode == expected, done.stderr
        assert "secret" not in done.stdout + done.stderr


def test_a_server_with_fsync_off_is_refused(tmp_path):
    class Careless(servers.Postgres):
        name = "careless"

    with contextlib.closing(Careless("fsync=off").start()) as server:
        for command in ("migrate", "run"):
            code, said = refused("--sink", server.url, "--data", tmp_path / "d", command=command)
            assert code == EX_CONFIG
            assert ("fsync is off: a crash of PostgreSQL could lose events that weir has "
                    "acknowledged") in said


# what is kept


def verdict(weir, postgres, history):
    """Every 202 has exactly one row; no id has two; nothing else is there."""
    for w in weir.instances:
        if w.running():
            w.wait_drained(60)
    counts = collections.Counter(row[0] for row in postgres.query("select event_id from events"))
    answered = set(history.answered)
    assert answered
    assert not answered - set(counts), f"{len(answered - set(counts))} of {len(answered)} lost"
    assert max(counts.values()) == 1, [i for i, n in counts.items() if n > 1][:5]
    assert set(counts) <= set(history.asked)


@pytest.fixture
def rng():
    seed = os.environ.get("WEIR_TEST_SEED") or random.randrange(1 << 32)
    print(f"WEIR_TEST_SEED={seed}")
    return random.Random(seed)


def wait_answers(history, more, deadline=60):
    goal = len(history.answered) + more
    until(lambda: len(history.answered) >= goal, deadline, what=f"{more} more answers")


def backend(postgres):
    """The process that serves the worker."""
    (pid,), *_ = until(lambda: postgres.query(
        "select pid from pg_stat_activity where datname = current_database() and "
        "pid <> pg_backend_pid() and query ilike '%insert into event_ids%'"), what="a backend")
    return pid


@pytest.mark.slow
def test_servers_and_backends_killed_in_the_middle_of_writes(weir, postgres, rng, tmp_path):
    w = weir("--sink", postgres.url, "--worker-threads", "2")
    history = History(tmp_path / "history")
    with Load(w, history, seed=rng.random(), repeat=0.05) as load:
        for n in range(6):
            wait_answers(history, rng.randrange(200, 800))
            if n % 2:
                os.kill(backend(postgres), signal.SIGKILL)
                postgres.wait()
            else:
                postgres.kill()
                wait_answers(history, 100)
                postgres.start()
        wait_answers(history, 300)
    assert not load.unexpected
    verdict(weir, postgres, history)


@pytest.mark.slow
def test_weir_killed_in_the_middle_of_writes(weir, postgres, rng, tmp_path):
    w = weir("--sink", postgres.url, "--dedup", "none")
    history = History(tmp_path / "history")
    with Load(w, history, seed=rng.random(), repeat=0.05):
        for _ in range(15):
            wait_answers(history, rng.randrange(20, 400))
            w.kill()
            w.start()
        wait_answers(history, 300)
    verdict(weir, postgres, history)


@pytest.mark.slow
def test_two_workers_threads_and_a_lock_longer_than_the_timeout(weir, postgres, rng, tmp_path):
    w = weir("--sink", postgres.url, "--worker-threads", "3", "--sink-timeout", "500ms")
    history = History(tmp_path / "history")
    with Load(w, history, seed=rng.random(), repeat=0.2) as load:
        wait_answers(history, 300)
        with contextlib.closing(postgres.connect(autocommit=False)) as db:
            db.cursor().execute("LOCK TABLE event_ids IN ACCESS EXCLUSIVE MODE")
            until(lambda: "event=postgres.failed sqlstate=55P03" in w.log_text(), what="a warning")
            wait_answers(history, 300)  # the queue takes them
            db.rollback()
        wait_answers(history, 300)
    assert not load.unexpected
    verdict(weir, postgres, history)


def test_questions_are_told_that_the_server_is_away(w, postgres):
    assert w.post(event("a")).status_code == 202
    wait_rows(postgres, 1)
    postgres.kill()
    for path in ("/events", "/events/a"):
        answer = w.get(path)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert "PostgreSQL cannot be reached" in answer.json()["detail"]
    assert w.post(event("b")).status_code == 202  # durable all the same
    postgres.start()
    wait_rows(postgres, 2)
    until(lambda: w.get("/events/b").status_code == 200, what="it is shown")


def test_passwords_are_in_no_log(w, postgres):
    assert w.post(event("a")).status_code == 202
    wait_rows(postgres, 1)
    postgres.kill()
    assert w.post(event("b")).status_code == 202
    until(lambda: "event=postgres" in w.log_text(), what="a warning")
    postgres.start()
    wait_rows(postgres, 2)
    assert f":{postgres.password}@" not in w.log_text() + w.out_text()
