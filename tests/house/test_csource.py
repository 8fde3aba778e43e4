"""The rules are only as good as what reads the code."""

import pytest

import csource
import test_house


@pytest.fixture
def parse(tmp_path, monkeypatch):
    monkeypatch.setattr(csource, "REPO", tmp_path)

    def parse(text):
        (tmp_path / "x.c").write_text(text)
        return csource.parse(tmp_path / "x.c")
    return parse


def test_a_function_is_measured_without_its_braces(parse):
    (f,) = parse("""#define X { (
static enum err
one_two(struct a *a, void (*done)(int, int), /* , */ char c)
{
    if (c == '{') {
        puts("}");
    }
    /* } */
}
""")
    assert (f.name, f.line, f.lines, f.parameters, f.nesting) == ("one_two", 4, 4, 3, 1)


def test_what_stands_around_functions_is_read_too(parse):
    parts = parse("""extern "C" {
struct a { int b; };
static const int table[] = {1, 2};
int
f(void)
{
    return 1;
}
}
int g(void);
""")
    assert [type(p).__name__ for p in parts] == ["Statement", "Statement", "Function", "Statement"]


@pytest.mark.parametrize("text", [
    "static int count", "int table[3] = {1, 2}", "static const char *name", "static struct a a = {.b = 1}",
    "static _Thread_local int x", "static void (*hook)(const int *)", "struct a *first", "static struct { int b; } c",
])
def test_what_can_change_is_seen(text):
    assert csource.is_mutable(text)


@pytest.mark.parametrize("text", [
    "static const int count = 3", "const char *const names[] = {\"a\"}", "int f(int *x)", "int f(int *x, bool (*is)(int))", "struct a", "struct a { int *b; }",
    "static void (*const hooks[])(int *) = {f}", "extern int x", "typedef int handler(int)", "handler a, b",
    "static const struct { const char *b; } c[] = {{0}}", "enum e { A = 1, B }",
    "_Static_assert(A <= B, \"\")", "struct a { int b; } ",
])
def test_what_cannot_change_is_let_be(text):
    assert not csource.is_mutable(text, {"handler"})


def test_an_object_inside_a_function_is_seen(parse, tmp_path):
    list(parse("int\nf(void)\n{\n    static const int a[] = {1};\n    static int n = 0;\n    return n++;\n}\n"))
    assert list(csource.mutable_objects(tmp_path / "x.c")) == [(5, "static int n = 0")]


@pytest.mark.parametrize("path, header", [
    ("lib/buf.c", "event.h"), ("src/event.c", "queue/queue.h"), ("src/api/ingest.c", "store/store.h"),
    ("src/api/ingest.c", "sink/sink.h"), ("src/api/ingest.c", "worker/worker.h"), ("src/api/ingest.c", "dedup/dedup.h"),
    ("src/worker/deliver.c", "api/api.h"), ("src/worker/deliver.c", "store/store.h"), ("src/queue/queue.h", "store/store.h"),
    ("src/sink/sink_log.c", "store/store.h"), ("src/sink/sink_local.c", "dedup/dedup.h"), ("src/app.c", "cmd/cmd.h"),
    ("src/main.c", "app.h"), ("src/cmd/run.c", "store/store.h"), ("src/store/store.c", "api/api.h"),
    ("src/api/ingest.c", "queue/consumer.h"), ("src/worker/worker.c", "queue/queue.h"), ("src/app.c", "amqp/amqp_link.h"),
    ("src/app.c", "postgres/postgres.h"), ("src/cmd/run.c", "postgres/postgres.h"), ("src/queue/queue_amqp.c", "store/store.h"),
    ("src/queue/spool.c", "amqp/envelope.h"), ("src/queue/queue_local.c", "amqp/envelope.h"), ("src/sink/sink_log.c", "postgres/postgres.h"),
    ("src/dedup/dedup_redis.c", "postgres/postgres.h"), ("src/dedup/dedup_redis.c", "store/store.h"), ("src/amqp/envelope.c", "queue/queue.h"),
    ("src/amqp/envelope.c", "store/store.h"), ("src/postgres/pg_conn.c", "sink/sink.h"), ("src/postgres/pg_conn.c", "store/store.h"),
    ("src/api/query.c", "postgres/postgres.h"), ("src/worker/worker.c", "amqp/envelope.h"), ("src/queue/consumer.h", "amqp/envelope.h"),
])
def test_an_arrow_that_points_up_is_refused(path, header):
    assert not test_house.may_include(path, header)


@pytest.mark.parametrize("path, header", [
    ("lib/buf.c", "span.h"), ("src/event.c", "buf.h"), ("src/api/ingest.c", "queue/queue.h"), ("src/api/ingest.c", "api/route.h"),
    ("src/worker/deliver.c", "sink/sink.h"), ("src/queue/queue_local.c", "store/store.h"), ("src/sink/sink_log.c", "sink/sink.h"),
    ("src/store/store.h", "queue/queue.h"), ("src/app.c", "store/store.h"), ("src/cmd/run.c", "app.h"), ("src/main.c", "cmd/cmd.h"),
    ("src/worker/worker.c", "queue/consumer.h"), ("src/app.c", "queue/consumer.h"), ("src/store/store.h", "history/history.h"),
    ("src/queue/spool.c", "store/store.h"), ("src/queue/queue_amqp.c", "amqp/envelope.h"), ("src/queue/consumer_amqp.c", "amqp/amqp_link.h"),
    ("src/sink/sink_postgres.c", "postgres/postgres.h"), ("src/history/history_postgres.c", "postgres/postgres.h"),
    ("src/cmd/migrate.c", "postgres/postgres.h"), ("src/postgres/postgres.h", "history/history.h"), ("src/amqp/envelope.c", "event.h"),
    ("src/amqp/amqp_topology.c", "config.h"), ("src/postgres/postgres.h", "batch.h"), ("src/postgres/pg_conn.c", "config.h"),
])
def test_an_arrow_that_points_down_is_let_be(path, header):
    assert test_house.may_include(path, header)


@pytest.mark.parametrize("path, header, allowed", [
    ("src/amqp/amqp_link.c", "amqp.h", True), ("src/queue/queue_amqp.c", "amqp.h", False),
    ("src/queue/queue_amqp.c", "amqp_tcp_socket.h", False), ("src/queue/queue_amqp.c", "amqp/amqp_link.h", True),
    ("src/dedup/redis_link.c", "hiredis/hiredis.h", True), ("src/dedup/dedup_redis.c", "hiredis/hiredis.h", False),
    ("src/postgres/pg_conn.c", "libpq-fe.h", True), ("src/sink/sink_postgres.c", "libpq-fe.h", False),
    ("src/cmd/migrate.c", "libpq-fe.h", False), ("src/queue/spool.c", "sqlite3.h", False),
])
def test_a_client_library_stays_in_its_room(path, header, allowed):
    assert (test_house.library_problem(path, header) is None) == allowed


def test_a_call_is_told_from_a_member():
    assert test_house.IMPURE.search("x = time(NULL)")
    assert test_house.IMPURE.search("sleep (1)")
    assert not test_house.IMPURE.search("env->time(env)")
    assert not test_house.IMPURE.search("mono_time(x)")
