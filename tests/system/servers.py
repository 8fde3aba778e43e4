#!/usr/bin/python3
"""Private RabbitMQ, Redis and PostgreSQL servers from Debian's packages.

    rabbit, redis, postgres = Rabbit(), Redis(), Postgres()
    start_all(rabbit, redis, postgres)          # side by side; rabbit.start() starts one
    rabbit.url, redis.url, postgres.url
    rabbit.kill(); rabbit.start()               # SIGKILL of the server itself; same data, same port
    rabbit.pause(); rabbit.resume()             # SIGSTOP, SIGCONT
    rabbit.stop()                               # SIGTERM, in order

Each keeps its data, log and pid in a folder of its own below WEIR_TEST_TMP (default /var/tmp),
listens on free ports of 127.0.0.1 only, and dies with the process that started it. Nothing of the
machine is touched: no service, no /etc, no home folder, no other node.

By hand, and for tests in C: servers.py [rabbit] [redis] [postgres] -- COMMAND ARGUMENT…
starts those servers, runs the command with their addresses in WEIR_TEST_AMQP, WEIR_TEST_REDIS and
WEIR_TEST_POSTGRES (and their pids in WEIR_TEST_…_PID), ends them, and ends with its code."""

import atexit
import contextlib
import ctypes
import glob
import os
import pathlib
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

SCRATCH = os.environ.get("WEIR_TEST_TMP", "/var/tmp")


def free_ports(count):
    """Ports below those that the kernel gives to connections: one of those could take the port of
    a server that is down for a moment, and a client that tries it could even meet itself."""
    first_of_kernel = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")
                          .read_text().split()[0])
    low, high = (10000, first_of_kernel) if first_of_kernel > 12000 else (49152, 65536)
    ports = set()
    while len(ports) < count:
        port = random.SystemRandom().randrange(low, high)
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            ports.add(port)
    return list(ports)


def die_with_parent():
    """In the child, before exec. A session of its own: a Ctrl-C at the terminal is not its."""
    os.setsid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


