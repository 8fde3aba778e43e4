/* The partitions: made ahead, and dropped with their ids when they are too old. */
#include "postgres_rig.h"

#include "clock.h"
#include "postgres/postgres.h"
#include "thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libpq-fe.h>

#define HOUR_MS INT64_C(3600000)

static enum err
try_upkeep(struct postgres_rig *r, int64_t retention_ms)
{
    struct pg *p = NULL;
    enum err e =
        pg_open(&p, r->url, POSTGRES_PATIENT_MS, false, &r->kit.env, r->why, sizeof r->why);
    if (e == OK) {
        e = pg_upkeep(p, retention_ms);
    }
    pg_close(p);
    return e;
}

static void
upkeep(struct postgres_rig *r, int64_t retention_ms)
{
    assert_int_equal(try_upkeep(r, retention_ms), OK);
}

#define COUNT_DAYS                                                                                 \
    "SELECT count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent ="       \
    " 'events'::regclass AND c.relname ~ '^events_[0-9]{8}$'"

static void
today_and_the_seven_days_ahead_have_their_tables(void **state)
{
    struct postgres_rig *r = *state;
    assert_int_equal(postgres_rig_number(r, COUNT_DAYS), 8);
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "a", 1);
    assert_int_equal(postgres_rig_write(r), OK);
    postgres_rig_expect_text(r,
                             "SET timezone = 'UTC'; SELECT tableoid::regclass::text ="
                             " 'events_' || to_char(stored_at, 'YYYYMMDD') FROM events",
                             "t");
}

static void
opening_the_sink_makes_the_tables_that_are_missing(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_do(r, "SET timezone = 'UTC'; DO $$ BEGIN EXECUTE 'DROP TABLE events_' ||"
                       " to_char(now() + interval '7 days', 'YYYYMMDD'); END $$");
    assert_int_equal(postgres_rig_number(r, COUNT_DAYS), 7);
    postgres_rig_open_sink(r);
    assert_int_equal(postgres_rig_number(r, COUNT_DAYS), 8);
}

static void
what_the_default_partition_caught_moves_when_its_day_is_made(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    postgres_rig_do(r, "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT inhrelid::regclass FROM"
                       " pg_inherits WHERE inhparent = 'events'::regclass AND"
                       " inhrelid::regclass::text <> 'events_default' LOOP EXECUTE 'DROP TABLE ' ||"
                       " t; END LOOP; END $$");
    postgres_rig_hold_run(r, "a", 10);
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_number(r, "SELECT count(*) FROM events_default"), 10);
    upkeep(r, 0);
    assert_int_equal(postgres_rig_number(r, "SELECT count(*) FROM events_default"), 0);
    assert_int_equal(postgres_rig_number(r, COUNT_DAYS), 8);
    assert_int_equal(postgres_rig_events(r), 10);
}

struct keeper {
    struct thread thread;
    struct postgres_rig *rig;
    enum err result;
};

static void
upkeep_now(void *data)
{
    struct keeper *k = data;
    k->result = try_upkeep(k->rig, 0);
}

static void
what_is_being_caught_while_its_day_is_made_moves_along(void **state)
{
    struct postgres_rig *r = *state;
    struct keeper k = {.rig = r};
    postgres_rig_do(r, "SET timezone = 'UTC'; DO $$ BEGIN EXECUTE 'DROP TABLE events_' ||"
                       " to_char(now(), 'YYYYMMDD'); END $$");
    PGconn *writer = PQconnectdb(r->url);
    PQclear(PQexec(writer,
                   "BEGIN; INSERT INTO events VALUES ('a', 'T', now(), '{}', now(), now(), 1);"
                   "INSERT INTO event_ids VALUES ('a', '', now(), 1)"));
    assert_int_equal(thread_start(&k.thread, "keeper", upkeep_now, &k), OK);
    int64_t until_ms = clock_mono_ns() / 1000000 + 1500; /* less than it waits for a lock */
    while (clock_mono_ns() / 1000000 < until_ms &&
           postgres_rig_number(r, "SELECT count(*) FROM pg_locks WHERE NOT granted") == 0) {
    }
    PQclear(PQexec(writer, "COMMIT"));
    PQfinish(writer);
    thread_join(&k.thread);
    assert_int_equal(k.result, OK);
    assert_int_equal(postgres_rig_number(r, "SELECT count(*) FROM events_default"), 0);
    assert_int_equal(postgres_rig_number(r, COUNT_DAYS), 8);
    assert_int_equal(postgres_rig_events(r), 1);
}

/* Moves what is stored into the past: rows, ids, and a table for their day. */
static void
age(struct postgres_rig *r, int days)
{
    char sql[1024];
    snprintf(sql, sizeof sql,
             "SET timezone = 'UTC'; DO $$ DECLARE d date := current_date - %d; n text :="
             " 'events_' || to_char(d, 'YYYYMMDD'); BEGIN IF to_regclass(n) IS NULL THEN EXECUTE"
             " format('CREATE TABLE %%I PARTITION OF events FOR VALUES FROM (%%L) TO (%%L)', n, d,"
             " d + 1); END IF; UPDATE event_ids SET stored_at = d WHERE stored_at >= current_date;"
             " UPDATE events SET stored_at = d WHERE stored_at >= current_date; END $$",
             days);
    postgres_rig_do(r, sql);
}

