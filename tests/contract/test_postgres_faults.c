/* The PostgreSQL sink when its server is slow, locked, stopped, killed, or weaker than it was. */
#include "postgres_rig.h"

#include "clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libpq-fe.h>

#define SHORT_MS 1000 /* sink.timeout of tests that wait for it */

static int64_t
now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

static void
assert_as_it_was(const struct postgres_rig *r)
{
    for (size_t i = 0; i < r->batch.n; i++) {
        assert_int_equal(r->batch.item[i].state, EVENT_PROCESSING);
        assert_int_equal(r->batch.item[i].result, OK);
        assert_int_equal(r->batch.item[i].reason[0], '\0');
    }
}

/* As the worker does: the same batch again, until it is stored. */
static void
write_until_stored(struct postgres_rig *r)
{
    int64_t until_ms = now_ms() + 2 * (int64_t)KIT_DEADLINE_MS;
    enum err e = ERR_UNAVAILABLE;
    while (e == ERR_UNAVAILABLE && now_ms() < until_ms) {
        e = postgres_rig_write(r);
    }
    assert_int_equal(e, OK);
}

static PGconn *
session(const struct postgres_rig *r, const char *sql)
{
    PGconn *c = PQconnectdb(r->url);
    PGresult *result = PQexec(c, sql);
    assert_true(PQresultStatus(result) == PGRES_COMMAND_OK ||
                PQresultStatus(result) == PGRES_TUPLES_OK);
    PQclear(result);
    return c;
}

static void
a_locked_table_is_given_up_in_time_and_written_later(void **state)
{
    struct postgres_rig *r = *state;
    r->cfg.sink_timeout = SHORT_MS;
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "a", 3);
    PGconn *locker = session(r, "BEGIN; LOCK TABLE events");
    int64_t from_ms = now_ms();
    assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE);
    assert_in_range(now_ms() - from_ms, SHORT_MS / 2, SHORT_MS);
    assert_as_it_was(r);
    PQfinish(locker);
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_events(r), 3);
    assert_int_equal(r->batch.item[0].state,
                     EVENT_PROCESSING); /* nothing of the first try stayed */
}

static void
a_slow_statement_is_given_up_in_time(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_do(r, "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
                       " $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;"
                       "CREATE TRIGGER t BEFORE INSERT ON events FOR EACH STATEMENT"
                       " EXECUTE FUNCTION slow()");
    r->cfg.sink_timeout = SHORT_MS;
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "a", 3);
    int64_t from_ms = now_ms();
    assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE);
    assert_in_range(now_ms() - from_ms, SHORT_MS - 10, 2 * SHORT_MS);
    assert_int_equal(postgres_rig_events(r), 0);
}

static void
a_stopped_server_does_not_hold_the_worker(void **state)
{
    struct postgres_rig *r = *state;
    r->cfg.sink_timeout = SHORT_MS;
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "a", 1000);
    postgres_server_pause(r->server);
    int64_t from_ms = now_ms();
    assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE); /* the session */
    assert_in_range(now_ms() - from_ms, SHORT_MS, 4 * SHORT_MS);
    from_ms = now_ms();
    assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE); /* a new connection */
    assert_in_range(now_ms() - from_ms, SHORT_MS, 4 * SHORT_MS);
    assert_as_it_was(r);
    postgres_server_resume(r->server);
    write_until_stored(r);
    assert_int_equal(postgres_rig_events(r), 1000);
}

/* More than what the system keeps for a connection: sending waits as well. */
static void
a_stopped_server_does_not_hold_a_worker_that_sends_much(void **state)
{
    struct postgres_rig *r = *state;
    size_t size = (size_t)24 * 1024 * 1024;
    char *payload = malloc(size + 16);
    snprintf(payload, size + 16, "{\"a\":\"%*s\"}", (int)size, "");
    r->cfg.sink_timeout = SHORT_MS;
    postgres_rig_open_sink(r);
    postgres_rig_hold(r, 1);
    postgres_rig_add(r, "a", payload);
    free(payload);
    postgres_server_pause(r->server);
    int64_t from_ms = now_ms();
    assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE);
    assert_in_range(now_ms() - from_ms, SHORT_MS, 4 * SHORT_MS);
    postgres_server_resume(r->server);
    postgres_rig_do(r, "SELECT 1");
}