class Server:
    """What the three have in common. A subclass names itself, says how it is launched (_launch)
    and whether it answers (_answers)."""

    name = "server"

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"weir-{self.name}-", dir=SCRATCH))
        self.folder.chmod(0o711)
        self.log = self.folder / "log"
        self.proc = None
        self.paused = False
        atexit.register(self.end)

    def begin(self):
        """Starts it without waiting; from the main thread, since it dies with its parent thread."""
        assert not self.running(), f"{self.name} runs already"
        self.paused = False
        self._launch()

    def start(self, deadline=60):
        self.begin()
        return self.wait(deadline)

    def wait(self, deadline=60):
        """Waits until it answers."""
        end = time.monotonic() + deadline
        while not self._answers():
            if not self.running():
                raise RuntimeError(f"{self.name} ended with {self.proc.returncode}:\n{self.tail()}")
            if time.monotonic() > end:
                raise RuntimeError(f"{self.name} not up within {deadline} s:\n{self.tail()}")
            time.sleep(0.02)
        return self

    def _popen(self, argv, *, env=None, preexec=die_with_parent):
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         env=env, cwd=self.folder, preexec_fn=preexec)

    @property
    def pid(self):
        return self.proc.pid

    def running(self):
        return self.proc is not None and self.proc.poll() is None

    def stop(self, deadline=30):
        """SIGTERM, and waits for its end; SIGKILL when that does not come."""
        if self.running():
            self.resume()
            self.proc.send_signal(self._stop_signal())
            try:
                self.proc.wait(deadline)
            except subprocess.TimeoutExpired:
                self.kill()

    def _stop_signal(self):
        return signal.SIGTERM

    def kill(self):
        if self.running():
            self.proc.kill()
            self.proc.wait(10)
        self.paused = False

    def pause(self):
        self.proc.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.paused and self.running():
            self.proc.send_signal(signal.SIGCONT)
        self.paused = False

    def revive(self):
        """Makes it run and answer, whatever a test did to it."""
        self.resume()
        if not self.running():
            self.begin()
        self.wait()

    def end(self):
        """Stops it for good, at once, and removes its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self):
        self.end()

    def tail(self, size=3000):
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")[-size:]
        return ""


def start_all(*servers):
    for s in servers:
        s.begin()
    for s in servers:
        s.wait()


# RabbitMQ


RABBIT_BIN = pathlib.Path("/usr/lib/rabbitmq/bin")


class Rabbit(Server):
    """A node of its own with an epmd of its own. rabbitmqctl takes about a second a call, so what
    tests need often is asked through erl_call instead, in about 20 ms, where it is installed."""

    name = "rabbit"

    def __init__(self, management=False, settings=()):
        super().__init__()
        count = 4 if management else 3
        self.port, self.epmd_port, self.dist_port, *more = free_ports(count)
        self.management_port = more[0] if more else None
        self.node = f"weir{self.port}@localhost"
        self.cookie = secrets.token_hex(10)
        self.epmd = None
        self._write_config(settings)

    def _write_config(self, settings):
        for sub in ("home", "mnesia", "logs"):
            (self.folder / sub).mkdir()
        cookie = self.folder / "home" / ".erlang.cookie"
        cookie.write_text(self.cookie)
        cookie.chmod(0o400)
        plugins = "rabbitmq_management" if self.management_port else ""
        (self.folder / "enabled_plugins").write_text(f"[{plugins}].\n")
        lines = [f"listeners.tcp.1 = 127.0.0.1:{self.port}",
                 "log.console = true", "log.console.level = warning", "log.file = false",
                 "raft.wal_max_size_bytes = 64000000", "disk_free_limit.absolute = 50MB",
                 "vm_memory_high_watermark.absolute = 1GB", "loopback_users.guest = true"]
        if self.management_port:
            lines += [f"management.tcp.port = {self.management_port}",
                      "management.tcp.ip = 127.0.0.1"]
        (self.folder / "rabbitmq.conf").write_text("\n".join([*lines, *settings]) + "\n")

    def _env(self):
        mine = {k: v for k, v in os.environ.items()
                if not re.match("RABBITMQ_|ERL_|NOTIFY_SOCKET", k)}
        at = self.folder
        return {**mine,
                "HOME": str(at / "home"), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8",
                "ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
                "RUNNING_UNDER_SYSTEMD": "true",  # the script execs: the pid is the server's own
                "RABBITMQ_NODENAME": self.node, "RABBITMQ_ERLANG_COOKIE": self.cookie,
                "RABBITMQ_NODE_PORT": str(self.port), "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
                "RABBITMQ_DIST_PORT": str(self.dist_port),
                "RABBITMQ_CONF_ENV_FILE": "/dev/null",
                "RABBITMQ_CONFIG_FILE": str(at / "rabbitmq"),
                "RABBITMQ_ADVANCED_CONFIG_FILE": str(at / "advanced"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(at / "enabled_plugins"),
                "RABBITMQ_MNESIA_BASE": str(at / "mnesia"), "RABBITMQ_LOG_BASE": str(at / "logs"),
                "RABBITMQ_PID_FILE": str(at / "pid"),
                # two schedulers that do not spin, and the node's own port on loopback only
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                    "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none "
                    "-kernel inet_dist_use_interface {127,0,0,1}",
                "RABBITMQ_CTL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"}

    def _launch(self):
        if self.epmd is None or self.epmd.poll() is not None:
            # -relaxed_command_check would let anyone stop it; it ends by its pid
            self.epmd = subprocess.Popen(
                ["epmd", "-address", "127.0.0.1", "-port", str(self.epmd_port)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                preexec_fn=die_with_parent)
            self._wait_port(self.epmd_port)
        self._popen([RABBIT_BIN / "rabbitmq-server"], env=self._env())

    @staticmethod
    def _wait_port(port, deadline=5):
        end = time.monotonic() + deadline
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                s.settimeout(2)
                s.sendall(b"AMQP\x00\x00\x09\x01")
                return s.recv(1) == b"\x01"  # connection.start
        except OSError:
            return False

    def _write_names(self):
        """RabbitMQ 3.10 writes the name of a new quorum queue to disk up to half a second after it
        declared it. Killed before that it keeps a queue without members, which nobody can use or
        mend; that is no fault of ours, and not what tests are about. So before a test does its
        worst the names are written."""
        if self.running() and not self.paused:
            with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
                self.eval("[dets:sync(T) || T <- dets:all()].", timeout=5)

    def kill(self):
        self._write_names()
        super().kill()

    def pause(self):
        self._write_names()
        super().pause()

    def end(self):
        super().kill()
        super().end()
        if self.epmd is not None and self.epmd.poll() is None:
            self.epmd.kill()
            self.epmd.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def ctl(self, *args, check=True):
        """rabbitmqctl with those arguments; returns its output."""
        done = subprocess.run([RABBIT_BIN / "rabbitmqctl", "-q", *map(str, args)], env=self._env(),
                              capture_output=True, text=True, timeout=60)
        if check and done.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {args}: {done.stdout}{done.stderr}")
        return done.stdout

    def eval(self, expression, timeout=60):
        """An Erlang expression in the server; returns the result as Erlang prints it."""
        if shutil.which("erl_call") is None:
            return self.ctl("eval", expression).strip()
        for _ in range(5):  # a call that follows another at once is now and then not let in
            me = "call" + secrets.token_hex(4)
            done = subprocess.run(["erl_call", "-h", me, "-n", self.node, "-c", self.cookie, "-e"],
                                  env=self._env(), input=expression + "\n", capture_output=True,
                                  text=True, timeout=timeout)
            if done.returncode == 0 or "failed to connect" not in done.stderr:
                break
        if done.returncode != 0 or not done.stdout.startswith("{ok, "):
            raise RuntimeError(f"{expression}: {done.stdout}{done.stderr}")
        return done.stdout[len("{ok, "):-1]

    def add_vhost(self, name):
        """A fresh vhost where guest may do everything."""
        self.eval(f'rabbit_vhost:add(<<"{name}">>, <<"test">>), '
                  f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, '
                  f'<<".*">>, <<".*">>, <<".*">>, <<"test">>).')

    def delete_vhost(self, name):
        self.eval(f'rabbit_vhost:delete(<<"{name}">>, <<"test">>).')

    def url_of(self, vhost="/", user="guest", password="guest"):
        path = "" if vhost == "/" else urllib.parse.quote(vhost, safe="")
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{path}"

    @property
    def url(self):
        return self.url_of()

    def pika(self, vhost="/"):
        """A blocking connection of pika's."""
        import pika
        return pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", self.port, vhost, pika.PlainCredentials("guest", "guest"),
            heartbeat=0, blocked_connection_timeout=30))

    def set_heartbeat(self, seconds):
        """What it proposes to new connections; the smaller of two proposals counts."""
        self.eval(f"application:set_env(rabbit, heartbeat, {seconds}).")

    def calm(self):
        """No alarm and the usual heartbeat, whatever a test set."""
        self.eval("vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1000000000}), "
                  "rabbit_disk_monitor:set_disk_free_limit(50000000), "
                  "application:set_env(rabbit, heartbeat, 60).")