static void
retention_drops_whole_days_and_forgets_their_ids(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "old", 12000);
    assert_int_equal(postgres_rig_write(r), OK);
    age(r, 3);
    postgres_rig_hold_run(r, "edge", 10);
    assert_int_equal(postgres_rig_write(r), OK);
    age(r, 2); /* its last instant is less than two days ago */
    postgres_rig_hold_run(r, "new", 10);
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_number(r, COUNT_DAYS), 10);
    for (int i = 0; i < 100 && postgres_rig_number(r, COUNT_DAYS) > 9; i++) {
        upkeep(r, 48 * HOUR_MS);
    }
    assert_int_equal(postgres_rig_number(r, COUNT_DAYS), 9);
    assert_int_equal(postgres_rig_events(r), 20);
    postgres_rig_hold_run(r, "old", 2); /* from here, a repeat is a new event */
    postgres_rig_add(r, "edge1", "{\"n\":1}");
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(r->batch.item[0].state, EVENT_PROCESSING);
    assert_int_equal(r->batch.item[2].state, EVENT_DUPLICATE);
    assert_int_equal(postgres_rig_events(r), 22);
}

static void
an_id_that_came_again_is_not_forgotten_with_its_old_event(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "a", 1);
    assert_int_equal(postgres_rig_write(r), OK);
    age(r, 3);
    postgres_rig_do(r, "DELETE FROM event_ids"); /* as a step that was interrupted leaves it */
    postgres_rig_hold_run(r, "a", 1);
    assert_int_equal(postgres_rig_write(r), OK);
    upkeep(r, 48 * HOUR_MS);
    assert_int_equal(postgres_rig_number(r, COUNT_DAYS), 8);
    assert_int_equal(postgres_rig_events(r), 1);
}

/* Each look at it is a quarter of a second later, so that a call of pg_upkeep makes one step. */
static int64_t
hasty_ms(struct env *env)
{
    static int64_t ms = 1000000;
    (void)env;
    return ms += 250;
}

static struct pg *
open_hasty(struct postgres_rig *r)
{
    struct pg *p = NULL;
    r->kit.env.mono_ms = hasty_ms;
    assert_int_equal(pg_open(&p, r->url, 36000000, false, &r->kit.env, r->why, sizeof r->why), OK);
    return p;
}

static void
two_workers_that_take_turns_forget_every_id(void **state)
{
    enum { DAYS = 3, ROWS = 9000 };
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    for (int day = 0; day < DAYS; day++) {
        char prefix[16];
        snprintf(prefix, sizeof prefix, "d%d-", day);
        postgres_rig_hold_run(r, prefix, ROWS);
        assert_int_equal(postgres_rig_write(r), OK);
        age(r, 10 - day);
    }
    struct pg *p[2] = {open_hasty(r), open_hasty(r)};
    int64_t days = DAYS;
    for (unsigned turn = 0; days > 0 && turn < 1000; turn++) {
        /* one makes one step where the other makes three: neither finishes a day alone */
        assert_int_equal(pg_upkeep(p[turn % 4 == 0 ? 0 : 1], 48 * HOUR_MS), OK);
        days = postgres_rig_number(r, COUNT_DAYS) - 8;
    }
    assert_int_equal(days, 0);
    assert_int_equal(postgres_rig_number(r, "SELECT count(*) FROM event_ids"), 0);
    pg_close(p[0]);
    pg_close(p[1]);
}

static void
retention_forgets_what_the_default_partition_holds(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "old", 10);
    assert_int_equal(postgres_rig_write(r), OK);
    postgres_rig_do(r, "UPDATE event_ids SET stored_at = '2020-01-01';"
                       "UPDATE events SET stored_at = '2020-01-01'");
    postgres_rig_hold_run(r, "new", 10);
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_number(r, "SELECT count(*) FROM events_default"), 10);
    upkeep(r, 48 * HOUR_MS);
    assert_int_equal(postgres_rig_number(r, "SELECT count(*) FROM events_default"), 0);
    assert_int_equal(postgres_rig_events(r), 10);
}

static void
without_retention_nothing_is_dropped(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "old", 10);
    assert_int_equal(postgres_rig_write(r), OK);
    age(r, 3000);
    upkeep(r, 0);
    assert_int_equal(postgres_rig_events(r), 10);
}

static const struct CMUnitTest tests[] = {
    POSTGRES_TEST(today_and_the_seven_days_ahead_have_their_tables),
    POSTGRES_TEST(opening_the_sink_makes_the_tables_that_are_missing),
    POSTGRES_TEST(what_the_default_partition_caught_moves_when_its_day_is_made),
    POSTGRES_TEST(what_is_being_caught_while_its_day_is_made_moves_along),
    POSTGRES_TEST(retention_drops_whole_days_and_forgets_their_ids),
    POSTGRES_TEST(an_id_that_came_again_is_not_forgotten_with_its_old_event),
    POSTGRES_TEST(two_workers_that_take_turns_forget_every_id),
    POSTGRES_TEST(retention_forgets_what_the_default_partition_holds),
    POSTGRES_TEST(without_retention_nothing_is_dropped),
};

int
main(void)
{
    struct postgres_server server = {0};
    postgres_rig_begin(&server);
    int failures = kit_run("postgres/upkeep", tests, sizeof tests / sizeof *tests, &server);
    postgres_server_end(&server);
    return failures;
}
