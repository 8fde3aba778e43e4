"""What the command line says of itself: check, help, version, and a configuration that cannot be used."""

import re
import socket
import subprocess

import pytest

import weirlib

pytestmark = pytest.mark.sanitize

COMMANDS = ("run", "api", "worker", "migrate", "send", "events", "bench", "check", "version", "help")


@pytest.fixture
def run(tmp_path):
    def run(*argv, **options):
        return weirlib.run(*argv, **{"cwd": tmp_path, **options})
    return run


def settings(text):
    """{key: (value, source)} of what weir check prints."""
    return {m.group(1): (m.group(2), m.group(3))
            for m in re.finditer(r"^([\w.]+) += (.*?) +# (.*)$", text, re.M)}


def test_check_prints_every_value_with_its_source(run, tmp_path):
    (tmp_path / "weir.conf").write_text("# mine\n\ndata = /var/lib/weir # disk\nworker.batch = 64\n")
    done = run("check", "--listen", ":0", env={"WEIR_WORKER_BATCH": "65"})
    assert (done.returncode, done.stderr) == (0, "")
    found = settings(done.stdout)
    assert found["listen"] == (":0", "--listen")
    assert found["worker.batch"] == ("65", "WEIR_WORKER_BATCH")
    assert found["data"] == ("/var/lib/weir", "weir.conf:3")
    assert found["http.max_body"] == ("4MiB", "default")
    assert len(done.stdout.splitlines()) == len(found)


def test_what_check_prints_is_a_configuration(run, tmp_path):
    first = run("check", "--sink=log:x", "--disk-min-free=1000", "--drain-timeout=1500ms")
    (tmp_path / "again.conf").write_text(first.stdout)
    again = run("check", "--config", "again.conf")
    assert again.returncode == 0, again.stderr
    values = [{k: v for k, (v, _) in settings(done.stdout).items()} for done in (first, again)]
    assert values[0] == values[1]


def test_the_example_file_is_a_configuration(run):
    done = run("check", "--config", weirlib.REPO / "weir.conf.example")
    assert done.returncode == 0, done.stderr
    assert {source for _, source in settings(done.stdout).values()} == {"default"}


@pytest.mark.parametrize("command", ["check", "run", "api", "worker", "migrate"])
def test_a_bad_configuration_says_all_its_errors_at_once_and_starts_nothing(run, tmp_path, command):
    (tmp_path / "weir.conf").write_text("data = data\nquue.max_bytes = 1GiB\nhttp.max_body\n")
    done = run(command, "--drain-timeout=10", "--worker-thread=2", env={"WEIR_EVENT_MAX_BYTES": "1MB"})
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 5
    assert lines[0] == "weir.conf:2: quue.max_bytes: no such setting; did you mean queue.max_bytes?"
    assert lines[1].startswith("weir.conf:3: ") and "expected key = value" in lines[1]
    assert lines[2].startswith('WEIR_EVENT_MAX_BYTES: "1MB" ') and "1KiB to 16MiB" in lines[2]
    assert lines[3].startswith('--drain-timeout: "10" has no unit; expected a duration such as ')
    assert lines[4] == "--worker-thread: no such flag; did you mean --worker-threads?"
    assert not (tmp_path / "data").exists()


def test_values_that_contradict_each_other_are_refused_with_both(run):
    done = run("check", "--http-max-body=16MiB")
    assert done.returncode == 2
    assert "http.max_body = 16MiB (--http-max-body)" in done.stderr
    assert "queue.mailbox_bytes = 8MiB (default)" in done.stderr


def test_a_file_that_is_named_has_to_be_there(run):
    done = run("check", "--config", "none.conf")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "none.conf: No such file or directory\n"


def test_passwords_are_never_printed(run):
    done = run("check", "--queue=amqp://user:secret@host:x", "--dedup=rediss://:secret@host",
               "--sink=postgres://u:p@host/d/e?password=secret")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3
    assert '"amqp://user:***@host:x" has no valid port' in done.stderr
    assert "secret" not in done.stderr
    done = run("check", "--queue=amqp://user:secret@host/v", "--dedup=redis://:secret@a,b:7/1",
               "--sink=postgresql://u:secret@h/d?sslpassword=secret&x=y", "--data=x://user:secret@host")
    assert (done.returncode, done.stderr) == (0, "")
    assert "secret" not in done.stdout
    found = settings(done.stdout)
    assert found["queue"][0] == "amqp://user:***@host/v"
    assert found["dedup"][0] == "redis://:***@a,b:7/1"
    assert found["sink"][0] == "postgresql://u:***@h/d?sslpassword=***&x=y"
    assert found["data"][0] == "x://user:***@host"


