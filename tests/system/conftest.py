"""Fixtures of the system tests. `weir(*flags)` starts the binary named by WEIR (default
build/weir) on a port of its own with a data folder of its own; see weirlib.Weir.

A test that passes also has to leave books that balance (accepted = processed + duplicate + dead +
queued); `@pytest.mark.nobalance` says that a test has a reason to be excused. What still runs then
is stopped with SIGTERM and must end with 0, and no sanitizer may have complained.

`rabbit`, `redis` and `postgres` are real servers, private and shared by the tests of a session;
a test sees a vhost, an empty Redis and a migrated database of its own, and may kill(), start(),
pause(), resume() the server: afterwards it is made whole again. `stack` is all three, see
weirlib.Stack.

WEIR_TEST_TMP: where data folders are made (default /var/tmp; a real disk, not a tmpfs).
WEIR_TEST_SEED: the seed that a failed crash test printed. WEIR_TEST_KILLS: how many kills the long
crash test makes (default 20)."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import servers  # noqa: E402
import weirlib  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than a few seconds")
    config.addinivalue_line("markers", "nobalance: the counters need not balance at the end")
    config.addinivalue_line("markers", "sanitize: also run with the binaries of ASan and TSan")


def pytest_sessionstart(session):
    if not os.access(weirlib.binary(), os.X_OK):
        pytest.exit(f"{weirlib.binary()} is not there: build it, or name it by WEIR=…", 2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        item.call_failed = report.failed
    fleet = getattr(item, "funcargs", {}).get("weir")
    if report.failed and fleet is not None:
        report.sections.append(("weir's log", fleet.tail()))


@pytest.fixture
def tmp_path(request):
    """On a real disk, where fsync means something; kept when the test fails."""
    base = os.environ.get("WEIR_TEST_TMP", "/var/tmp")
    path = pathlib.Path(tempfile.mkdtemp(prefix="weir-test-", dir=base))
    yield path
    if getattr(request.node, "call_failed", True):
        print(f"kept: {path}")
    else:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory):
    library = tmp_path_factory.mktemp("shim") / "shim_fsync.so"
    source = pathlib.Path(__file__).with_name("shim_fsync.c")
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu17", "-O2", "-shared", "-fPIC", source,
                    "-o", library], check=True)
    return library


@pytest.fixture
def shim(shim_library, tmp_path):
    """shim(suffix): faults on demand for files whose path ends with it, see weirlib.Shim."""
    return lambda suffix: weirlib.Shim(shim_library, tmp_path, suffix)


# the servers


@pytest.fixture(scope="session")
def rabbit_server():
    with contextlib.closing(servers.Rabbit().start()) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server():
    with contextlib.closing(servers.Redis("--enable-debug-command", "local").start()) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server():
    with contextlib.closing(servers.Postgres().start()) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server):
    """The name of a migrated database: copying it is faster than migrating."""
    postgres_server.create_database("weir_template")
    done = weirlib.run("migrate", "--sink", postgres_server.url_of("weir_template"))
    assert done.returncode == 0, done.stderr
    return "weir_template"


@pytest.fixture
def rabbit(rabbit_server):
    vhost = servers.Vhost(rabbit_server)
    yield vhost
    rabbit_server.revive()
    rabbit_server.calm()
    vhost.delete()


@pytest.fixture
def redis(redis_server):
    redis_server.client().config_set("maxmemory", 0)
    redis_server.client().flushall()
    yield redis_server
    redis_server.revive()


@pytest.fixture
def postgres(postgres_server, postgres_template):
    yield from fresh_database(postgres_server, postgres_template)


@pytest.fixture
def postgres_empty(postgres_server):
    """A database without a table in it."""
    yield from fresh_database(postgres_server, "template1")


def fresh_database(server, template):
    database = servers.Database(server, template)
    yield database
    server.revive()
    database.drop()


@pytest.fixture
def stack(rabbit, redis, postgres, weir):
    return weirlib.Stack(weir, rabbit, redis, postgres)


@pytest.fixture
def weir(request, tmp_path):
    for server in ("rabbit", "redis", "postgres", "postgres_empty"):
        if server in request.fixturenames:
            request.getfixturevalue(server)  # set up first, so that it outlives what runs on it
    fleet = weirlib.Fleet(tmp_path)
    yield fleet
    try:
        if not getattr(request.node, "call_failed", True):
            if request.node.get_closest_marker("nobalance") is None:
                fleet.check_balance()
            fleet.stop()
            fleet.check_sanitizers()
    finally:
        fleet.end()


def pytest_collection_modifyitems(items):
    """What needs RabbitMQ, Redis or PostgreSQL is not for ./dev test --quick."""
    servers = {"rabbit", "redis", "postgres", "postgres_empty", "stack"}
    for item in items:
        if servers & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
