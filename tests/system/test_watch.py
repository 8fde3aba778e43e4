"""What `weir run` prints on a terminal while events flow."""

import fcntl
import math
import os
import pty
import re
import signal
import termios
import threading
import time

import pytest

import weirlib
from test_seed import SEED
from weirlib import event, until

EVENT_LINE = re.compile(r"^(processed|duplicate|dead) +(\S+)")
OWN_STYLE = re.compile(r"^\x1b\[[0-9;]*m|\x1b\[0?m$")


class Terminal:
    """`weir run` under a pseudo terminal: its lines with the time at which each came."""

    def __init__(self, weir, *flags, env=None):
        self.lines = []
        self.master, slave = pty.openpty()

        def take_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.w = weir(*flags, wait=False, env={"TERM": "xterm", **(env or {})},
                      preexec=take_terminal, terminal=slave)
        os.close(slave)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.w.url = until(self._address, what="the address on the terminal")
        self.w.port = int(self.w.url.rsplit(":", 1)[1])

    def _read(self):
        rest = b""
        while True:
            try:
                got = os.read(self.master, 65536)
            except OSError:  # the other side is closed
                return
            rest += got
            *whole, rest = rest.split(b"\n")
            now = time.monotonic()
            self.lines += [(now, OWN_STYLE.sub("", line.decode(errors="replace")).rstrip("\r"))
                           for line in whole]

    def _address(self):
        found = re.search(r"http://127\.0\.0\.1:\d+", self.text())
        return found and found.group(0)

    def text(self):
        return "\n".join(line for _, line in self.lines)

    def events(self):
        return [(at, *m.groups()) for at, line in list(self.lines)
                if (m := EVENT_LINE.match(line))]

    def press(self, key):
        os.write(self.master, key)

    def close(self):
        self.reader.join(5)
        os.close(self.master)


@pytest.fixture
def terminal(weir):
    made = []

    def make(*flags, **kw):
        made.append(Terminal(weir, *flags, **kw))
        return made[-1]

    yield make
    for t in made:
        t.w.kill()
        t.close()


@pytest.mark.sanitize
def test_each_event_has_a_line_that_says_what_became_of_it(terminal):
    t = terminal()
    t.w.post(SEED)
    until(lambda: [e[1:] for e in t.events()] == [("processed", "evt_001")], what=t.text())
    t.w.post(SEED)
    until(lambda: [e[1:] for e in t.events()][1:] == [("duplicate", "evt_001")], what=t.text())


def test_many_events_have_at_most_twenty_lines_a_second_and_a_summary(terminal):
    t = terminal()
    began = time.monotonic()
    sent = 0
    while time.monotonic() - began < 2.5:
        t.w.post_ndjson([event(f"many-{sent + i}") for i in range(200)])
        sent += 200
    until(lambda: t.w.count("processed") == sent, what="all are processed")
    until(lambda: len(summaries(t)) >= 2, what="a summary line per second")
    seconds = t.lines[-1][0] - began
    shown = t.events()
    touched = math.ceil(seconds) + 1  # seconds of the program's clock that ours can touch
    assert 20 <= len(shown) <= 20 * touched, f"{len(shown)} lines in {seconds:.1f} s"
    assert len(summaries(t)) <= seconds + 1


def summaries(t):
    """Lines that are neither an event's nor a log line, and tell a number."""
    head = [i for i, (_, line) in enumerate(t.lines) if "curl" in line][0]
    return [line for _, line in t.lines[head + 1:]
            if not EVENT_LINE.match(line) and re.search(r"\d", line) and "level=" not in line]


def test_control_characters_in_an_id_do_not_reach_the_terminal(terminal):
    t = terminal()
    for event_id in ("a\x1b[31mb", "a\nprocessed forged", "a\u009b31mb", "a\x7fb", "a\u2028b"):
        assert t.w.post(event(event_id)).status_code in (202, 400)
    t.w.post(SEED)
    until(lambda: ("processed", "evt_001") in [e[1:] for e in t.events()], what=t.text())
    assert "forged" not in [e[2] for e in t.events()]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffd]", t.text())


@pytest.mark.sanitize
def test_ctrl_c_drains_and_ends_well(terminal):
    t = terminal()
    t.w.post_ndjson([event(f"c-{i}") for i in range(100)])
    t.press(b"\x03")
    assert t.w.wait(30) == 0
    kept = weirlib.stored_ids(t.w.data) + weirlib.queued_ids(t.w.data)
    assert sorted(kept) == sorted(f"c-{i}" for i in range(100))


def test_without_a_terminal_no_event_has_a_line(weir):
    w = weir()
    w.post(SEED)
    w.wait_state("evt_001", "processed")
    assert w.stop(sig=signal.SIGINT) == 0
    assert not EVENT_LINE.search(w.out_text()) and "processed evt_001" not in w.log_text()
    assert len(w.out_text().splitlines()) == 3, w.out_text()
