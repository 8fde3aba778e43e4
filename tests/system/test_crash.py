"""kill -9 at any moment: what was answered 202 is there, exactly once."""

import json
import os
import random
import time

import pytest

import weirlib
from weirlib import History, Load, event, until


def check_everything(w, history):
    """The verdict, after a last start: w runs."""
    w.wait_drained()
    check_through_the_api(w, history)
    assert w.stop() == 0
    check_in_the_file(w.data, history)


def check_through_the_api(w, history):
    listed = list(weirlib.walk(w))
    assert len(listed) == len({e["event_id"] for e in listed}), "no event is listed twice"
    by_id = {e["event_id"]: e for e in listed}
    lost = [i for i in history.answered if i not in by_id]
    assert not lost, f"{len(lost)} of {len(history.answered)} answered events are lost: {lost[:5]}"
    unknown = [i for i in by_id if i not in history.asked]
    assert not unknown, f"events that nobody sent: {unknown[:5]}"
    changed = [i for i, e in by_id.items() if e["payload"] != history.asked[i]]
    assert not changed, f"another payload than sent: {changed[:5]}"
    unsettled = [i for i, e in by_id.items() if e["state"] != "processed"]
    assert not unsettled, f"not processed: {unsettled[:5]}"
    for i in random.sample(sorted(history.answered), min(50, len(history.answered))):
        assert weirlib.find_state(w.show(i)) == "processed"


def check_in_the_file(data, history):
    ids = weirlib.stored_ids(data)
    assert len(ids) == len(set(ids)), "no id is stored twice"
    assert set(history.answered) <= set(ids) <= set(history.asked)
    with weirlib.open_database(data) as db:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]


def kill_many_times(w, tmp_path, kills, **load):
    seed = os.environ.get("WEIR_TEST_SEED") or random.randrange(1 << 32)
    print(f"WEIR_TEST_SEED={seed}")
    rng = random.Random(seed)
    history = History(tmp_path / "history")
    answered_before = 0
    with Load(w, history, seed=seed, **load) as running:
        for _ in range(kills):
            until(lambda: len(history.answered) > answered_before, what="the load gets answers")
            running.stopping.wait(rng.uniform(0.0, 0.4))
            w.kill()
            answered_before = len(history.answered)
            w.start()
        until(lambda: len(history.answered) > answered_before, what="it works after the last start")
        running.end()
        assert not running.unexpected, running.unexpected[:3]
    print(f"{kills} kills: {len(history.asked)} asked, {len(history.answered)} answered")
    assert len(history.answered) >= kills
    check_everything(w, history)


@pytest.mark.sanitize
def test_answered_events_survive_three_kills_exactly_once(weir, tmp_path):
    kill_many_times(weir(), tmp_path, 3)


@pytest.mark.slow
def test_answered_events_survive_twenty_kills_exactly_once(weir, tmp_path):
    kill_many_times(weir(), tmp_path, int(os.environ.get("WEIR_TEST_KILLS", "20")))


@pytest.mark.slow
def test_several_workers_and_api_threads_survive_kills_too(weir, tmp_path):
    w = weir("--worker-threads", "3", "--api-threads", "2", "--worker-batch", "7")
    kill_many_times(w, tmp_path, 8, batch=100)


@pytest.mark.slow
def test_a_kill_while_the_last_start_recovers_loses_nothing(weir, tmp_path):
    w = weir()
    history = History(tmp_path / "history")
    rng = random.Random(7)
    with Load(w, history, batch=200) as running:
        until(lambda: len(history.answered) > 3000, 30, what="the load gets answers")
        w.kill()
        running.end()
    for _ in range(8):
        w.start(wait=False)
        time.sleep(rng.uniform(0.002, 0.05))  # the moment of the kill, not a wait for anything
        w.kill()
    w.start()
    check_everything(w, history)


@pytest.mark.sanitize
def test_queued_events_survive_a_kill_and_are_processed_in_accept_order(weir, tmp_path):
    w = weir("--sink", "log:/dev/full")
    ids = [f"q-{i:03}" for i in range(200)]
    for i in ids[:20]:
        assert w.post(event(i)).status_code == 202
    assert w.post([event(i) for i in ids[20:]]).json()["accepted"] == 180
    assert w.depth() == 200, "the full sink holds them all"
    w.kill()
    out = tmp_path / "sink.ndjson"
    w.restart("--sink", f"log:{out}")
    w.wait_drained()
    assert [json.loads(line)["event_id"] for line in out.read_text().splitlines()] == ids
    assert w.count("processed") == 200


def test_events_held_by_a_full_sink_are_stored_by_the_next_start(weir):
    w = weir("--sink", "log:/dev/full")
    for i in range(10):
        assert w.post(event(f"q-{i}", {"n": i})).status_code == 202
    until(lambda: w.count("pauses") > 0, what="the worker pauses")
    assert weirlib.find_state(w.show("q-0")) in ("queued", "processing", "retrying")
    w.kill()
    w.restart("--sink", "local")
    w.wait_drained()
    for i in range(10):
        shown = w.show(f"q-{i}")
        assert weirlib.find_state(shown) == "processed"
        assert weirlib.find_member(shown, "payload") == {"n": i}
    assert w.stop() == 0
    assert len(weirlib.stored_ids(w.data)) == 10


def test_the_checker_sees_a_lost_event(weir, tmp_path):
    w = weir()
    history = History(tmp_path / "history")
    events = [event(f"e-{i}") for i in range(5)]
    history.ask([*events, event("never-sent")])
    assert w.post(events).status_code == 202
    history.ok([e["event_id"] for e in events])
    w.wait_drained()
    check_through_the_api(w, history)
    history.ok(["never-sent"])
    with pytest.raises(AssertionError, match="1 of 6 answered events are lost"):
        check_through_the_api(w, history)
