"""Starts the real binary and talks to it: what the system tests share."""

import collections
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import sqlite3
import subprocess
import threading
import time

import requests

REPO = pathlib.Path(__file__).resolve().parents[2]
SETTLED = ("processed", "duplicate", "dead")


def binary():
    return os.path.abspath(os.environ.get("WEIR", REPO / "build" / "weir"))


def until(fn, deadline=10.0, what=None, every=0.02):
    """Calls fn until it returns something true, and returns that; fails after `deadline` seconds.

    An answer that does not come (a refused or cut connection) counts as not yet."""
    end = time.monotonic() + deadline
    last = None
    while True:
        try:
            last = fn()
            if last:
                return last
        except requests.exceptions.RequestException as e:
            last = e
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what or fn.__name__}; last: {last!r}")
        time.sleep(every)


def event(event_id, payload=None, type="TEST", timestamp="2026-02-03T12:30:00Z"):
    return {
        "event_id": event_id,
        "type": type,
        "timestamp": timestamp,
        "payload": {"of": event_id} if payload is None else payload,
    }


def ndjson(events):
    return b"".join(json.dumps(e).encode() + b"\n" for e in events)


def find_number(value, *names):
    """The first number called one of `names`, at any depth of a JSON value; None when none is."""
    if not isinstance(value, dict):
        return None
    for name in names:
        if isinstance(value.get(name), (int, float)):
            return value[name]
    for inner in value.values():
        found = find_number(inner, *names)
        if found is not None:
            return found
    return None


