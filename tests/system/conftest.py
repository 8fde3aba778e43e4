"""Fixtures of the system tests. `weir(*flags)` starts the binary named by WEIR (default
build/weir) on a port of its own with a data folder of its own; see weirlib.Weir.

A test that passes also has to leave books that balance (accepted = processed + duplicate + dead +
queued); `@pytest.mark.nobalance` says that a test has a reason to be excused. What still runs then
is stopped with SIGTERM and must end with 0, and no sanitizer may have complained.

WEIR_TEST_TMP: where data folders are made (default /var/tmp; a real disk, not a tmpfs).
WEIR_TEST_SEED: the seed that a failed crash test printed. WEIR_TEST_KILLS: how many kills the long
crash test makes (default 20)."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))

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


@pytest.fixture
def weir(request, tmp_path):
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
