"""POST /events, GET /events, GET /events/{event_id}: what goes in, what comes out, what not."""

import json
import urllib.parse

import pytest

import weirlib
from weirlib import event, ndjson, until, walk

pytestmark = pytest.mark.sanitize


def check_problem(answer, status, *words):
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    for word in words:
        assert word in answer.text, answer.text
    return problem


def pointers(problem):
    return [e["pointer"] for e in problem["errors"]]


def check_nothing_came_in(w):
    assert w.count("accepted") == 0
    assert w.get("/events").json() == {"events": []}


# one event


def test_all_errors_of_an_event_come_at_once(weir):
    w = weir()
    answer = w.post({"event_id": "", "timestamp": "2026-02-30T00:00:00Z", "payload": [], "a/b": 1})
    problem = check_problem(answer, 400)
    assert sorted(pointers(problem)) == ["/a~1b", "/event_id", "/payload", "/timestamp", "/type"]
    assert all(e["detail"] for e in problem["errors"])
    assert w.count("rejected") == 1
    check_nothing_came_in(w)


@pytest.mark.parametrize("body, word", [
    (b"", "empty"),
    (b"{", "line 1, column 2"),
    (b'{"event_id":"a",\n"type":}', "line 2, column 8"),
    (b"42", "object"),
    (b"\xef\xbb\xbf" + json.dumps(event("a")).encode(), "byte order mark"),
    (json.dumps(event("a")).encode() + b"x", "nothing more"),
    (json.dumps(event("a")).encode().replace(b"TEST", b"T\xe9ST"), "UTF-8"),
    (json.dumps(event("a", {"s": "\ud800"})).encode(), "surrogate"),
    (json.dumps(event("a", {"n": float("nan")})).encode(), "expected a value"),
])
def test_a_body_that_is_not_an_event_is_400(weir, body, word):
    w = weir()
    check_problem(w.post(body), 400, word)
    check_nothing_came_in(w)


def test_duplicate_members_are_refused_and_in_the_payload_kept(weir):
    w = weir()
    good = json.dumps(event("a")).encode()
    twice = good.replace(b'"type": "TEST"', b'"type": "TEST", "type": "TEST"')
    assert pointers(check_problem(w.post(twice), 400, "more than once")) == ["/type"]
    inside = good.replace(b'{"of": "a"}', b'{"k":1, "k":2}')
    assert w.post(inside).status_code == 202
    w.wait_state("a", "processed")
    assert b'"payload":{"k":1, "k":2}' in w.get("/events/a").content


def test_an_event_of_the_largest_size_is_taken_and_one_byte_more_is_413(weir):
    w = weir("--event-max-bytes", "4KiB")

    def sized(event_id, size):
        empty = len(json.dumps(event(event_id, {"f": ""})))
        return json.dumps(event(event_id, {"f": "x" * (size - empty)})).encode()

    assert w.post(sized("fits", 4096)).status_code == 202
    check_problem(w.post(sized("over", 4097)), 413, "4097", "4096")
    w.wait_state("fits", "processed")
    assert w.show("over") is None


def test_64_levels_are_taken_and_65_are_400(weir):
    w = weir()

    def deep(event_id, levels):
        return json.dumps(event(event_id, {"a": 0})).encode().replace(
            b"0}", b"[" * (levels - 2) + b"]" * (levels - 2) + b"}")

    assert w.post(deep("d64", 64)).status_code == 202
    assert pointers(check_problem(w.post(deep("d65", 65)), 400, "65 levels")) == ["/payload"]


def test_ids_are_any_text_and_found_again(weir):
    w = weir()
    ids = ["a/b", "ü€😀", 'quo"te\\', "space and %2F", "?x=1&y", "..", "i" * 128]
    for event_id in ids:
        answer = w.post(event(event_id))
        assert answer.status_code == 202, answer.text
        assert answer.json() == {"event_id": event_id, "durability": "fsync"}
    for event_id in ids:
        path = "/events/" + urllib.parse.quote(event_id, safe="").replace(".", "%2E")
        shown = until(lambda: w.get(path).json(), what=event_id)
        assert shown["event_id"] == event_id


@pytest.mark.parametrize("kind, status", [
    ("application/json", 202),
    ("application/json; charset=utf-8", 202),
    ("APPLICATION/JSON;charset=UTF-8", 202),
    ("application/json; charset=latin1", 415),
    ("text/plain", 415),
    ("application/x-www-form-urlencoded", 415),
    ("", 415),
])
def test_the_media_type_must_be_json(weir, kind, status):
    w = weir()
    answer = w.post(event("a"), content_type=kind)
    assert answer.status_code == status, answer.text
    if status == 415:
        check_problem(answer, 415, "expected")