class Vhost:
    """A vhost of its own on a shared node; everything else is the node's."""

    def __init__(self, server):
        self.server = server
        self.name = "test-" + secrets.token_hex(4)
        server.add_vhost(self.name)

    def __getattr__(self, name):
        return getattr(self.server, name)

    @property
    def url(self):
        return self.server.url_of(self.name)

    def pika(self):
        return self.server.pika(self.name)

    def delete(self):
        self.server.delete_vhost(self.name)


# Redis


class Redis(Server):
    name = "redis"

    def __init__(self, *settings):
        super().__init__()
        (self.port,) = free_ports(1)
        self.settings = settings

    def _launch(self):
        self._popen(["redis-server", "--bind", "127.0.0.1", "--port", str(self.port),
                     "--save", "", "--appendonly", "no", "--dir", str(self.folder),
                     "--loglevel", "warning", *self.settings])

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                s.settimeout(2)
                s.sendall(b"PING\r\n")
                return s.recv(1) in (b"+", b"-")
        except OSError:
            return False

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def client(self, **kw):
        import redis
        return redis.Redis(host="127.0.0.1", port=self.port, decode_responses=True, **kw)


# PostgreSQL


def postgres_bin():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"),
                   key=lambda p: int(p.split("/")[4]))
    if not found:
        raise RuntimeError("no /usr/lib/postgresql/*/bin/postgres: install postgresql")
    return pathlib.Path(found[-1]).parent