def die_with_parent():
    """In the child, before exec: no test process outlives pytest."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


class Weir:
    """One `weir run` (or another subcommand) and its data folder."""

    def __init__(self, folder, flags, *, data, env, prefix, command, listen, preexec, terminal,
                 stdout):
        self.folder = pathlib.Path(folder)
        self.data = pathlib.Path(data)
        self.flags = list(flags)
        self.env = dict(env or {})
        self.prefix = list(prefix)
        self.command = command
        self.listen = listen
        self.preexec = preexec
        self.terminal = terminal
        self.stdout = stdout
        self.starts = 0
        self.proc = None
        self.url = None
        self.port = None
        self.log = None
        self.out = None
        self.was_new = False
        self._local = threading.local()

    # starting and ending

    def start(self, wait=True):
        self.was_new = not self.data.is_dir() or not any(self.data.iterdir())
        self.starts += 1
        self.log = self.folder / f"weir-{self.starts}.log"
        self.out = self.folder / f"weir-{self.starts}.out"
        argv = [*self.prefix, binary(), self.command, "--data", str(self.data)]
        if self.listen is not None:
            argv += ["--listen", self.listen]
        argv += self.flags
        with open(self.log, "wb") as err, open(self.out, "wb") as out:
            files = {"stdin": subprocess.DEVNULL, "stderr": err,
                     "stdout": out if self.stdout is None else self.stdout}
            if self.terminal is not None:
                files = dict.fromkeys(files, self.terminal)
            self.proc = subprocess.Popen(argv, **files, cwd=self.folder, env=self._environment(),
                                         preexec_fn=self._before_exec)
        self.url = self.port = None
        if wait:
            self.wait_until_up()
        return self

    def _environment(self):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WEIR")}
        return {**clean, **self.env}

    def _before_exec(self):
        die_with_parent()
        if self.preexec is not None:
            self.preexec()

    def wait_until_up(self, deadline=20):
        if self.command == "worker":  # it has no address: it says that it started
            until(self._has_started, deadline, what=f"{binary()} worker starts")
            return
        until(self._find_url, deadline, what=f"{binary()} prints its address")
        if self.listen is None or not self.listen.startswith("unix:"):
            until(lambda: self.get("/livez").status_code == 200, deadline, what="/livez is 200")

    def _fail_when_ended(self):
        if self.proc.poll() is not None:
            raise AssertionError(
                f"{binary()} ended with {self.proc.returncode}:\n{self.log_text()[-3000:]}")

    def _has_started(self):
        self._fail_when_ended()
        return re.search(r"\bevent=start\b|\"event\": ?\"start\"", self.log_text())

    def _find_url(self):
        self._fail_when_ended()
        text = self.out.read_text(errors="replace")
        found = re.search(r"http://(127\.0\.0\.1|\[[0-9a-f:]+\]|[a-z0-9.]+):(\d+)", text)
        if found:
            self.url = found.group(0)
            self.port = int(found.group(2))
            return True
        return bool(self.listen and self.listen.startswith("unix:") and "unix:" in text)

    @property
    def pid(self):
        return self.proc.pid

    @property
    def whole(self):
        """Everything that it accepts is also processed by it, and by nobody else."""
        return self.command == "run" and not any("amqp" in str(f) for f in self.flags)

    def running(self):
        return self.proc is not None and self.proc.poll() is None

    def stop(self, deadline=40, sig=signal.SIGTERM):
        """Asks it to end, waits, returns its exit code (negative: the signal that ended it)."""
        if self.running():
            self.proc.send_signal(sig)
        return self.wait(deadline)

    def kill(self):
        if self.running():
            self.proc.send_signal(signal.SIGKILL)
        return self.wait(10)

    def pause(self):
        self.proc.send_signal(signal.SIGSTOP)

    def resume(self):
        self.proc.send_signal(signal.SIGCONT)

    def wait(self, deadline=10):
        try:
            return self.proc.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {deadline} s") from None

    def restart(self, *flags, wait=True):
        """Starts again on the same folder (after stop() when it runs); flags replace the old."""
        if self.running():
            assert self.stop() == 0
        if flags:
            self.flags = list(flags)
        return self.start(wait=wait)

    # talking

    @property
    def session(self):
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False
        return self._local.session

    def request(self, method, path, **kw):
        kw.setdefault("timeout", 15)
        return self.session.request(method, self.url + path, **kw)

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, body, path="/events", content_type="application/json", **kw):
        """body: bytes as they are, anything else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": content_type, **kw.pop("headers", {})}
        return self.request("POST", path, data=raw, headers=headers, **kw)

    def post_ndjson(self, events, **kw):
        return self.post(ndjson(events), content_type="application/x-ndjson", **kw)

    def stats(self):
        r = self.get("/stats")
        assert r.status_code == 200, r.text
        return r.json()

    def count(self, *names):
        """Sum of counters of /stats."""
        stats = self.stats()
        values = [find_number(stats, n) for n in names]
        assert None not in values, f"/stats lacks one of {names}: {stats}"
        return sum(values)

    def depth(self):
        return find_number(self.stats(), "depth", "queue_depth")

    def show(self, event_id):
        """GET /events/{id}: the event, None when there is none."""
        r = self.get(f"/events/{event_id}")
        if r.status_code == 404:
            return None
        assert r.status_code == 200, r.text
        return r.json()

    def wait_state(self, event_id, state, deadline=10):
        def reached():
            seen = self.show(event_id)
            return seen if seen and find_state(seen) == state else None
        return until(reached, deadline, what=f"{event_id} is {state}")

    def wait_drained(self, deadline=30):
        until(lambda: self.depth() == 0, deadline, what="the queue is empty", every=0.05)

    # looking

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log and self.log.exists() else ""

    def out_text(self):
        return self.out.read_text(errors="replace") if self.out and self.out.exists() else ""

    def check_balance(self, deadline=20):
        """accepted = processed + duplicate + dead + queued: on a new folder exactly."""
        def balanced():
            s = self.stats()
            settled = sum(find_number(s, n) or 0 for n in SETTLED)
            left = find_number(s, "depth", "queue_depth") or 0
            accepted = find_number(s, "accepted")
            return accepted == settled + left if self.was_new else accepted <= settled + left
        until(balanced, deadline, what=f"the books balance: {self.stats()}", every=0.05)


def find_member(shown, name):
    """A member of an event as GET /events/{id} or the list shows it."""
    return shown[name] if name in shown else shown.get("event", {}).get(name)


def find_state(shown):
    return find_member(shown, "state")


def walk(w, page=1000):
    """Every event of GET /events, newest first, page by page."""
    query = {"limit": page}
    while True:
        r = w.get("/events", params=query)
        assert r.status_code == 200, r.text
        answer = r.json()
        yield from answer["events"]
        if "next" not in answer:
            return
        query["cursor"] = answer["next"]


