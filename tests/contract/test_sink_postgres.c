/* What sink.h promises, and what pg_write.c does, asked of a real PostgreSQL. */
#include "postgres_rig.h"
#include "sink_suite.h"

#include "thread.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the contract ---- */

static void
open_postgres(struct sink_rig *r)
{
    static unsigned n;
    char url[160], why[512] = "";
    snprintf(r->path, sizeof r->path, "suite%u", n++);
    postgres_server_create(r->maker->data, r->path, "migrated");
    postgres_server_url(r->maker->data, url, sizeof url, r->path);
    const struct config cfg = {.sink = url, .sink_timeout = POSTGRES_PATIENT_MS};
    if (sink_postgres_open(&r->sink, &cfg, &r->kit.env, why, sizeof why) != OK) {
        fail_msg("%s", why);
    }
}

static unsigned
effects_postgres(struct sink_rig *r, const char *id, const char *payload)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT count(*) FROM events JOIN event_ids USING (event_id, stored_at)"
             " WHERE event_id = '%s' AND payload = '%s'",
             id, payload);
    return (unsigned)postgres_server_number(r->maker->data, r->path, sql);
}

/* ---- what is kept ---- */

static void
rows_say_what_the_event_said(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    postgres_rig_hold(r, 1);
    struct event *ev = event_new(SPAN("a\"{},\\ 'b\xc3\xa9"), SPAN("T,\"{NULL}"),
                                 SPAN("2026-02-03t12:30:00.1234567+05:30"),
                                 SPAN("{\"a\": [1.50, \"\\u00e9\\n\", null],  \"b\":{}}"));
    ev->accepted_ms = 1770121800123;
    batch_add(&r->batch, ev);
    assert_int_equal(postgres_rig_write(r), OK);
    postgres_rig_expect_text(r, "SELECT event_id FROM events", "a\"{},\\ 'b\xc3\xa9");
    postgres_rig_expect_text(r, "SELECT type FROM events", "T,\"{NULL}");
    postgres_rig_expect_text(r, "SET timezone = 'UTC'; SELECT timestamp FROM events",
                             "2026-02-03 07:00:00.123456+00");
    postgres_rig_expect_text(r, "SELECT payload FROM events",
                             "{\"a\": [1.50, \"\xc3\xa9\\n\", null], \"b\": {}}");
    postgres_rig_expect_text(r, "SET timezone = 'UTC'; SELECT accepted_at FROM events",
                             "2026-02-03 12:30:00.123+00");
    assert_int_equal(postgres_rig_number(r, "SELECT seq >> 21 FROM events"), 1770121800123);
    postgres_rig_expect_text(
        r, "SELECT abs(extract(epoch from stored_at - now())) < 60 FROM events", "t");
    postgres_rig_expect_text(
        r,
        "SELECT payload_hash = sha256('{\"a\": [1.50, \"\\\\u00e9\\\\n\", null],  \"b\":{}}')"
        " FROM event_ids",
        "t");
    assert_int_equal(postgres_rig_events(r), 1);
}

static void
every_time_that_weir_accepts_is_kept_as_its_instant(void **state)
{
    static const struct {
        const char *text, *instant;
    } times[] = {
        {"2026-02-03T12:30:00Z", "2026-02-03 12:30:00+00"},
        {"0000-01-01T00:00:00Z", "0001-01-01 00:00:00+00 BC"},
        {"2026-02-03T12:30:00+23:59", "2026-02-02 12:31:00+00"},
        {"9999-12-31T23:59:59.999999999-23:59", "10000-01-01 23:58:59.999999+00"},
        {"1990-12-31T23:59:60Z", "1991-01-01 00:00:00+00"},
        {"1990-12-31T15:59:60.5-08:00", "1991-01-01 00:00:00.5+00"},
    };
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        char id[16], sql[160];
        snprintf(id, sizeof id, "t%zu", i);
        postgres_rig_hold(r, 1);
        batch_add(&r->batch, event_new(span_of(id), SPAN("T"), span_of(times[i].text), SPAN("{}")));
        assert_int_equal(postgres_rig_write(r), OK);
        assert_int_equal(r->batch.item[0].result, OK);
        snprintf(sql, sizeof sql,
                 "SET timezone = 'UTC'; SELECT timestamp FROM events WHERE event_id = '%s'", id);
        postgres_rig_expect_text(r, sql, times[i].instant);
    }
}

static void
rows_of_one_millisecond_keep_the_order_of_the_batch(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    postgres_rig_hold(r, 50);
    for (int i = 0; i < 50; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", (i * 37) % 50);
        postgres_rig_add(r, id, "{}");
        r->batch.item[i].ev->accepted_ms = 1770121800123;
    }
    assert_int_equal(postgres_rig_write(r), OK);
    postgres_rig_expect_text(r,
                             "SELECT string_agg(event_id, ' ' ORDER BY seq) = (SELECT string_agg("
                             "(i * 37 % 50)::text, ' ' ORDER BY i) FROM generate_series(0, 49) i)"
                             " FROM events",
                             "t");
}

