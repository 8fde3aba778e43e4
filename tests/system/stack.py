#!/usr/bin/python3
"""What `./dev stack` runs: RabbitMQ, Redis and PostgreSQL of one's own, one api and two workers on
them, until Ctrl-C (or SIGTERM); then all of it is taken down and its data removed.

    stack.py [--listen 127.0.0.1:3000] [--workers 2] [--setting value …]

Any other flag goes to the api and to the workers. WEIR: the binary (default build/weir).
WEIR_TEST_TMP: where the scratch folder is made (default /var/tmp)."""

import argparse
import contextlib
import os
import pathlib
import pty
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(__file__))

import servers  # noqa: E402
import weirlib  # noqa: E402

EXAMPLE = ('{"event_id":"evt_001","type":"GRIEVANCE","timestamp":"2026-02-03T12:30:00Z",'
           '"payload":{"message":"Water issue"}}')


class Stop(Exception):
    """Somebody asked for the end."""


def stop_on_signals():
    def stop(*_):
        for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C: no patience for order
            signal.signal(number, signal.default_int_handler)
        raise Stop
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def say(line=""):
    print(line, flush=True)


class Worker:
    """A weir worker on a terminal of its own, because only there it says what it processes."""

    def __init__(self, number, fleet, *flags):
        self.name = f"worker {number}"
        self.rest = ""
        self.screen, terminal = pty.openpty()
        os.set_blocking(self.screen, False)
        fleet(*flags, command="worker", listen=None, preexec=os.setsid, stdout=terminal)
        os.close(terminal)

    def show(self):
        with contextlib.suppress(OSError):  # nothing there
            self.rest += os.read(self.screen, 65536).decode(errors="replace")
        *lines, self.rest = self.rest.split("\n")
        for line in lines:
            say(f"{self.name}  {line.rstrip()}")


def run(listen, workers, flags):
    with contextlib.ExitStack() as down:  # what came last goes first: api and workers, then servers
        folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-stack-", dir=servers.SCRATCH))
        down.callback(shutil.rmtree, folder, ignore_errors=True)
        say("starting RabbitMQ, Redis and PostgreSQL …")
        backends = servers.Redis(), servers.Rabbit(management=True), servers.Postgres()
        for server in backends:
            down.callback(server.end)
        servers.start_all(*backends)
        redis, rabbit, postgres = backends
        postgres.create_database("weir")
        database = postgres.url_of("weir")
        migrated = weirlib.run("migrate", "--sink", database)
        if migrated.returncode != 0:
            raise RuntimeError(f"weir migrate: {migrated.stderr.strip()}")

        fleet = weirlib.Fleet(folder)
        down.callback(fleet.end)
        down.callback(take_down, fleet)
        common = ["--queue", rabbit.url, "--sink", database]
        crew = [Worker(n, fleet, *common, "--dedup", redis.url, *flags)
                for n in range(1, workers + 1)]
        api = fleet(*common, *flags, command="api", listen=listen, preexec=os.setsid)
        show_addresses(api, rabbit, redis, database, folder)
        watch(fleet, backends, crew)


def show_addresses(api, rabbit, redis, database, folder):
    say(f"""
API         {api.url}
RabbitMQ    {rabbit.url}
            http://127.0.0.1:{rabbit.management_port}/  (user guest, password guest)
Redis       {redis.url}
PostgreSQL  {database}
logs        {folder}

try         curl -i {api.url}/events -H 'Content-Type: application/json' -d '{EXAMPLE}'
            psql '{database}' -c 'SELECT * FROM events'
            redis-cli -p {redis.port} KEYS '*'

Ctrl-C takes all of it down, data included.
""")


def watch(fleet, backends, workers):
    """Shows what the workers say; fails when something ended that should not."""
    while True:
        for worker in workers:
            worker.show()
        for w in fleet.instances:
            if not w.running():
                raise RuntimeError(f"weir {w.command} ended with {w.proc.returncode}:\n"
                                   f"{w.log_text()[-2000:]}")
        for server in backends:
            if not server.running():
                raise RuntimeError(f"{server.name} ended:\n{server.tail()}")
        time.sleep(0.2)


def take_down(fleet):
    say("\ntaking everything down …")
    for w in reversed(fleet.instances):  # the api first
        if w.running():
            w.stop()


def main(argv):
    parser = argparse.ArgumentParser(
        prog="./dev stack", allow_abbrev=False,
        description="RabbitMQ, Redis and PostgreSQL of one's own, one api and some workers on "
                    "them, until Ctrl-C. Other flags go to weir api and weir worker.")
    parser.add_argument("--listen", default="127.0.0.1:3000", help="address of the API")
    parser.add_argument("--workers", type=int, default=2, help="how many (2)")
    options, flags = parser.parse_known_args(argv)
    stop_on_signals()
    try:
        run(options.listen, options.workers, flags)
    except (Stop, KeyboardInterrupt):
        return 0
    except (RuntimeError, AssertionError, OSError) as e:
        print(f"dev stack: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