def test_a_content_coding_is_415(weir):
    w = weir()
    check_problem(w.post(event("a"), headers={"Content-Encoding": "gzip"}), 415, "Encoding")
    assert w.post(event("a"), headers={"Content-Encoding": "identity"}).status_code == 202


# batches


def test_each_item_of_a_batch_has_its_own_verdict(weir):
    w = weir()
    items = [event("a"), {**event("b"), "x": 1}, event("c"), 17, {"event_id": "e"}]
    for post in (w.post, w.post_ndjson):
        told = post(items).json()
        assert (told["accepted"], told["rejected_count"], told["durability"]) == (2, 3, "fsync")
        assert [(r["index"], r.get("event_id")) for r in told["rejected"]] == [
            (1, "b"), (3, None), (4, "e")]
        assert pointers(told["rejected"][0]) == ["/x"]
        assert pointers(told["rejected"][2]) == ["/type", "/timestamp", "/payload"]
    assert (w.count("accepted"), w.count("rejected")) == (4, 6)
    until(lambda: (w.count("processed"), w.count("duplicate")) == (2, 2), what="a and c")


def test_a_broken_line_hurts_only_itself(weir):
    w = weir()
    body = ndjson([event("a")]) + b'{"event_id":\r\n\n  \xff\n' + ndjson([event("b")]).rstrip()
    told = w.post(body, content_type="application/x-ndjson").json()
    assert (told["accepted"], [r["index"] for r in told["rejected"]]) == (2, [1, 2])
    assert "line 2, column 13" in told["rejected"][0]["errors"][0]["detail"]


def test_a_broken_array_is_refused_whole(weir):
    w = weir()
    body = json.dumps([event("a"), event("b")]).encode()
    check_problem(w.post(body[:-1]), 400, "line 1, column")
    check_problem(w.post(body[:-1] + b",]"), 400, "expected an event")
    check_problem(w.post(body + b"]"), 400, "after the end")
    check_problem(w.post(body[:-2] + b"]]"), 400, "item 1")
    check_nothing_came_in(w)


def test_a_batch_without_a_valid_event_is_400_and_names_each(weir):
    w = weir()
    problem = check_problem(w.post([{}, 1]), 400, "no event of the batch is valid")
    assert [r["index"] for r in problem["rejected"]] == [0, 1]
    assert problem["rejected_count"] == 2
    check_nothing_came_in(w)


def test_an_empty_batch_is_400(weir):
    w = weir()
    check_problem(w.post([]), 400, "empty")
    check_problem(w.post(b"\n\n", content_type="application/x-ndjson"), 400, "empty")
    check_problem(w.post(b"", content_type="application/x-ndjson"), 400, "empty")


def test_more_events_than_a_request_may_have_are_413(weir):
    w = weir("--http-max-batch", "10")
    assert w.post([event(f"a-{i}") for i in range(10)]).status_code == 202
    for post in (w.post, w.post_ndjson):
        check_problem(post([event(f"b-{i}") for i in range(11)]), 413, "10")
    assert w.count("accepted") == 10


def test_a_large_batch_is_stored_whole(weir):
    w = weir()
    events = [event(f"l-{i}", {"i": i, "f": "x" * 100}) for i in range(10000)]
    told = w.post_ndjson(events).json()
    assert (told["accepted"], told["rejected"]) == (10000, [])
    w.wait_drained()
    assert [e["event_id"] for e in walk(w)] == [f"l-{i}" for i in reversed(range(10000))]


def test_every_rejected_event_of_a_large_batch_is_named(weir):
    w = weir()
    told = w.post_ndjson([event("good")] + [{"event_id": f"r-{i}"} for i in range(500)]).json()
    assert (told["accepted"], told["rejected_count"]) == (1, 500)
    assert [r["index"] for r in told["rejected"]] == list(range(1, 501))
    assert all("errors" in r for r in told["rejected"][:100])
    assert told["rejected"][100] == {"index": 101}


# what became of them


@pytest.fixture
def stored(weir):
    """25 events of two types, processed, and what GET /events says about them."""
    w = weir()
    for i in range(25):
        assert w.post(event(f"e-{i}", type="odd" if i % 2 else "even")).status_code == 202
    w.wait_drained()
    until(lambda: w.count("processed") == 25, what="all are processed")
    return w, w.get("/events").json()["events"]