static void
an_answer_that_is_lost_leaves_each_event_stored_once(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    for (int i = 0; i < 10; i++) { /* whether the server did the work or not */
        postgres_rig_hold_run(r, "a", (size_t)i + 5);
        kit_arm(&r->kit, FAULT_ERROR, ERR_UNAVAILABLE, "postgres.sent", 0);
        assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE);
        kit_disarm(&r->kit);
        assert_as_it_was(r);
        assert_int_equal(postgres_rig_write(r), OK);
        for (size_t k = 0; k < r->batch.n; k++) {
            assert_false(r->batch.item[k].conflict);
        }
        assert_int_equal(postgres_rig_events(r), i + 5);
    }
}

static void
a_fault_at_any_call_leaves_each_event_stored_once(void **state)
{
    struct postgres_rig *r = *state;
    bool fired = true;
    postgres_rig_open_sink(r);
    for (int after = 0; fired; after++) {
        char prefix[16];
        snprintf(prefix, sizeof prefix, "r%d-", after);
        postgres_rig_hold_run(r, prefix, 8);
        kit_arm(&r->kit, FAULT_ERROR, ERR_UNAVAILABLE, "postgres.sent", after);
        enum err e = postgres_rig_write(r);
        fired = atomic_load(&r->kit.fault_fired);
        assert_int_equal(e, fired ? ERR_UNAVAILABLE : OK);
        kit_disarm(&r->kit);
        assert_int_equal(postgres_rig_write(r), OK);
        assert_int_equal(postgres_rig_events(r), 8 * (after + 1));
        if (after == 0) {
            assert_true(fired);
        }
    }
}

/* A process of the server's own that dies by a signal makes it restart all of them. */
static void
a_killed_backend_leaves_each_event_stored_once(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "a", 100);
    assert_int_equal(postgres_rig_write(r), OK);
    int64_t pid = postgres_rig_number(r, "SELECT pid FROM pg_stat_activity WHERE application_name ="
                                         " 'weir'");
    assert_true(pid > 1);
    kill((pid_t)pid, SIGKILL);
    postgres_rig_hold_run(r, "b", 100);
    write_until_stored(r);
    assert_int_equal(postgres_rig_events(r), 200);
}

static void
a_killed_server_loses_nothing_that_was_written(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    for (int i = 0; i < 3; i++) {
        char prefix[16];
        snprintf(prefix, sizeof prefix, "r%d-", i);
        postgres_rig_hold_run(r, prefix, 100);
        write_until_stored(r);
        postgres_server_kill(r->server);
        postgres_rig_hold_run(r, "during", 5);
        enum err e = postgres_rig_write(r); /* OK: its session had not noticed yet, and stored it */
        if (e != OK) {
            assert_int_equal(e, ERR_UNAVAILABLE);
            assert_as_it_was(r);
        }
        postgres_server_start(r->server);
        write_until_stored(r);
        assert_int_equal(postgres_rig_events(r), 100 * (i + 1) + 5);
    }
}

static void
set_trigger(struct postgres_rig *r, const char *state)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "CREATE OR REPLACE FUNCTION lack() RETURNS trigger LANGUAGE plpgsql AS"
             " $$ BEGIN RAISE 'lack' USING ERRCODE = '%s'; END $$;"
             "CREATE OR REPLACE TRIGGER t BEFORE INSERT ON events FOR EACH STATEMENT"
             " EXECUTE FUNCTION lack()",
             state);
    postgres_rig_do(r, sql);
}

/* Errors that are not a row's: the event must not be dead for them. */
static void
a_server_that_lacks_something_is_tried_again(void **state)
{
    static const char *const states[] = {"53100", "53200", "55000", "57P03", "58030",
                                         "42501", "P0001", "XX000", "25006"};
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        set_trigger(r, states[i]);
        postgres_rig_hold_run(r, "a", 2);
        assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE);
        assert_as_it_was(r);
    }
    postgres_rig_do(r, "DROP TRIGGER t ON events");
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_events(r), 2);
}