def run(*argv, env=None, cwd=None, timeout=60, input=None):
    """Runs `weir argv…` to its end; stdout and stderr are text."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WEIR")}
    return subprocess.run(
        [binary(), *map(str, argv)], env={**clean, **(env or {})}, cwd=cwd, timeout=timeout,
        input=input, capture_output=True, text=True, preexec_fn=die_with_parent)


class Fleet:
    """Every instance that a test started; ends them all."""

    def __init__(self, folder):
        self.folder = folder
        self.instances = []

    def __call__(self, *flags, env=None, wait=True, data=None, prefix=(), command="run",
                 listen="127.0.0.1:0", preexec=None, terminal=None, stdout=None):
        number = len(self.instances)
        folder = self.folder / f"run{number}"
        folder.mkdir()
        w = Weir(folder, flags, data=data or self.folder / f"data{number}", env=env, prefix=prefix,
                 command=command, listen=listen, preexec=preexec, terminal=terminal, stdout=stdout)
        self.instances.append(w)
        return w.start(wait=wait)

    def check_balance(self):
        for w in self.instances:
            if w.whole and w.running() and w.url is not None and reachable(w):
                w.check_balance()

    def stop(self):
        for w in self.instances:
            if w.running():
                code = w.stop()
                assert code == 0, f"ended with {code} after SIGTERM"

    def check_sanitizers(self):
        words = re.compile("runtime error:|ERROR: [A-Za-z]+Sanitizer|WARNING: ThreadSanitizer")
        for log in self.folder.glob("run*/weir-*.log"):
            found = words.search(log.read_text(errors="replace"))
            assert found is None, f"{found.group(0)} in {log}:\n{log.read_text()[:5000]}"

    def end(self):
        for w in self.instances:
            if w.running():
                with contextlib.suppress(AssertionError):
                    w.kill()

    def tail(self, lines=60):
        parts = []
        for w in self.instances:
            text = w.log_text().splitlines()[-lines:]
            state = "running" if w.running() else f"exit code {w.proc and w.proc.returncode}"
            parts.append(f"--- {w.log} ({state})\n" + "\n".join(text))
        return "\n".join(parts)


def reachable(w):
    try:
        return w.get("/livez", timeout=5).status_code == 200
    except requests.exceptions.RequestException:
        return False


# a disk that fails on demand: see shim_fsync.c


class Shim:
    """Preload for one instance: weir(env=shim.env), then shim.order("eio"), shim.clear()."""

    def __init__(self, library, folder, suffix):
        self.sentinel = pathlib.Path(folder) / f"shim-order-{suffix.strip('-./')}"
        self.env = {
            "LD_PRELOAD": str(library),
            "SHIM_SENTINEL": str(self.sentinel),
            "SHIM_SUFFIX": suffix,
            "ASAN_OPTIONS": "verify_asan_link_order=0:" + os.environ.get("ASAN_OPTIONS", ""),
        }

    def order(self, word):
        fresh = self.sentinel.with_suffix(".new")
        fresh.write_text(word + "\n")
        fresh.rename(self.sentinel)

    def clear(self):
        self.sentinel.unlink(missing_ok=True)


# a connection of one's own


class Raw:
    """One TCP connection, to see what a client library hides."""

    def __init__(self, port, timeout=15):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)

    def send(self, data):
        self.sock.sendall(data)

    def send_post(self, body, headers="", path="/events"):
        self.send(post_head(len(body), headers, path) + body)

    def answer(self):
        """(status, headers, body) of the next answer; raises ConnectionError or
        http.client.HTTPException when the connection ends before or within it."""
        r = http.client.HTTPResponse(self.sock)
        r.begin()
        return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()

    def ended(self):
        """Waits for the other side's clean end; a reset raises ConnectionResetError."""
        return self.sock.recv(1) == b""

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def post_head(length, headers="", path="/events"):
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {length}\r\n{headers}\r\n").encode()


