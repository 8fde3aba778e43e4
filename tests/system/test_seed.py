"""The example that weir exists for, to the letter."""

import json
import shlex
import threading

import pytest

import weirlib
from weirlib import event, until

pytestmark = pytest.mark.sanitize

SEED = (b'{"event_id":"evt_001","type":"GRIEVANCE","timestamp":"2026-02-03T12:30:00Z",'
        b'"payload":{"message":"Water issue"}}')


def test_the_seed_event_is_accepted_durably_and_processed(weir):
    w = weir()
    answer = w.post(SEED)
    assert answer.status_code == 202
    assert answer.headers["Content-Type"].split(";")[0] == "application/json"
    assert answer.text.strip() == '{"event_id":"evt_001","durability":"fsync"}'
    shown = w.wait_state("evt_001", "processed")
    assert weirlib.find_member(shown, "type") == "GRIEVANCE"
    assert weirlib.find_member(shown, "timestamp") == "2026-02-03T12:30:00Z"
    assert weirlib.find_member(shown, "payload") == {"message": "Water issue"}


def test_the_seed_event_sent_again_is_a_duplicate_with_one_effect(weir):
    w = weir()
    assert w.post(SEED).status_code == 202
    w.wait_state("evt_001", "processed")
    assert w.post(SEED).status_code == 202
    until(lambda: w.count("duplicate") == 1, what="the second is counted as a duplicate")
    assert (w.count("accepted"), w.count("processed")) == (2, 1)
    assert w.count("conflict") == 0
    assert [weirlib.find_member(e, "event_id") for e in w.get("/events").json()["events"]] == [
        "evt_001"]
    assert w.stop() == 0
    assert weirlib.stored_ids(w.data) == ["evt_001"]


def test_one_id_with_two_payloads_keeps_the_first_and_counts_a_conflict(weir):
    w = weir()
    assert w.post(SEED).status_code == 202
    w.wait_state("evt_001", "processed")
    assert w.post(SEED.replace(b"Water", b"Power")).status_code == 202
    until(lambda: w.count("conflict") == 1, what="the conflict is counted")
    assert (w.count("processed"), w.count("duplicate")) == (1, 1)
    assert weirlib.find_member(w.show("evt_001"), "payload") == {"message": "Water issue"}
    assert "conflict" in w.log_text(), "and the log names it"


def test_a_hundred_copies_at_once_have_one_effect(weir):
    w = weir()
    go = threading.Barrier(8)
    codes = []

    def post():
        go.wait()
        codes.extend(w.post(SEED).status_code for _ in range(10))

    threads = [threading.Thread(target=post) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    batch = b"[" + b",".join([SEED] * 20) + b"]"
    assert w.post(batch).json()["accepted"] == 20
    assert set(codes) == {202} and len(codes) == 80
    until(lambda: w.count("processed", "duplicate") == 100, what="all copies are settled")
    assert (w.count("processed"), w.count("duplicate"), w.count("conflict")) == (1, 99, 0)


def test_the_id_is_still_known_after_a_restart(weir):
    w = weir()
    assert w.post(SEED).status_code == 202
    w.wait_state("evt_001", "processed")
    w.restart()
    assert w.post(SEED).status_code == 202
    until(lambda: w.count("duplicate") == 1, what="it is a duplicate after the restart too")
    assert w.count("processed") == 0


def test_the_payload_is_kept_byte_for_byte(weir):
    w = weir()
    payload = b'{ "a" : 1.0e2,\t"\\u00fc":"\\u00fc\xc3\xbc" , "n":12345678901234567890 }'
    body = (b'{"payload":' + payload + b',"timestamp":"2026-02-03T12:30:00.250+02:00",'
            b'"event_id":"bytes","type":"T"}')
    assert w.post(body).status_code == 202
    w.wait_state("bytes", "processed")
    assert payload in w.get("/events/bytes").content


def test_the_start_prints_three_lines_and_the_third_is_the_example(weir):
    w = weir()
    lines = w.out_text().splitlines()
    assert len(lines) == 3, lines
    assert w.url in lines[0]
    assert str(w.data) in lines[1]
    words = shlex.split(lines[2][lines[2].index("curl"):])
    assert any(word.endswith("/events") and f":{w.port}" in word for word in words), words
    body = words[words.index("-d") + 1]
    header = words[words.index("-H") + 1]
    answer = w.post(body.encode(), content_type=header.split(":")[1].strip())
    assert answer.status_code == 202
    w.wait_state(json.loads(body)["event_id"], "processed")


def test_a_batch_is_stored_under_one_answer(weir):
    w = weir()
    events = [event(f"b-{i}") for i in range(500)]
    events[3]["timestamp"] = "2026-02-30T00:00:00Z"
    answer = w.post(events)
    assert answer.status_code == 202
    told = answer.json()
    assert (told["accepted"], told["durability"]) == (499, "fsync")
    assert [(r["index"], r["event_id"]) for r in told["rejected"]] == [(3, "b-3")]
    until(lambda: w.count("processed") == 499, what="the others are processed")
    assert w.show("b-3") is None
