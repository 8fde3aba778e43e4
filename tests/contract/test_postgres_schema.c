/* weir migrate, and what is checked before a server gets events. */
#include "postgres_rig.h"

#include "postgres/postgres.h"
#include "thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void
set_for_database(struct postgres_rig *r, const char *setting)
{
    char sql[160];
    snprintf(sql, sizeof sql, "ALTER DATABASE %s SET %s", r->database, setting);
    postgres_rig_do(r, sql);
}

static void
assert_refused(struct postgres_rig *r, enum err expected, const char *says)
{
    assert_int_equal(postgres_rig_try_open(r), expected);
    if (strstr(r->why, says) == NULL) {
        fail_msg("\"%s\" is not in: %s", says, r->why);
    }
    assert_null(strstr(r->why, POSTGRES_PASSWORD));
    assert_null(strchr(r->why, '\n'));
}

/* An empty database of the rig's, not migrated. */
static void
empty(struct postgres_rig *r)
{
    postgres_server_drop(r->server, r->database);
    postgres_server_create(r->server, r->database, "template1");
}

static enum err
migrate(struct postgres_rig *r, char *said_text, size_t size)
{
    struct buf said;
    buf_init(&said, 0);
    r->why[0] = '\0';
    enum err e = pg_migrate(r->url, &said, r->why, sizeof r->why);
    snprintf(said_text, size, "%.*s", SPAN_FMT(buf_span(&said)));
    buf_fini(&said);
    return e;
}

/* ---- migrate ---- */

static void
migrate_twice_makes_the_tables_once(void **state)
{
    struct postgres_rig *r = *state;
    char said[256];
    empty(r);
    assert_int_equal(migrate(r, said, sizeof said), OK);
    assert_string_equal(said, "created the tables: version 1\n");
    int64_t tables = postgres_rig_number(r, "SELECT count(*) FROM pg_class");
    assert_int_equal(migrate(r, said, sizeof said), OK);
    assert_string_equal(said, "the tables are of version 1 already; nothing to do\n");
    assert_int_equal(postgres_rig_number(r, "SELECT count(*) FROM pg_class"), tables);
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "a", 3);
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_events(r), 3);
}

struct migrator {
    struct thread thread;
    struct postgres_rig rig; /* only its url and why */
    char said[256];
    enum err result;
};

static void
migrate_now(void *data)
{
    struct migrator *m = data;
    m->result = migrate(&m->rig, m->said, sizeof m->said);
}

static void
migrations_at_once_wait_for_each_other(void **state)
{
    enum { N = 4 };
    struct postgres_rig *r = *state;
    struct migrator m[N];
    unsigned created = 0;
    empty(r);
    for (int i = 0; i < N; i++) {
        m[i] = (struct migrator){.rig = *r};
        assert_int_equal(thread_start(&m[i].thread, "migrate", migrate_now, &m[i]), OK);
    }
    for (int i = 0; i < N; i++) {
        thread_join(&m[i].thread);
        assert_string_equal(m[i].rig.why, "");
        assert_int_equal(m[i].result, OK);
        created += strncmp(m[i].said, "created", 7) == 0;
    }
    assert_int_equal(created, 1);
    assert_int_equal(postgres_rig_number(r, "SELECT count(*) FROM weir_schema"), 1);
    assert_int_equal(postgres_rig_try_open(r), OK);
}

static void
tables_that_are_not_ours_stay_as_they_are(void **state)
{
    struct postgres_rig *r = *state;
    char said[256];
    empty(r);
    postgres_rig_do(r, "CREATE TABLE events (event_id text); INSERT INTO events VALUES ('theirs')");
    assert_int_equal(migrate(r, said, sizeof said), ERR_CONFIG);
    assert_non_null(strstr(r->why, "\"events\" already exists, and weir did not make it"));
    postgres_rig_expect_text(r, "SELECT event_id FROM events", "theirs");
    assert_int_equal(postgres_rig_number(r, "SELECT count(*) FROM pg_class WHERE relname IN"
                                            " ('event_ids', 'events_seq')"),
                     0);
    assert_refused(r, ERR_CONFIG, "run: weir migrate --sink postgresql://weir:***@");
}

static void
newer_tables_are_left_alone(void **state)
{
    struct postgres_rig *r = *state;
    char said[256];
    postgres_rig_do(r, "INSERT INTO weir_schema (version) VALUES (99)");
    assert_int_equal(migrate(r, said, sizeof said), ERR_CONFIG);
    assert_non_null(strstr(r->why, "version 99"));
    assert_refused(r, ERR_CONFIG, "too old");
}

/* ---- what is refused ---- */

static void
a_database_without_the_tables_is_refused(void **state)
{
    struct postgres_rig *r = *state;
    empty(r);
    assert_refused(r, ERR_CONFIG, "run: weir migrate --sink postgresql://weir:***@127.0.0.1");
}

static void
a_server_that_could_lose_what_it_said_is_refused(void **state)
{
    struct postgres_rig *r = *state;
    set_for_database(r, "synchronous_commit = off");
    assert_refused(r, ERR_CONFIG, "synchronous_commit is off: a crash of PostgreSQL could lose");
    set_for_database(r, "synchronous_commit = local");
    assert_int_equal(postgres_rig_try_open(r), OK);
    postgres_rig_do(r, "ALTER TABLE event_ids_03 SET UNLOGGED");
    assert_refused(r, ERR_CONFIG, "event_ids_03 is UNLOGGED");
}