def unread_bytes(port):
    """(connections on that server port, bytes in them that the server has not read)."""
    mine = f":{port:04X}"
    established = "01"
    rows = [line.split() for line in open("/proc/net/tcp").readlines()[1:]]
    queued = [int(r[4].split(":")[1], 16) for r in rows
              if r[1].endswith(mine) and r[3] == established]
    return len(queued), sum(queued)


# the store's file, seen from outside


def database(data):
    """The one SQLite file in a data folder."""
    found = [p for p in pathlib.Path(data).iterdir()
             if p.is_file() and p.open("rb").read(16) == b"SQLite format 3\0"]
    assert len(found) == 1, f"one SQLite file in {data}: {found}"
    return found[0]


@contextlib.contextmanager
def open_database(data):
    db = sqlite3.connect(f"file:{database(data)}?mode=ro", uri=True, timeout=10)
    try:
        yield db
    finally:
        db.close()


def stored_ids(data):
    """The ids of the events that had their effect in the local sink, one per effect."""
    with open_database(data) as db:
        return [row[0] for row in db.execute("select event_id from events order by seq")]


def queued_ids(data):
    with open_database(data) as db:
        return [row[0] for row in db.execute("select event_id from queue order by seq")]


# load with a memory


class History:
    """What clients asked and what they were told: an id is asked before it is sent, and answered
    only after its 202 was read. Also written to a file, for whoever looks into a failure."""

    def __init__(self, path):
        self.file = open(path, "a", buffering=1)
        self.lock = threading.Lock()
        self.asked = {}     # id -> payload
        self.answered = {}  # id -> when its 202 was read
        self.sent_at = {}   # id -> when it was first sent

    def ask(self, events):
        with self.lock:
            now = time.monotonic()
            for e in events:
                self.asked.setdefault(e["event_id"], e["payload"])
                self.sent_at.setdefault(e["event_id"], now)
            self.file.write(f"{now:.6f} ask {' '.join(e['event_id'] for e in events)}\n")

    def ok(self, ids):
        with self.lock:
            now = time.monotonic()
            for i in ids:
                self.answered.setdefault(i, now)
            self.file.write(f"{now:.6f} ok {' '.join(ids)}\n")

    def unanswered(self):
        with self.lock:
            return [i for i in self.asked if i not in self.answered]


