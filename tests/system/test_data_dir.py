"""A data folder belongs to one process, and is never harmed by a start that cannot work."""

import hashlib
import os
import sqlite3
import subprocess

import pytest

import weirlib
from test_seed import SEED
from weirlib import event, until


def start_in_vain(weir, data, *flags, preexec=None):
    """Starts, expects a quick end with an error in words; returns (exit code, the words)."""
    w = weir(*flags, data=data, wait=False, preexec=preexec)
    code = w.wait(20)
    assert code > 0, f"exit code {code}: {w.log_text()}"
    lines = w.log_text().strip().splitlines()
    assert lines, "it says why"
    assert "curl" not in w.out_text(), "it does not claim to be up"
    return code, lines[-1]


def fingerprint(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.iterdir()) if p.is_file()}


@pytest.fixture
def used(weir):
    """A stopped instance whose folder holds one processed event."""
    w = weir()
    assert w.post(SEED).status_code == 202
    w.wait_state("evt_001", "processed")
    assert w.stop() == 0
    return w


@pytest.mark.sanitize
def test_a_second_process_on_one_folder_is_refused_and_the_first_goes_on(weir):
    first = weir()
    code, why = start_in_vain(weir, first.data)
    assert str(first.data) in why and "another" in why.lower() or "in use" in why.lower(), why
    assert first.post(SEED).status_code == 202
    first.wait_state("evt_001", "processed")


def test_the_folder_is_free_again_after_a_kill(weir):
    first = weir()
    assert first.post(SEED).status_code == 202
    first.kill()
    second = weir(data=first.data)
    second.wait_state("evt_001", "processed")


def test_a_missing_folder_is_made(weir, tmp_path):
    w = weir(data=tmp_path / "new")
    assert w.post(SEED).status_code == 202
    assert (tmp_path / "new").stat().st_mode & 0o007 == 0, "others cannot read the events"


def test_a_folder_that_cannot_be_made_is_an_error(weir, tmp_path):
    _, why = start_in_vain(weir, tmp_path / "no" / "such" / "place")
    assert "place" in why


@pytest.mark.sanitize
def test_a_file_in_place_of_the_folder_is_an_error_and_stays(weir, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    _, why = start_in_vain(weir, file)
    assert str(file) in why
    assert file.read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_an_error(weir, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o500)
        _, why = start_in_vain(weir, folder)
        folder.chmod(0o700)
    else:  # root writes anywhere but to a read-only mount
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "weir-test", folder],
                       check=True)
        try:
            _, why = start_in_vain(weir, folder)
        finally:
            subprocess.run(["umount", folder], check=True)
    assert str(folder) in why


def break_by_garbage(file):
    file.write_bytes(b"these are not the bytes of a database\n" * 1000)


def break_by_cutting(file):
    os.truncate(file, file.stat().st_size // 2 - 100)


def break_by_a_future_schema(file):
    db = sqlite3.connect(file)
    db.execute("pragma user_version = 9999")
    db.close()


def break_by_a_strange_schema(file):
    file.unlink()
    db = sqlite3.connect(file)
    db.execute("create table recipes(name text)")
    db.close()


@pytest.mark.parametrize("damage", [break_by_garbage, break_by_cutting, break_by_a_future_schema,
                                    break_by_a_strange_schema])
def test_a_database_that_cannot_be_used_is_an_error_and_is_left_alone(weir, used, damage):
    file = weirlib.database(used.data)
    damage(file)
    before = fingerprint(used.data)
    _, why = start_in_vain(weir, used.data)
    assert file.name in why or str(used.data) in why, why
    after = fingerprint(used.data)
    assert after[file.name] == before[file.name]


def test_a_damaged_page_is_found_at_the_start_after_an_unclean_stop(weir, used):
    used.start()
    used.post([event(f"e-{i}", {"filler": "f" * 300}) for i in range(2000)])
    until(lambda: used.count("processed") == 2000, what="all are processed")
    assert used.stop() == 0
    used.start()
    used.kill()  # the next start is after an unclean stop
    file = weirlib.database(used.data)
    with open(file, "r+b") as f:
        for page in range(2, file.stat().st_size // 4096):
            f.seek(page * 4096)
            f.write(b"\xff" * 64)
    before = fingerprint(used.data)[file.name]
    _, why = start_in_vain(weir, used.data)
    assert "damage" in why or "corrupt" in why or "malformed" in why, why
    assert fingerprint(used.data)[file.name] == before


@pytest.mark.sanitize
def test_a_wal_left_by_a_kill_is_read_back(weir):
    w = weir()
    assert w.post([event(f"e-{i}") for i in range(50)]).json()["accepted"] == 50
    w.kill()
    assert any(p.name.endswith("-wal") and p.stat().st_size for p in w.data.iterdir())
    w.start()
    w.wait_drained()
    assert all(weirlib.find_state(w.show(f"e-{i}")) == "processed" for i in range(50))