class Postgres(Server):
    """User and password are both weir. fsync is on: that is what the tests are about."""

    name = "postgres"
    user = password = "weir"

    def __init__(self, *settings):
        super().__init__()
        (self.port,) = free_ports(1)
        self.data = self.folder / "data"
        self.settings = settings
        self._init()

    def _as_owner(self, argv, pdeathsig=False):
        """PostgreSQL refuses to run as root."""
        if os.getuid() != 0:
            return argv
        sign = ["--pdeathsig", "KILL"] if pdeathsig else []  # a change of user forgets ours
        return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", *sign,
                "--", *argv]

    def _init(self):
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        secret = self.folder / "password"
        secret.write_text(self.password + "\n")
        secret.chmod(0o644)
        done = subprocess.run(
            self._as_owner([postgres_bin() / "initdb", "-D", self.data, "-U", self.user,
                            "--auth", "scram-sha-256", "--pwfile", secret, "--no-sync",
                            "--no-instructions", "--locale", "C.UTF-8", "--encoding", "UTF8"]),
            capture_output=True, text=True, cwd=self.folder)
        if done.returncode != 0:
            raise RuntimeError(f"initdb: {done.stdout}{done.stderr}")

    def _launch(self):
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "fsync": "on",
                   "unix_socket_directories": self.folder, "max_connections": 200,
                   "shared_buffers": "64MB", "log_min_messages": "warning",
                   "log_line_prefix": "%m [%p] %d ", "password_encryption": "scram-sha-256"}
        argv = [postgres_bin() / "postgres", "-D", self.data]
        for key, value in options.items():
            argv += ["-c", f"{key}={value}"]
        for setting in self.settings:
            argv += ["-c", setting]
        self._popen(self._as_owner(argv, pdeathsig=True))

    def _answers(self):
        import psycopg2
        try:
            self.connect().close()
            return True
        except psycopg2.OperationalError:
            return False

    def _stop_signal(self):
        return signal.SIGINT  # "fast": ends sessions; SIGTERM would wait for them

    def kill(self):
        """SIGKILL of the postmaster; its children notice and end, and are waited for."""
        if self.running():
            children = children_of(self.pid)
            self.resume()
            self.proc.kill()
            self.proc.wait(10)
            wait_gone(children)
        self.paused = False

    def end(self):
        if self.running():
            self.resume()
            self.proc.send_signal(signal.SIGQUIT)  # "immediate": it ends its children itself
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.proc.wait(5)
        super().end()

    def url_of(self, database, password=None):
        return (f"postgresql://{self.user}:{password or self.password}@127.0.0.1:{self.port}/"
                f"{database}")

    @property
    def url(self):
        return self.url_of("postgres")

    def connect(self, database="postgres", autocommit=True):
        import psycopg2
        db = psycopg2.connect(self.url_of(database), connect_timeout=5)
        db.autocommit = autocommit
        return db

    def query(self, sql, *args, database="postgres"):
        with contextlib.closing(self.connect(database)) as db, db.cursor() as cursor:
            cursor.execute(sql, args or None)
            return cursor.fetchall() if cursor.description else None

    def create_database(self, name, template="template1"):
        self.query(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def drop_database(self, name):
        self.query(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


class Database:
    """A database of its own on a shared server; everything else is the server's."""

    def __init__(self, server, template):
        self.server = server
        self.name = "test_" + secrets.token_hex(4)
        server.create_database(self.name, template)

    def __getattr__(self, name):
        return getattr(self.server, name)

    @property
    def url(self):
        return self.server.url_of(self.name)

    def connect(self, **kw):
        return self.server.connect(self.name, **kw)

    def query(self, sql, *args):
        return self.server.query(sql, *args, database=self.name)

    def drop(self):
        self.server.drop_database(self.name)


def children_of(pid):
    """[(pid, start time)] of its direct children."""
    found = []
    for stat in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError):
            head, rest = pathlib.Path(stat).read_text().rsplit(")", 1)
            fields = rest.split()
            if int(fields[1]) == pid:
                found.append((int(head.split()[0]), fields[19]))
    return found


def wait_gone(processes, deadline=10):
    def alive(pid, started):
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            return fields[19] == started and fields[0] != "Z"
        return False

    end = time.monotonic() + deadline
    while any(alive(*p) for p in processes):
        assert time.monotonic() < end, f"children of a killed server stay: {processes}"
        time.sleep(0.01)


# by hand, and for tests in C


KINDS = {"rabbit": (Rabbit, "AMQP"), "redis": (Redis, "REDIS"), "postgres": (Postgres, "POSTGRES")}


def main(argv):
    if "--" not in argv or not set(argv[:argv.index("--")]) <= set(KINDS):
        print(__doc__, file=sys.stderr)
        return 2
    cut = argv.index("--")
    env = dict(os.environ)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    servers = {name: KINDS[name][0]() for name in argv[:cut]}
    try:
        start_all(*servers.values())
        for name, server in servers.items():
            env[f"WEIR_TEST_{KINDS[name][1]}"] = server.url
            env[f"WEIR_TEST_{KINDS[name][1]}_PID"] = str(server.pid)
        return subprocess.run(argv[cut + 1:], env=env).returncode
    except KeyboardInterrupt:
        return 130
    finally:
        for server in servers.values():
            server.end()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