/* After an error that says nothing of the session, only a new one is known to be good. */
static void
a_session_that_failed_in_an_unknown_way_is_not_used_again(void **state)
{
    static const struct {
        const char *state;
        int sessions;
    } cases[] = {{"XX000", 0}, {"25006", 0}, {"26000", 0}, {"57014", 1}, {"55P03", 1}};
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        set_trigger(r, cases[i].state);
        postgres_rig_hold_run(r, "a", 1);
        assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE);
        int64_t sessions = -1;
        int64_t until_ms = now_ms() + KIT_DEADLINE_MS; /* the server needs a moment to notice */
        while (sessions != cases[i].sessions && now_ms() < until_ms) {
            sessions = postgres_rig_number(r, "SELECT count(*) FROM pg_stat_activity WHERE"
                                              " application_name = 'weir'");
        }
        assert_int_equal(sessions, cases[i].sessions);
    }
}

static void
a_missing_table_is_tried_again(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    postgres_rig_do(r, "ALTER TABLE events RENAME TO away");
    postgres_rig_hold_run(r, "a", 2);
    assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE);
    assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE);
    postgres_rig_do(r, "ALTER TABLE away RENAME TO events");
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_events(r), 2);
}

/* With no default partition a row fits nowhere: PostgreSQL calls that a check violation. */
static void
a_row_without_a_partition_is_not_the_rows_fault(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    postgres_rig_do(r, "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT inhrelid::regclass FROM"
                       " pg_inherits WHERE inhparent = 'events'::regclass LOOP EXECUTE"
                       " 'DROP TABLE ' || t; END LOOP; END $$");
    postgres_rig_hold_run(r, "a", 2);
    assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE);
    postgres_rig_do(r, "CREATE TABLE events_default PARTITION OF events DEFAULT");
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_events(r), 2);
}

static void
a_server_that_became_weaker_gets_no_events(void **state)
{
    struct postgres_rig *r = *state;
    char sql[128];
    postgres_rig_open_sink(r);
    snprintf(sql, sizeof sql, "ALTER DATABASE %s SET synchronous_commit = off", r->database);
    postgres_rig_do(r, sql);
    postgres_rig_do(r, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                       " WHERE application_name = 'weir'");
    postgres_rig_hold_run(r, "a", 2);
    assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE); /* the lost session */
    assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE); /* the new one */
    assert_int_equal(postgres_rig_events(r), 0);
    snprintf(sql, sizeof sql, "ALTER DATABASE %s RESET synchronous_commit", r->database);
    postgres_rig_do(r, sql);
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_events(r), 2);
}

static const struct CMUnitTest tests[] = {
    POSTGRES_TEST(a_locked_table_is_given_up_in_time_and_written_later),
    POSTGRES_TEST(a_slow_statement_is_given_up_in_time),
    POSTGRES_TEST(a_stopped_server_does_not_hold_the_worker),
    POSTGRES_TEST(a_stopped_server_does_not_hold_a_worker_that_sends_much),
    POSTGRES_TEST(an_answer_that_is_lost_leaves_each_event_stored_once),
    POSTGRES_TEST(a_fault_at_any_call_leaves_each_event_stored_once),
    POSTGRES_TEST(a_killed_backend_leaves_each_event_stored_once),
    POSTGRES_TEST(a_killed_server_loses_nothing_that_was_written),
    POSTGRES_TEST(a_server_that_lacks_something_is_tried_again),
    POSTGRES_TEST(a_session_that_failed_in_an_unknown_way_is_not_used_again),
    POSTGRES_TEST(a_missing_table_is_tried_again),
    POSTGRES_TEST(a_row_without_a_partition_is_not_the_rows_fault),
    POSTGRES_TEST(a_server_that_became_weaker_gets_no_events),
};

int
main(void)
{
    struct postgres_server server = {0};
    postgres_rig_begin(&server);
    int failures = kit_run("postgres/faults", tests, sizeof tests / sizeof *tests, &server);
    postgres_server_end(&server);
    return failures;
}