class Load:
    """Threads that post unique events, single and in batches, and send again what was not
    answered, and (`repeat`: how often) what was; `pace`: seconds between two requests of one. They
    follow the instance, or several by turns, over restarts. Ends with the `with` block."""

    def __init__(self, instance, history, *, threads=4, seed=0, batch=20, payload_bytes=60,
                 repeat=0.0, pace=0.0, name="load"):
        self.instances = instance if isinstance(instance, (list, tuple)) else [instance]
        self.history = history
        self.stopping = threading.Event()
        self.unexpected = []
        self.codes = collections.Counter()
        self.durability = collections.Counter()  # word of each 202
        self.slowest = 0.0                       # seconds to an answer
        self.batch = batch
        self.repeat = repeat
        self.pace = pace
        self.name = name
        self.filler = "x" * payload_bytes
        self.threads = [threading.Thread(target=self._work, args=(n, random.Random(f"{seed}/{n}")))
                        for n in range(threads)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.end()

    def end(self):
        self.stopping.set()
        for t in self.threads:
            t.join()

    def _work(self, number, rng):
        serial = 0
        doubtful = []
        answered = collections.deque(maxlen=50)
        while not self.stopping.is_set():
            if doubtful and rng.random() < 0.3:
                events = doubtful.pop()
            elif answered and rng.random() < self.repeat:
                events = rng.choice(answered)
            else:
                size = 1 if rng.random() < 0.5 else rng.randint(2, self.batch)
                events = [self._event(f"{self.name}-{number}-{serial + k}", rng)
                          for k in range(size)]
                serial += size
            w = self.instances[(number + serial) % len(self.instances)]
            (answered if self._send(w, events) else doubtful).append(events)
            if self.pace:
                self.stopping.wait(self.pace)

    def _event(self, event_id, rng):
        return event(event_id, {"of": event_id, "r": rng.random(), "filler": self.filler})

    def _send(self, w, events):
        """True when it is known what became of them."""
        url = w.url
        if url is None:
            self.stopping.wait(0.005)
            return False
        self.history.ask(events)
        single = len(events) == 1
        body = json.dumps(events[0] if single else events).encode()
        began = time.monotonic()
        try:
            r = w.session.post(url + "/events", data=body, timeout=15,
                               headers={"Content-Type": "application/json"})
        except requests.exceptions.RequestException:
            self.codes["no answer"] += 1
            self.stopping.wait(0.005)
            return False
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.codes[r.status_code] += 1
        if r.status_code == 202:
            self.durability[r.json()["durability"]] += 1
        ids = [e["event_id"] for e in events]
        if r.status_code == 202 and (single or r.json().get("accepted") == len(ids)):
            self.history.ok(ids)
            return True
        if r.status_code != 503:
            self.unexpected.append((r.status_code, r.text[:300]))
        self.stopping.wait(0.005)
        return False


# the pipeline over RabbitMQ, Redis and PostgreSQL


class Stack:
    """The three servers, as a test sees them (its own vhost, its own database), and the weir
    processes on them."""

    def __init__(self, fleet, rabbit, redis, postgres):
        self.fleet = fleet
        self.rabbit = rabbit
        self.redis = redis
        self.postgres = postgres

    def api(self, *flags, **kw):
        return self.fleet("--queue", self.rabbit.url, "--sink", self.postgres.url, *flags,
                          command="api", **kw)

    def worker(self, *flags, **kw):
        return self.fleet("--queue", self.rabbit.url, "--dedup", self.redis.url, "--sink",
                          self.postgres.url, *flags, command="worker", listen=None, **kw)

    def rows(self, where="true", columns="event_id"):
        return self.postgres.query(f"select {columns} from events where {where}")

    def wait_rows(self, ids, deadline=30):
        """Waits until each of the ids has its row."""
        wanted = set(ids)

        def there():
            return wanted <= {row[0] for row in self.rows()}
        until(there, deadline, what=f"{len(wanted)} events have their rows", every=0.1)

    def check(self, history, deadline=60):
        """The verdict: every 202 has exactly one row with the payload that was sent; no id has
        two; no row is one that nobody sent; nothing waits and nothing is dead."""
        answered = set(history.answered)
        assert answered, "nothing was answered 202: this proves nothing"
        self._stop("api")
        self._wait_stored(answered, deadline)
        # what was not answered may have arrived all the same, and repeats wait behind it
        until(lambda: self.depths(("events.ingest",)) == {"events.ingest": 0}, deadline,
              what=f"the queue is empty: {self.depths()}", every=0.1)
        self._stop("worker")  # an unacked message waits again once its consumer is gone
        rows = self.rows(columns="event_id, payload")
        counts = collections.Counter(row[0] for row in rows)
        twice = [i for i, n in counts.items() if n > 1]
        assert not twice, f"{len(twice)} ids have two rows: {twice[:5]}"
        unknown = [i for i in counts if i not in history.asked]
        assert not unknown, f"rows that nobody sent: {unknown[:5]}"
        changed = [i for i, payload in rows if payload != history.asked[i]]
        assert not changed, f"another payload than sent: {changed[:5]}"
        assert self.depths() == {"events.ingest": 0, "events.dlq": 0}

    def _stop(self, command):
        for w in self.fleet.instances:
            if w.command == command and w.running():
                assert w.stop() == 0, f"{w.command} ended with {w.proc.returncode}"

    def _wait_stored(self, ids, deadline):
        end = time.monotonic() + deadline
        while True:
            lost = ids - {row[0] for row in self.rows()}
            if not lost:
                return
            assert time.monotonic() < end, (
                f"{len(lost)} of {len(ids)} answered events have no row: {sorted(lost)[:5]}; "
                f"queues: {self.depths()}")
            time.sleep(0.1)

    def depths(self, queues=("events.ingest", "events.dlq")):
        """Messages ready in each queue."""
        with contextlib.closing(self.rabbit.pika()) as connection:
            channel = connection.channel()
            return {q: channel.queue_declare(q, passive=True).method.message_count for q in queues}