static void
a_batch_larger_than_a_statement_is_stored(void **state)
{
    struct postgres_rig *r = *state;
    size_t size = (size_t)1500 * 1024;
    char *payload = malloc(size + 16);
    snprintf(payload, size + 16, "{\"a\":\"%*s\"}", (int)size, "");
    postgres_rig_open_sink(r);
    postgres_rig_hold(r, 5);
    for (int i = 0; i < 5; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        postgres_rig_add(r, id, i == 3 ? "{}" : payload);
    }
    free(payload);
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_events(r), 5);
    assert_int_equal(postgres_rig_number(r, "SELECT count(*) FROM events WHERE"
                                            " length(payload->>'a') = 1536000"),
                     4);
}

/* ---- rows that cannot be stored ---- */

static void
one_bad_row_in_a_thousand_is_rejected_and_the_others_are_stored(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    postgres_rig_hold(r, 1000);
    for (int i = 0; i < 1000; i++) {
        char id[16];
        snprintf(id, sizeof id, "e%d", i);
        postgres_rig_add(r, id, i == 700 ? "{\"a\":\"\\u0000\"}" : "{\"a\":1}");
    }
    kit_arm(&r->kit, FAULT_ERROR, ERR_UNAVAILABLE, "postgres.sent", 1000); /* only counts */
    assert_int_equal(postgres_rig_write(r), OK);
    assert_in_range(1000 - atomic_load(&r->kit.countdown), 11, 2 * 10 + 1 + 4);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(r->batch.item[i].result, i == 700 ? ERR_REJECTED : OK);
    }
    assert_string_equal(r->batch.item[700].reason,
                        "PostgreSQL: 22P05 unsupported Unicode escape sequence");
    assert_int_equal(postgres_rig_events(r), 999);
}

static void
a_rejected_row_does_not_take_its_repeats_along(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_open_sink(r);
    postgres_rig_hold(r, 5);
    postgres_rig_add(r, "a", "{\"a\":\"\\u0000\"}");
    postgres_rig_add(r, "a", "{\"a\":1}");
    postgres_rig_add(r, "b", "{}");
    postgres_rig_add(r, "a", "{\"a\":2}");
    postgres_rig_add(r, "a", "{\"a\":\"\\u0000\"}");
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(r->batch.item[0].result, ERR_REJECTED);
    assert_int_equal(r->batch.item[1].state, EVENT_PROCESSING);
    assert_int_equal(r->batch.item[3].state, EVENT_DUPLICATE);
    assert_true(r->batch.item[3].conflict);
    assert_int_equal(r->batch.item[4].state, EVENT_DUPLICATE);
    assert_int_equal(postgres_rig_events(r), 2);
}

static void
a_constraint_of_the_users_own_rejects_the_row_that_breaks_it(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_do(r, "ALTER TABLE events ADD CONSTRAINT small CHECK (payload->>'n' < '5')");
    postgres_rig_open_sink(r);
    postgres_rig_hold(r, 2);
    postgres_rig_add(r, "a", "{\"n\":\"9\"}");
    postgres_rig_add(r, "b", "{\"n\":\"1\"}");
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(r->batch.item[0].result, ERR_REJECTED);
    assert_non_null(strstr(r->batch.item[0].reason, "small"));
    assert_int_equal(r->batch.item[1].result, OK);
    assert_int_equal(postgres_rig_events(r), 1);
}

static void
a_reason_is_cut_between_characters(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_do(r, "ALTER TABLE events ADD CONSTRAINT"
                       " \"ééééééééééééééééééééééééééééé\" CHECK (type = 'none')");
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "a", 1);
    assert_int_equal(postgres_rig_write(r), OK);
    const char *reason = r->batch.item[0].reason;
    size_t n = strlen(reason);
    assert_in_range(n, 80, sizeof r->batch.item[0].reason - 1);
    assert_true((unsigned char)reason[n - 1] < 0xc0);
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT length($q$%s$q$) > 0", reason); /* refused when not UTF-8 */
    postgres_rig_expect_text(r, sql, "t");
}

/* ---- two at once ---- */

struct writer {
    struct thread thread;
    struct sink *sink;
    struct batch batch;
    atomic_int *start; /* all begin together */
    enum err result;
};

static void
write_now(void *data)
{
    struct writer *w = data;
    atomic_fetch_sub(w->start, 1);
    while (atomic_load(w->start) > 0) {
    }
    w->result = w->sink->ops->write(w->sink, &w->batch);
}