def test_check_notes_what_promises_less(run):
    done = run("check", "--queue=amqp://h/v", "--sink=log")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("# note: with dedup = local ")
    assert "# note" not in run("check").stdout


@pytest.mark.parametrize("command", ["api", "worker"])
def test_half_a_process_needs_a_queue_that_others_reach(run, tmp_path, command):
    done = run(command)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"weir {command}: the local queue lives in one process")
    assert "--queue amqp://" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "weir-data").exists()


@pytest.mark.parametrize("sink", ["local", "log"])
def test_an_api_alone_says_that_it_cannot_see_what_workers_stored(weir, sink):
    api = weir("--queue", "amqp://guest:secret@127.0.0.1:1/", "--sink", sink, command="api")
    for path in ("/events", "/events/evt_001"):
        answer = api.get(path)
        assert answer.status_code == 503
        assert answer.json()["detail"] == "this API cannot read where events are stored: name it with --sink"
    assert "queue amqp://guest:***@127.0.0.1:1/\n" in api.out_text()
    assert "secret" not in api.out_text() + api.log_text()


def test_a_worker_says_from_where_to_where_events_go(weir):
    worker = weir("--queue", "amqp://guest:secret@127.0.0.1:1/", "--sink", "log:x", command="worker")
    weirlib.until(worker.out_text, what="the worker prints its line")
    assert worker.out_text() == "worker  queue=amqp://guest:***@127.0.0.1:1/ sink=log:x\n"
    assert "event=start.note" in worker.log_text()
    assert "secret" not in worker.log_text()


@pytest.mark.parametrize("sink", ["local", "log:/x@y"])
def test_migrate_needs_a_database(run, tmp_path, sink):
    done = run("migrate", "--sink", sink)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"weir migrate: sink = {sink} has no tables to make; name a database with --sink "
                           "postgresql://user:password@host/database\n")
    assert list(tmp_path.iterdir()) == []


def test_migrate_says_that_the_database_is_away(run):
    with socket.socket() as nobody:  # bound, but nobody listens
        nobody.bind(("127.0.0.1", 0))
        done = run("migrate", "--sink", f"postgresql://u:secret@127.0.0.1:{nobody.getsockname()[1]}/d")
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr.startswith("weir migrate: ")
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr


@pytest.mark.parametrize("command", ["check", "run", "migrate"])
def test_a_word_that_is_no_flag_is_refused(run, command):
    done = run(command, "queue", "--listen=x")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert "queue: not a flag" in done.stderr


@pytest.mark.parametrize("argv", [(), ("help",), ("--help",), ("-h",)])
def test_help_lists_every_command(run, argv):
    done = run(*argv)
    assert (done.returncode, done.stderr) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", done.stdout, re.M)
    assert "weir help settings" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_its_usage(run, command):
    done = run("help", command)
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: weir {command}")


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", ["run", "api", "worker", "migrate", "check"])
def test_a_command_explains_its_own_settings(run, command, flag):
    done = run(command, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: weir {command}")
    assert "--http-max-body SIZE" in done.stdout


def test_help_settings_has_a_flag_for_every_key(run):
    flags = run("help", "settings").stdout
    keys = settings(run("check").stdout)
    assert len(keys) > 20
    for key in keys:
        assert re.search(rf"^  --{re.sub('[._]', '-', key)} ", flags, re.M), key
    assert max(map(len, flags.splitlines())) <= 100


@pytest.mark.parametrize("topic, start", [("conf", "# weir.conf"), ("markdown", "| setting |"), ("man", ".\\\"")])
def test_help_prints_the_documents(run, topic, start):
    done = run("help", topic)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(start)


def test_help_of_what_is_not_there_is_wrong_usage(run):
    done = run("help", "nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing" in done.stderr


@pytest.mark.parametrize("argv", [("version",), ("--version",)])
def test_version_is_one_line(run, argv):
    done = run(*argv)
    assert done.returncode == 0
    assert re.fullmatch(r"weir \d+\.\d+\.\d+\n", done.stdout)


def test_version_takes_no_argument(run):
    assert run("version", "x").returncode == 2


def test_an_unknown_command_is_wrong_usage(run):
    done = run("rnu")
    assert (done.returncode, done.stdout) == (64, "")
    assert "weir help" in done.stderr


@pytest.mark.parametrize("command", ["check", "version", "help"])
def test_an_output_that_cannot_be_written_is_a_failure(tmp_path, command):
    with open("/dev/full", "w") as full:
        done = subprocess.run([weirlib.binary(), command], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE,
                              text=True, env={}, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "weir: standard output: No space left on device\n"
