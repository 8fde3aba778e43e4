"""The disk is full, or fails: never a 202 that is not true, and recovery."""

import contextlib
import os
import resource
import signal
import subprocess
import time

import pytest

import weirlib
from weirlib import History, Load, event, until

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(mib): a file system of that size."""
    mounted = []

    def make(mib):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "weir-test", folder],
                              capture_output=True, text=True)
        assert done.returncode == 0, (
            f"a small file system cannot be mounted here, run these tests as root: {done.stderr}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def big(name, kib=48):
    return event(name, {"of": name, "filler": "z" * (kib * 1024)})


def fill_until_refused(w, most_events=2000):
    """Posts until the first 503; returns (ids answered 202, that answer)."""
    answered = []
    for i in range(most_events):
        answer = w.post(big(f"fill-{i:05}"))
        if answer.status_code != 202:
            assert answer.status_code == 503, answer.text
            return answered, answer
        answered.append(f"fill-{i:05}")
    raise AssertionError(f"{most_events} events and still room")


def check_refusal(answer):
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "disk" in answer.json()["detail"].lower(), answer.text
    assert 1 <= int(answer.headers["Retry-After"]) <= 60


def check_not_ready(w):
    ready = w.get("/readyz")
    assert ready.status_code == 503 and "disk" in ready.text.lower(), ready.text
    assert w.get("/livez").status_code == 200


def check_stored(w, ids):
    w.wait_drained(60)
    for i in ids:
        shown = w.show(i)
        assert shown is not None, f"{i} was answered 202 and is lost"
        assert weirlib.find_state(shown) == "processed"
        assert weirlib.find_member(shown, "payload")["of"] == i


def accepts_again(w, name):
    return lambda: w.post(event(name)).status_code == 202


def test_a_full_disk_refuses_and_recovers_by_itself(weir, small_disk):
    disk = small_disk(16)
    ballast = disk / "ballast"
    ballast.write_bytes(b"b" * 6 * MIB)
    w = weir("--disk-min-free", "0", data=disk / "data")
    answered, refusal = fill_until_refused(w)
    assert len(answered) > 10
    check_refusal(refusal)
    until(lambda: w.get("/readyz").status_code == 503, what="not ready")
    check_not_ready(w)
    ballast.unlink()
    until(lambda: w.get("/readyz").status_code == 200, what="ready again by itself")
    until(accepts_again(w, "after"), what="accepts again")
    check_stored(w, [*answered, "after"])
    w.restart()
    check_stored(w, [*answered, "after"])


def test_a_kill_on_a_full_disk_loses_nothing(weir, small_disk):
    disk = small_disk(16)
    ballast = disk / "ballast"
    ballast.write_bytes(b"b" * 6 * MIB)
    w = weir("--disk-min-free", "0", data=disk / "data")
    answered, _ = fill_until_refused(w)
    w.kill()
    ballast.unlink()
    w.start()
    check_stored(w, answered)
    until(accepts_again(w, "after"), what="accepts again")


def test_a_start_on_a_full_disk_says_so_or_waits_and_loses_nothing(weir, small_disk):
    disk = small_disk(16)
    ballast = disk / "ballast"
    ballast.write_bytes(b"b" * 6 * MIB)
    w = weir("--disk-min-free", "0", data=disk / "data")
    answered, _ = fill_until_refused(w)
    w.kill()
    with contextlib.suppress(OSError), open(disk / "rest", "wb") as rest:
        while True:
            rest.write(b"r" * 4096)
            rest.flush()
    w.start(wait=False)
    until(lambda: not w.running() or w._find_url(), what="it starts or ends")
    if not w.running():
        assert w.proc.returncode > 0 and w.log_text().strip(), "it says why it cannot start"
    else:
        # the file may have free pages where the queue was: then there is room after all
        code = w.post(big("no-room")).status_code
        assert code in (202, 503)
        answered = [*answered, "no-room"] if code == 202 else answered
        w.kill()
    ballast.unlink()
    (disk / "rest").unlink()
    w.start()
    check_stored(w, answered)


def test_below_the_floor_events_are_refused_before_the_disk_is_full(weir, small_disk):
    disk = small_disk(24)
    ballast = disk / "ballast"
    ballast.write_bytes(b"b" * 8 * MIB)
    w = weir("--disk-min-free", "4MiB", data=disk / "data")
    answered, refusal = fill_until_refused(w)
    check_refusal(refusal)
    check_not_ready(w)
    free = os.statvfs(disk)
    assert free.f_bavail * free.f_frsize >= 2 * MIB, "the floor keeps room for the work in hand"
    w.wait_drained()
    ballast.unlink()
    until(lambda: w.get("/readyz").status_code == 200, what="ready again by itself")
    until(accepts_again(w, "after"), what="accepts again")
    check_stored(w, [*answered, "after"])


@pytest.mark.slow
def test_load_on_a_disk_that_fills_and_empties_keeps_every_promise(weir, small_disk, tmp_path):
    disk = small_disk(24)
    w = weir("--disk-min-free", "0", data=disk / "data")
    history = History(tmp_path / "history")
    with Load(w, history, payload_bytes=500) as load:
        for turn in range(4):
            before = w.count("refused")
            with contextlib.suppress(OSError), open(disk / "ballast", "wb", buffering=0) as ballast:
                while ballast.write(b"b" * 65536) == 65536:
                    pass
            until(lambda: w.count("refused") > before, 20, what="the full disk refuses")
            answered = len(history.answered)
            (disk / "ballast").unlink()
            until(lambda: len(history.answered) > answered, what="accepts again")
        load.end()
        assert not load.unexpected, load.unexpected[:3]
    w.wait_drained()
    assert w.stop() == 0
    ids = weirlib.stored_ids(w.data)
    assert len(ids) == len(set(ids))
    assert set(history.answered) <= set(ids)


# fail-stop: what SQLite or the disk answers can no longer be believed


def check_fail_stop(w, deadline=15):
    assert w.wait(deadline) == 74, w.log_text()[-2000:]
    lines = w.log_text().strip().splitlines()
    assert "level=error" in lines[-1] and "event=fatal" in lines[-1], lines[-1]
    assert any(word in line.lower() for line in lines[-3:] for word in ("i/o error", "fsync")), lines


@pytest.mark.parametrize("order", ["syncerr", "eio"])
@pytest.mark.parametrize("suffix", ["-wal", "db"])
def test_a_failing_disk_stops_the_process_and_the_restart_recovers(
        weir, shim, tmp_path, order, suffix):
    fault = shim("-wal" if suffix == "-wal" else ".db")
    w = weir(env=fault.env)
    history = History(tmp_path / "history")
    with Load(w, history, payload_bytes=2000) as load:
        until(lambda: len(history.answered) > 100, what="the load gets answers")
        fault.order(order)
        failing_from = time.monotonic()
        check_fail_stop(w, 30)
        load.end()
    if suffix == "-wal":
        late = [i for i in history.answered if history.sent_at[i] > failing_from]
        assert not late, f"answered 202 though the disk failed: {late[:5]}"
    fault.clear()
    w.start()
    w.wait_drained()
    assert w.post(event("after")).status_code == 202
    assert w.stop() == 0
    ids = weirlib.stored_ids(w.data)
    assert len(ids) == len(set(ids))
    assert set(history.answered) <= set(ids)


def test_a_file_size_limit_is_an_error_of_the_disk(weir):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6 * MIB, 6 * MIB))

    w = weir(preexec=limit)
    answered = []
    with contextlib.suppress(weirlib.requests.exceptions.RequestException):
        for i in range(1000):
            answer = w.post(big(f"fill-{i:05}"))
            if answer.status_code == 202:
                answered.append(f"fill-{i:05}")
    check_fail_stop(w)
    assert len(answered) > 10
    w.preexec = None
    w.start()
    check_stored(w, answered)