/* Ids 0 … n-1 of a round, forwards or backwards. */
static void
fill_writer(struct writer *w, int round, int n, bool backwards)
{
    assert_int_equal(batch_init(&w->batch, (size_t)n), OK);
    for (int i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof id, "%d-%d", round, backwards ? n - 1 - i : i);
        batch_add(&w->batch, kit_event(id, "{}"));
    }
}

static int
duplicates_of(const struct writer *w)
{
    int n = 0;
    for (size_t i = 0; i < w->batch.n; i++) {
        n += w->batch.item[i].state == EVENT_DUPLICATE;
        assert_int_equal(w->batch.item[i].result, OK);
    }
    return n;
}

static void
two_writers_with_the_same_ids_store_each_once(void **state)
{
    enum { ROUNDS = 20, N = 300 };
    struct postgres_rig *r = *state;
    struct writer w[2] = {{.sink = postgres_rig_sink(r)}, {.sink = postgres_rig_sink(r)}};
    int fresh_of[2] = {0, 0};
    for (int round = 0; round < ROUNDS; round++) {
        atomic_int start = 2;
        for (int i = 0; i < 2; i++) {
            fill_writer(&w[i], round, N, i == 1);
            w[i].start = &start;
            assert_int_equal(thread_start(&w[i].thread, "writer", write_now, &w[i]), OK);
        }
        for (int i = 0; i < 2; i++) {
            thread_join(&w[i].thread);
            assert_int_equal(w[i].result, OK);
            fresh_of[i] += N - duplicates_of(&w[i]);
            batch_fini(&w[i].batch);
        }
    }
    assert_int_equal(fresh_of[0] + fresh_of[1], ROUNDS * N);
    assert_int_equal(postgres_rig_events(r), ROUNDS * N);
    for (int i = 0; i < 2; i++) {
        w[i].sink->ops->close(w[i].sink);
    }
}

static void
a_deadlock_is_tried_again_at_once(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_do(r,
                    "CREATE SEQUENCE tries; CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql"
                    " AS $$ BEGIN IF nextval('tries') <= 3 THEN RAISE 'again' USING ERRCODE ="
                    " '40P01'; END IF; RETURN NULL; END $$;"
                    "CREATE TRIGGER t BEFORE INSERT ON events FOR EACH STATEMENT"
                    " EXECUTE FUNCTION fail()");
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "a", 3);
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_events(r), 3);
    postgres_rig_do(r, "ALTER SEQUENCE tries RESTART MINVALUE -100 START -100");
    postgres_rig_hold_run(r, "b", 3);
    assert_int_equal(postgres_rig_write(r), ERR_UNAVAILABLE); /* not for ever */
}

static void
whatever_the_database_prefers_each_statement_sees_what_is_committed(void **state)
{
    struct postgres_rig *r = *state;
    char sql[256];
    snprintf(sql, sizeof sql,
             "ALTER DATABASE %s SET default_transaction_isolation = 'serializable';"
             "ALTER TABLE event_ids ADD CHECK (current_setting('transaction_isolation') ="
             " 'read committed')",
             r->database);
    postgres_rig_do(r, sql);
    postgres_rig_open_sink(r);
    postgres_rig_hold_run(r, "a", 2);
    assert_int_equal(postgres_rig_write(r), OK);
    assert_int_equal(postgres_rig_events(r), 2);
}

static const struct CMUnitTest own[] = {
    POSTGRES_TEST(rows_say_what_the_event_said),
    POSTGRES_TEST(every_time_that_weir_accepts_is_kept_as_its_instant),
    POSTGRES_TEST(rows_of_one_millisecond_keep_the_order_of_the_batch),
    POSTGRES_TEST(a_batch_larger_than_a_statement_is_stored),
    POSTGRES_TEST(one_bad_row_in_a_thousand_is_rejected_and_the_others_are_stored),
    POSTGRES_TEST(a_rejected_row_does_not_take_its_repeats_along),
    POSTGRES_TEST(a_constraint_of_the_users_own_rejects_the_row_that_breaks_it),
    POSTGRES_TEST(a_reason_is_cut_between_characters),
    POSTGRES_TEST(two_writers_with_the_same_ids_store_each_once),
    POSTGRES_TEST(a_deadlock_is_tried_again_at_once),
    POSTGRES_TEST(whatever_the_database_prefers_each_statement_sees_what_is_committed),
};

int
main(void)
{
    struct postgres_server server = {0};
    struct sink_maker maker = {open_postgres, effects_postgres, true, &server};
    postgres_rig_begin(&server);
    int failures = SINK_RUN("sink/postgres", sink_every, &maker) +
                   SINK_RUN("sink/postgres, unique", sink_unique, &maker) +
                   SINK_RUN("sink/postgres, itself", own, &server);
    postgres_server_end(&server);
    return failures;
}
