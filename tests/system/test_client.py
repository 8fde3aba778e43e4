"""weir send, weir events and weir bench, as a user's shell sees them."""

import contextlib
import http.server
import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest

import weirlib
from weirlib import event, until

SUMMARY = "sent {}, accepted {}, rejected {}\n"


def lines(events):
    return weirlib.ndjson(events).decode()


def some(prefix, n):
    return [event(f"{prefix}-{i}") for i in range(n)]


def send(w, *argv, **options):
    url = w if isinstance(w, str) else w.url
    return weirlib.run("send", *argv, "--url", url, **options)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def scripted(answers):
    """A server that gives these (status, headers, body) in turn, the last one again and again."""
    left = list(answers)
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            seen.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": len(body)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# send


def test_send_takes_lines_with_blank_ones_and_windows_endings_between(weir, tmp_path):
    w = weir()
    file = tmp_path / "events.ndjson"
    a, b, c = (json.dumps(e) for e in some("line", 3))
    file.write_bytes(f"\n{a}\r\n\r\n  \n{b}\n\n{c}".encode())
    done = send(w, file)
    assert (done.returncode, done.stdout, done.stderr) == (0, SUMMARY.format(3, 3, 0), "")
    w.wait_state("line-2", "processed")
    assert w.stop() == 0
    assert weirlib.stored_ids(w.data) == ["line-0", "line-1", "line-2"]


@pytest.mark.parametrize("indent", [None, 2], ids=["one line", "many lines"])
def test_send_takes_an_array(weir, tmp_path, indent):
    w = weir()
    file = tmp_path / "events.json"
    file.write_text(json.dumps(some("array", 120), indent=indent))
    done = send(w, file, "--batch", "50")
    assert (done.returncode, done.stdout) == (0, SUMMARY.format(120, 120, 0)), done.stderr


def test_send_takes_one_object_over_several_lines_from_standard_input(weir):
    w = weir()
    done = send(w, "-", input="\ufeff" + json.dumps(event("alone", {"text": "a \"b\" {"}), indent=4))
    assert (done.returncode, done.stdout) == (0, SUMMARY.format(1, 1, 0)), done.stderr
    assert w.wait_state("alone", "processed")["payload"] == {"text": "a \"b\" {"}


def test_send_of_nothing_is_nothing(weir):
    w = weir()
    done = send(w, "-", input="\n \n")
    assert (done.returncode, done.stdout) == (0, SUMMARY.format(0, 0, 0))


def test_send_names_the_line_the_id_and_what_was_wrong(weir, tmp_path):
    w = weir()
    file = tmp_path / "mixed.ndjson"
    bad_time = {**event("bad-time"), "timestamp": "2026-02-30T00:00:00Z"}
    file.write_text(lines([event("good-1")]) + "\n" + lines([bad_time]) + "{broken\n" +
                    lines([event("good-2")]))
    done = send(w, file)
    assert (done.returncode, done.stdout) == (1, SUMMARY.format(4, 2, 2))
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{file}:3: bad-time: /timestamp: ")
    assert second.startswith(f"{file}:4: ")
    w.wait_state("good-2", "processed")


def test_send_explains_every_rejected_event_of_a_batch(weir, tmp_path):
    w = weir()
    file = tmp_path / "bad.ndjson"
    good = some("good", 250)
    bad = [{**event(f"bad-{i}"), "type": 7} for i in range(250)]
    file.write_text(lines(e for pair in zip(good, bad) for e in pair))
    done = send(w, file)
    assert (done.returncode, done.stdout) == (1, SUMMARY.format(500, 250, 250))
    named = [line.split(": ")[:3] for line in done.stderr.splitlines()]
    assert named == [[f"{file}:{2 * i + 2}", f"bad-{i}", "/type"] for i in range(250)]
    assert w.count("accepted") == 250, "no good event is sent twice"


def test_send_divides_batches_that_are_too_large_for_the_server(weir, tmp_path):
    w = weir("--http-max-batch", "7", "--http-max-body", "64KiB", "--event-max-bytes", "8KiB")
    file = tmp_path / "events.ndjson"
    large = event("large", {"text": "x" * 20000})
    too_large = event("too-large", {"text": "x" * 100000})
    file.write_text(lines(some("small", 50) + [large, too_large] + some("last", 3)))
    done = send(w, file)
    assert (done.returncode, done.stdout) == (1, SUMMARY.format(55, 53, 2))
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [f"{file}:51", f"{file}:52"]


