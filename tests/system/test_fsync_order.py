"""202 means durable: in the order of system calls, each event's write to the write-ahead log is
followed by a sync of that log that ends well, and only then the 202 is written to the socket."""

import re
import shutil
import subprocess
import threading

import pytest

from weirlib import event, until

TRACED = "read,readv,recvfrom,write,writev,sendto,sendmsg,pwrite64,pwritev,fdatasync,fsync"
WRITES = ("write", "writev", "sendto", "sendmsg")
SYNCS = ("fdatasync", "fsync")

WHOLE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
BEGUN = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
ENDED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)")
FILE = re.compile(r"^\d+<([^>]*)>")
ANSWER = re.compile(r'HTTP/1\.1 202.*\\"event_id\\":\\"([^"\\]+)\\"', re.S)


class Call:
    def __init__(self, name, text, begin):
        self.name = name
        self.text = text
        self.begin = begin
        self.end = None
        self.result = None
        found = FILE.match(text)
        self.file = found.group(1) if found else ""


def parse(lines):
    """The calls in the order in which they began; begin and end are places in the trace."""
    calls = []
    open_calls = {}
    for place, line in enumerate(lines):
        if m := BEGUN.match(line):
            open_calls[m[1]] = Call(m[2], m[3], place)
            calls.append(open_calls[m[1]])
        elif m := ENDED.match(line):
            call = open_calls.pop(m[1], None)
            if call is not None:
                call.text += m[3]
                call.end, call.result = place, int(m[4])
        elif m := WHOLE.match(line):
            call = Call(m[2], m[3], place)
            call.end, call.result = place, int(m[4])
            calls.append(call)
    return calls


def find_answers(calls):
    """{event id: the call that wrote its 202}."""
    found = {}
    for call in calls:
        if call.name in WRITES and (m := ANSWER.search(call.text)):
            found.setdefault(m[1], call)
    return found


def check(lines, ids):
    """What is wrong, in words; empty when every id's 202 came after its sync. No id may be the
    beginning of another."""
    calls = parse(lines)
    answers = find_answers(calls)
    log_writes = [c for c in calls if c.name.startswith("pwrite") and c.file.endswith("-wal")
                  and c.end is not None and c.result > 0]
    syncs = [c for c in calls if c.name in SYNCS and c.file.endswith("-wal")
             and c.end is not None and c.result == 0]
    errors = []
    for event_id in ids:
        answer = answers.get(event_id)
        if answer is None:
            errors.append(f"{event_id}: no 202 in the trace")
            continue
        written = next((c for c in log_writes if event_id in c.text), None)
        if written is None or written.end >= answer.begin:
            errors.append(f"{event_id}: not written to the log before its 202")
        elif not any(written.end < s.begin and s.end < answer.begin for s in syncs):
            errors.append(f"{event_id}: no sync of the log between its write and its 202")
    return errors


@pytest.fixture
def traced(weir, tmp_path):
    """traced(**kw): posts 150 events from three connections to a traced instance; (trace, ids)."""
    strace = shutil.which("strace")
    assert strace, "strace is needed"

    def run(**kw):
        out = tmp_path / "trace"
        w = weir(prefix=[strace, "-D", "-f", "-y", "-s", "70000", "-o", str(out),
                         "-e", f"trace={TRACED}"], **kw)
        ids = [f"order-{t}-{i:03}" for t in range(3) for i in range(50)]
        codes = []

        def post(part):
            codes.extend(w.post(event(i)).status_code for i in part)

        threads = [threading.Thread(target=post, args=(ids[n * 50:n * 50 + 50],))
                   for n in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert codes == [202] * 150
        w.wait_drained()
        assert w.stop() == 0
        until(lambda: "+++ exited with 0 +++" in out.read_text(errors="replace")[-4000:],
              what="the trace is complete")
        return out.read_text(errors="replace").splitlines(), ids

    return run


def test_no_202_is_written_before_the_sync_that_makes_it_true(traced):
    trace, ids = traced()
    assert check(trace, ids) == []
    check_that_doctored_traces_fail(trace, ids)


def check_that_doctored_traces_fail(trace, ids):
    """The same trace without its syncs, with failed syncs, and with its 202s too early."""
    is_sync = re.compile(r"\b(fdatasync|fsync)\b")
    assert len(check([line for line in trace if not is_sync.search(line)], ids)) == 150
    failed = [re.sub(r"= 0$", "= -1 EIO (Input/output error)", line)
              if is_sync.search(line) else line for line in trace]
    assert len(check(failed, ids)) == 150
    answers = [line for line in trace if "HTTP/1.1 202" in line]
    rest = [line for line in trace if "HTTP/1.1 202" not in line]
    assert len(check(answers + rest, ids)) == 150


def test_a_binary_that_only_says_that_it_synced_is_caught(traced, shim):
    liar = shim("-wal")
    liar.order("skip")
    trace, ids = traced(env=liar.env)
    assert len(check(trace, ids)) == 150


EXAMPLE = r"""
10 read(9<socket:[1]>, "POST /events ... \"event_id\":\"a-1\" ...", 65536) = 200
11 pwrite64(5</d/weir.db-wal>, "\0\1a-1T{}", 4096, 32) = 4096
11 fdatasync(5</d/weir.db-wal> <unfinished ...>
10 read(9<socket:[1]>, 0x7f, 65536) = -1 EAGAIN (Resource temporarily unavailable)
11 <... fdatasync resumed>) = 0
10 write(9<socket:[1]>, "HTTP/1.1 202 Accepted\r\n\r\n{\"event_id\":\"a-1\"}", 70) = 70
""".strip().splitlines()


def test_the_checker_accepts_the_right_order():
    assert check(EXAMPLE, ["a-1"]) == []


@pytest.mark.parametrize("order", [
    [0, 1, 2, 5, 3, 4],  # answered while the sync runs
    [0, 2, 3, 4, 1, 5],  # synced before the write
    [0, 2, 1, 3, 4, 5],  # the sync began before the write
    [0, 5, 1, 2, 3, 4],  # answered first
    [0, 1, 3, 5],        # no sync
    [0, 2, 3, 4, 5],     # no write
], ids=lambda order: "".join(map(str, order)))
def test_the_checker_refuses_a_wrong_order(order):
    assert len(check([EXAMPLE[n] for n in order], ["a-1"])) == 1


def test_the_checker_refuses_the_sync_of_another_file():
    doctored = [line.replace("fdatasync(5</d/weir.db-wal>", "fdatasync(5</d/weir.db>")
                for line in EXAMPLE]
    assert len(check(doctored, ["a-1"])) == 1