def test_the_list_is_newest_first_and_paged_without_gaps(stored):
    w, everything = stored
    ids = [f"e-{i}" for i in reversed(range(25))]
    assert [e["event_id"] for e in everything] == ids
    assert "next" not in w.get("/events").json()
    for page in (1, 7, 25, 1000):
        assert [e["event_id"] for e in walk(w, page)] == ids


def test_new_events_do_not_disturb_the_pages_of_a_list(stored):
    w, everything = stored
    first = w.get("/events", params={"limit": 10}).json()
    assert w.post(event("later")).status_code == 202
    w.wait_state("later", "processed")
    second = w.get("/events", params={"limit": 1000, "cursor": first["next"]}).json()
    assert [e["event_id"] for e in first["events"] + second["events"]] == [
        e["event_id"] for e in everything]


def test_an_event_shows_its_fate(stored):
    w, everything = stored
    e = everything[0]
    assert {k: e[k] for k in ("event_id", "type", "timestamp", "payload", "state")} == {
        **event("e-24", type="even"), "state": "processed"}
    assert e["accepted_at"] <= e["processed_at"]
    shown = w.show("e-24")
    timeline = shown.pop("timeline")
    assert shown == e
    assert timeline == [
        {"state": "queued", "at": e["accepted_at"], "durability": "fsync"},
        {"state": "processed", "at": e["processed_at"]}]


def test_a_list_can_be_filtered_by_type_and_time(stored):
    w, everything = stored

    def ids(**query):
        answer = w.get("/events", params=query)
        assert answer.status_code == 200, answer.text
        return [e["event_id"] for e in answer.json()["events"]]

    assert ids(type="odd") == [f"e-{i}" for i in reversed(range(1, 25, 2))]
    assert ids(type="od") == []
    middle = everything[12]["accepted_at"]
    expected_since = [e["event_id"] for e in everything if e["accepted_at"] >= middle]
    assert ids(since=middle) == expected_since
    assert ids(until=middle) == [e["event_id"] for e in everything if e["accepted_at"] < middle]
    assert ids(since="2000-01-01T00:00:00+05:30", until="2000-01-01T00:00:01Z") == []
    assert len(ids(since="2000-01-01T00:00:00-08:00")) == 25
    assert ids(type="even", limit=2) == ["e-24", "e-22"]


@pytest.mark.parametrize("query, word", [
    ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"),
    ("limit=5&limit=5", "limit"), ("since=yesterday", "since"),
    ("until=2026-02-30T00:00:00Z", "until"), ("type=", "type"),
    ("cursor=zz", "cursor"), ("cursor=", "cursor"), ("state=dead", "state"), ("Type=a", "Type"),
])
def test_a_parameter_that_cannot_be_meant_is_400_and_named(weir, query, word):
    check_problem(weir().get("/events?" + query), 400, word)


def test_an_event_that_is_not_there_is_404(weir):
    w = weir()
    check_problem(w.get("/events/nobody"), 404, "no event has this id")
    check_problem(w.get("/events/" + "i" * 129), 404)


def test_a_queued_event_is_shown_by_its_id_and_listed_once_stored(weir):
    w = weir("--sink", "log:/dev/full")
    assert w.post(event("waits")).status_code == 202
    shown = w.show("waits")
    assert shown["state"] == "queued"
    assert [t["state"] for t in shown["timeline"]] == ["queued"]
    assert "processed_at" not in shown
    assert w.get("/events").json() == {"events": []}
    w.restart("--sink", "local")
    w.wait_state("waits", "processed")
    assert [e["event_id"] for e in w.get("/events").json()["events"]] == ["waits"]


def test_head_says_what_get_would(stored):
    w, _ = stored
    for path in ("/events", "/events/e-1"):
        get, head = w.get(path), w.request("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


def test_the_payload_of_a_list_is_bounded_and_the_rest_is_on_the_next_page(weir):
    w = weir()
    for i in range(30):
        assert w.post(event(f"big-{i}", {"f": "y" * 200_000})).status_code == 202
    w.wait_drained()
    page = w.get("/events", params={"limit": 1000})
    assert len(page.content) < 5 * 1024 * 1024
    assert "next" in page.json()
    assert [e["event_id"] for e in walk(w)] == [f"big-{i}" for i in reversed(range(30))]