def test_send_streams_without_end_in_little_memory(weir):
    w = weir()
    child = subprocess.Popen(
        [weirlib.binary(), "send", "-", "--url", w.url], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, preexec_fn=weirlib.die_with_parent)
    for i in range(100_000):
        child.stdin.write(b'{"event_id":"large-%d","type":"T","timestamp":"2026-02-03T12:30:00Z",'
                          b'"payload":{"text":"%s"}}\n' % (i, b"x" * 300))
    child.stdin.flush()
    status = open(f"/proc/{child.pid}/status").read()
    peak_kib = int(re.search(r"VmHWM:\s+(\d+)", status).group(1))
    child.stdin.close()
    assert child.stdout.read().decode() == SUMMARY.format(100_000, 100_000, 0)
    assert child.wait(10) == 0
    assert peak_kib < 20 * 1024, "of a stream of 38 MiB"
    until(lambda: w.count("processed") == 100_000, deadline=120)


def test_send_refuses_an_array_that_it_would_have_to_hold_whole(weir, tmp_path):
    w = weir()
    file = tmp_path / "huge.json"
    with open(file, "w") as f:
        f.write("[" + " " * (65 * 1024 * 1024))
    done = send(w, file)
    assert done.returncode == 1 and "NDJSON" in done.stderr
    assert w.count("accepted") == 0


def test_send_of_a_broken_array_sends_nothing_and_names_the_line(weir, tmp_path):
    w = weir()
    file = tmp_path / "broken.json"
    file.write_text(json.dumps(some("array", 3), indent=1)[:-1])
    done = send(w, file)
    assert done.returncode == 1 and "line " in done.stderr
    assert w.count("accepted") == 0


def test_send_gives_up_in_time_and_says_from_which_line_to_go_on(tmp_path):
    file = tmp_path / "events.ndjson"
    file.write_text("\n\n" + lines(some("never", 3)))
    began = time.monotonic()
    done = send(f"http://127.0.0.1:{free_port()}", file, "--retry-for", "400ms")
    assert time.monotonic() - began < 5
    assert (done.returncode, done.stdout) == (1, SUMMARY.format(0, 0, 0))
    assert "gave up" in done.stderr and "--from 3" in done.stderr


def test_send_goes_on_from_a_line(weir, tmp_path):
    w = weir()
    file = tmp_path / "events.ndjson"
    file.write_text(lines(some("part", 10)))
    done = send(w, file, "--from", "8")
    assert (done.returncode, done.stdout) == (0, SUMMARY.format(3, 3, 0))