static void
a_server_without_fsync_or_full_page_writes_is_refused(void **state)
{
    struct postgres_rig *r = *state;
    static const char *const settings[] = {"fsync=off", "full_page_writes=off"};
    static const char *const says[] = {
        "PostgreSQL's fsync is off: a crash of PostgreSQL could lose events that weir has "
        "acknowledged",
        "full_page_writes is off"};
    for (size_t i = 0; i < 2; i++) {
        postgres_server_kill(r->server);
        r->server->setting = settings[i];
        postgres_server_start(r->server);
        assert_refused(r, ERR_CONFIG, says[i]);
    }
    postgres_server_kill(r->server);
    r->server->setting = NULL;
    postgres_server_start(r->server);
    assert_int_equal(postgres_rig_try_open(r), OK);
}

static void
a_database_that_cannot_hold_every_character_is_refused(void **state)
{
    struct postgres_rig *r = *state;
    postgres_server_drop(r->server, r->database);
    char sql[160];
    snprintf(sql, sizeof sql, "CREATE DATABASE %s TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
             r->database);
    postgres_server_do(r->server, "postgres", sql);
    assert_refused(r, ERR_CONFIG, "encoding is LATIN1");
}

static void
a_wrong_password_is_one_clear_line_without_it(void **state)
{
    struct postgres_rig *r = *state;
    char url[160];
    snprintf(url, sizeof url, "postgresql://weir:" POSTGRES_PASSWORD "x@127.0.0.1:%d/%s",
             r->server->port, r->database);
    r->cfg.sink = url;
    assert_refused(r, ERR_CONFIG, "password authentication failed for user \"weir\"");
    assert_null(strstr(r->why, "28P01"));
    assert_null(strstr(r->why, "LOCATION"));
    snprintf(url, sizeof url, "postgresql://weir@127.0.0.1:%d/%s", r->server->port, r->database);
    assert_refused(r, ERR_CONFIG, "no password supplied");
    snprintf(url, sizeof url, "postgresql://weir:" POSTGRES_PASSWORD "@127.0.0.1:%d/none",
             r->server->port);
    assert_refused(r, ERR_CONFIG, "database \"none\" does not exist");
}

static void
a_url_that_cannot_be_read_is_told_without_its_password(void **state)
{
    struct postgres_rig *r = *state;
    char url[160] = "postgresql://weir:" POSTGRES_PASSWORD "%zz@127.0.0.1/weir";
    r->cfg.sink = url;
    assert_refused(r, ERR_CONFIG, "the sink's URL cannot be read");
    snprintf(url, sizeof url, "postgresql://weir:" POSTGRES_PASSWORD "@[::1/weir");
    assert_refused(r, ERR_CONFIG, "the sink's URL cannot be read");
    snprintf(url, sizeof url, "postgresql://weir:" POSTGRES_PASSWORD "@127.0.0.1/weir?colour=red");
    assert_refused(r, ERR_CONFIG, "invalid URI query parameter: \"colour\"");
}

static void
a_server_that_is_away_can_be_tried_again(void **state)
{
    struct postgres_rig *r = *state;
    char url[160] = "postgresql://weir:" POSTGRES_PASSWORD "@127.0.0.1:1/weir";
    r->cfg.sink = url;
    assert_refused(r, ERR_UNAVAILABLE, "Connection refused");
}

static void
a_role_that_lacks_a_right_is_refused_and_needs_no_more_than_that(void **state)
{
    struct postgres_rig *r = *state;
    char url[160];
    postgres_rig_do(r, "CREATE ROLE writer LOGIN PASSWORD 'w'");
    snprintf(url, sizeof url, "postgresql://writer:w@127.0.0.1:%d/%s", r->server->port,
             r->database);
    r->cfg.sink = url;
    assert_refused(r, ERR_CONFIG, "permission denied for table weir_schema");
    postgres_rig_do(r, "GRANT SELECT ON weir_schema TO writer");
    assert_refused(r, ERR_CONFIG, "the role writer lacks a right; run: GRANT SELECT, INSERT ON");
    postgres_rig_do(r, "GRANT SELECT, INSERT ON events, event_ids TO writer;"
                       "GRANT USAGE ON SEQUENCE events_seq TO writer;"
                       "SET timezone = 'UTC'; DO $$ BEGIN EXECUTE 'DROP TABLE events_' ||"
                       " to_char(now() + interval '7 days', 'YYYYMMDD'); END $$");
    postgres_rig_open_sink(r); /* though it cannot make the table that is missing */
    postgres_rig_hold_run(r, "a", 2);
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(r->batch.item[0].state, EVENT_DUPLICATE);
    assert_int_equal(postgres_rig_events(r), 2);
    postgres_rig_do(r, "DROP OWNED BY writer; DROP ROLE writer");
}

static const struct CMUnitTest tests[] = {
    POSTGRES_TEST(migrate_twice_makes_the_tables_once),
    POSTGRES_TEST(migrations_at_once_wait_for_each_other),
    POSTGRES_TEST(tables_that_are_not_ours_stay_as_they_are),
    POSTGRES_TEST(newer_tables_are_left_alone),
    POSTGRES_TEST(a_database_without_the_tables_is_refused),
    POSTGRES_TEST(a_server_that_could_lose_what_it_said_is_refused),
    POSTGRES_TEST(a_server_without_fsync_or_full_page_writes_is_refused),
    POSTGRES_TEST(a_database_that_cannot_hold_every_character_is_refused),
    POSTGRES_TEST(a_wrong_password_is_one_clear_line_without_it),
    POSTGRES_TEST(a_url_that_cannot_be_read_is_told_without_its_password),
    POSTGRES_TEST(a_server_that_is_away_can_be_tried_again),
    POSTGRES_TEST(a_role_that_lacks_a_right_is_refused_and_needs_no_more_than_that),
};

int
main(void)
{
    struct postgres_server server = {0};
    postgres_rig_begin(&server);
    int failures = kit_run("postgres/schema", tests, sizeof tests / sizeof *tests, &server);
    postgres_server_end(&server);
    return failures;
}