def test_send_waits_for_a_server_that_starts_later(weir, tmp_path):
    port = free_port()
    child = subprocess.Popen(
        [weirlib.binary(), "send", "-", "--url", f"http://127.0.0.1:{port}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=weirlib.die_with_parent)
    child.stdin.write(weirlib.ndjson(some("early", 5)))
    child.stdin.close()
    w = weir(listen=f"127.0.0.1:{port}")
    assert child.wait(30) == 0
    assert child.stdout.read().decode() == SUMMARY.format(5, 5, 0)
    w.wait_state("early-4", "processed")


def test_send_survives_kills_of_the_server_with_one_effect_each(weir, tmp_path):
    port = free_port()
    file = tmp_path / "events.ndjson"
    file.write_text(lines(some("kill", 20_000)))
    w = weir(listen=f"127.0.0.1:{port}")
    child = subprocess.Popen(
        [weirlib.binary(), "send", file, "--url", w.url, "--batch", "20"],
        stdout=subprocess.PIPE, preexec_fn=weirlib.die_with_parent)
    for i in range(3):
        until(lambda: w.count("accepted") > 500 or child.poll() is not None)
        assert child.poll() is None, "the file is too small for this test"
        w.kill()
        w.start()
    assert child.wait(60) == 0
    assert child.stdout.read().decode() == SUMMARY.format(20_000, 20_000, 0)
    until(lambda: w.stats()["queue"]["depth"] == 0, deadline=60)
    assert w.stop() == 0
    stored = weirlib.stored_ids(w.data)
    assert len(stored) == len(set(stored)) == 20_000


def test_send_does_not_come_back_before_the_server_asked_for(tmp_path):
    busy = (503, {"Retry-After": 1}, b'{"status":503,"detail":"the queue is full"}')
    fine = (202, {}, b'{"accepted":2,"rejected":[],"durability":"fsync"}')
    with scripted([busy, fine]) as (url, seen):
        began = time.monotonic()
        done = send(url, "-", input=lines(some("busy", 2)))
        assert time.monotonic() - began >= 1
    assert (done.returncode, done.stdout) == (0, SUMMARY.format(2, 2, 0)), done.stderr
    assert len(seen) == 2 and seen[0] == seen[1]


def test_send_does_not_believe_an_answer_that_leaves_events_out(tmp_path):
    with scripted([(202, {}, b'{"accepted":1,"rejected":[],"durability":"fsync"}')]) as (url, _):
        done = send(url, "-", input=lines(some("lost", 2)))
    assert done.returncode == 1
    assert "does not account for every event" in done.stderr and "--from 1" in done.stderr


def test_send_stops_at_an_answer_that_trying_again_would_not_change(tmp_path):
    with scripted([(404, {}, b'{"status":404,"detail":"no such path"}')]) as (url, seen):
        done = send(url, "-", input=lines(some("lost", 2)))
    assert done.returncode == 1 and "404 no such path" in done.stderr
    assert len(seen) == 1


def test_send_shows_its_progress_on_a_terminal_only(weir, tmp_path):
    w = weir()
    file = tmp_path / "events.ndjson"
    file.write_text(lines(some("bar", 2000)))
    terminal, child_end = os.openpty()
    child = subprocess.Popen([weirlib.binary(), "send", file, "--url", w.url, "--batch", "1"],
                             stdout=subprocess.PIPE, stderr=child_end,
                             preexec_fn=weirlib.die_with_parent)
    os.close(child_end)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    assert child.wait(10) == 0
    assert child.stdout.read().decode() == SUMMARY.format(2000, 2000, 0)
    assert re.search(rb"\[#* *\] +\d+%  \d+ events  \d+/s", shown), shown
    assert shown.endswith(b"\r\x1b[K"), "and the line is gone at the end"


# events


def test_events_list_prints_the_newest_first_up_to_the_limit(weir):
    w = weir()
    assert send(w, "-", input=lines(some("seen", 30))).returncode == 0
    w.wait_state("seen-29", "processed")
    done = weirlib.run("events", "list", "--url", w.url, "--limit", "3")
    head, *rows = done.stdout.splitlines()
    assert done.returncode == 0 and head.split() == ["ACCEPTED", "STATE", "TYPE", "ID"]
    assert [r.split()[1:] for r in rows] == [["processed", "TEST", f"seen-{i}"] for i in (29, 28, 27)]


def test_events_list_goes_through_pages_and_filters_by_type(weir):
    w = weir()
    other = [event(f"other-{i}", type="OTHER") for i in range(5)]
    assert send(w, "-", input=lines(some("many", 2500) + other)).returncode == 0
    until(lambda: w.count("processed") == 2505, deadline=60)
    everything = weirlib.run("events", "list", "--url", w.url, "--limit", "9999", "--json")
    ids = [json.loads(line)["event_id"] for line in everything.stdout.splitlines()]
    assert len(ids) == len(set(ids)) == 2505
    done = weirlib.run("events", "list", "--url", w.url, "--type", "OTHER", "--json")
    assert [json.loads(line)["type"] for line in done.stdout.splitlines()] == ["OTHER"] * 5


def test_events_show_prints_an_event_and_its_timeline(weir):
    w = weir()
    odd = "id with spaces/und Ümlaut?"
    assert send(w, "-", input=lines([event(odd, {"message": "Water issue"})])).returncode == 0
    until(lambda: w.count("processed") == 1)
    done = weirlib.run("events", "show", odd, "--url", w.url)
    assert done.returncode == 0, done.stderr
    assert odd in done.stdout and '{"message": "Water issue"}' in done.stdout
    steps = [line.split()[1] for line in done.stdout.split("timeline\n")[1].splitlines()]
    assert steps == ["queued", "processed"]
    assert "queued  fsync\n" in done.stdout
    shown = json.loads(weirlib.run("events", "show", odd, "--url", w.url, "--json").stdout)
    assert shown["event_id"] == odd


def test_events_prints_the_servers_problem_and_fails(weir):
    w = weir()
    missing = weirlib.run("events", "show", "missing", "--url", w.url)
    assert missing.returncode == 1 and missing.stdout == "" and "404" in missing.stderr
    wrong = weirlib.run("events", "list", "--since", "yesterday", "--url", w.url)
    assert wrong.returncode == 1 and "400" in wrong.stderr and "since" in wrong.stderr
    away = weirlib.run("events", "list", "--url", f"http://127.0.0.1:{free_port()}")
    assert away.returncode == 1 and away.stderr != ""


def test_what_could_not_be_printed_is_a_failure(weir):
    w = weir()
    with open("/dev/full", "w") as full:
        for argv in (["events", "list"], ["send", "/dev/null"]):
            done = subprocess.run([weirlib.binary(), *argv, "--url", w.url], stdout=full,
                                  stderr=subprocess.PIPE, text=True)
            assert done.returncode == 1 and "No space left" in done.stderr


# bench


def bench(url, *argv):
    done = weirlib.run("bench", url, "--json", *argv)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("flags", [
    ["--connections", "1"], ["--connections", "32"], ["--batch", "50"], ["--rate", "300"],
    ["--ids", "sequential", "--warmup", "100ms"], ["--payload", "3000"],
], ids=" ".join)
def test_bench_counts_what_the_server_counts(weir, flags):
    w = weir()
    r = bench(w.url, "--duration", "400ms", "--end-to-end", *flags)
    assert r["stored"]["complete"] and r["stored"]["events"] == r["accepted"] > 0
    assert r["accepted"] == r["requests"] * r["batch"] and r["rejected"] == 0
    assert r["status"] == {"202": r["requests"]}
    assert w.count("duplicate") == 0, "every event has an id of its own"
    if "--warmup" not in flags:
        assert (w.count("accepted"), w.count("processed")) == (r["accepted"], r["accepted"])
    quantiles = list(r["latency_ms"].values())
    assert quantiles == sorted(quantiles) and quantiles[0] > 0


def test_bench_finds_the_address_of_localhost_that_listens(weir):
    w = weir()
    assert bench(f"http://localhost:{w.port}/", "--duration", "100ms")["accepted"] > 0


def test_bench_over_a_unix_socket(weir, tmp_path):
    path = tmp_path / "socket"
    w = weir(listen=f"unix:{path}")
    until(path.exists)
    r = bench(f"unix:{path}", "--duration", "200ms", "--end-to-end")
    assert r["stored"]["events"] == r["accepted"] > 0
    got = bench(f"unix:{path}", "--duration", "100ms", "--get", "/livez")
    assert got["status"] == {"200": got["requests"]}
    assert w.stop() == 0


def test_bench_measures_from_the_intended_start_when_the_server_stalls(weir):
    w = weir()
    child = subprocess.Popen(
        [weirlib.binary(), "bench", w.url, "--json", "--duration", "2s", "--rate", "200",
         "--connections", "2"], stdout=subprocess.PIPE, preexec_fn=weirlib.die_with_parent)
    until(lambda: w.count("accepted") > 20)
    os.kill(w.pid, 19)  # SIGSTOP
    time.sleep(0.8)
    os.kill(w.pid, 18)  # SIGCONT
    r = json.loads(child.stdout.read())
    assert child.wait(10) == 0
    assert r["latency_ms"]["max"] >= 700
    assert r["latency_ms"]["p90"] >= 100, "two requests waited, but 160 were due meanwhile"


def test_bench_holds_idle_connections_and_counts_those_that_were_closed(weir):
    w = weir("--http-idle-timeout", "300ms")
    r = bench(w.url, "--idle", "--connections", "50", "--duration", "900ms")
    assert r["errors"]["closed"] == 50


def test_bench_leaves_other_machines_alone_unless_asked():
    done = weirlib.run("bench", "http://192.0.2.1:80", "--duration", "1s")
    assert done.returncode == 2 and "--allow-remote" in done.stderr


def test_bench_of_nobody_fails_and_says_why():
    done = weirlib.run("bench", f"http://127.0.0.1:{free_port()}", "--duration", "1s")
    assert done.returncode == 1 and "refused" in done.stderr


@pytest.mark.parametrize("argv", [
    ["send"], ["send", "a", "b"], ["send", "-", "--batch", "0"], ["send", "-", "--retry-for", "x"],
    ["send", "-", "--url", "ftp://x"], ["send", "-", "--colour"], ["events"], ["events", "show"],
    ["events", "list", "--limit"], ["bench"], ["bench", "x"], ["bench", "http://127.0.0.1:1", "--ids", "x"],
], ids=" ".join)
def test_wrong_usage_is_one_line_and_code_2(argv):
    done = weirlib.run(*argv, input="")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("weir: ") and done.stderr.count("\n") == 1


def test_send_of_a_missing_file_fails_and_names_it():
    done = weirlib.run("send", "/nonexistent/events.ndjson")
    assert done.returncode == 1 and "/nonexistent/events.ndjson" in done.stderr
