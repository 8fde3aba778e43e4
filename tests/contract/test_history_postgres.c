/* What history.h promises, asked of a real PostgreSQL: what was stored can be found, in the order in
 * which it was accepted. */
#include "postgres_rig.h"

#include "clock.h"
#include "history/history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libpq-fe.h>

#define BASE_MS INT64_C(1770121800000)

static struct mailbox *answers; /* of the test that runs */

static int
set_up(void **state)
{
    answers = mailbox_open(0, 0, NULL, NULL);
    postgres_rig_set_up(state);
    postgres_rig_open_sink(*state);
    return 0;
}

static int
tear_down(void **state)
{
    mailbox_close(answers);
    return postgres_rig_tear_down(state);
}

static struct history *
open_history(struct postgres_rig *r)
{
    struct history *h = NULL;
    if (history_postgres_open(&h, &r->cfg, &r->kit.env, r->why, sizeof r->why) != OK) {
        fail_msg("%s", r->why);
    }
    return h;
}

static struct question *
new_question(enum question_kind kind)
{
    struct question *q = calloc(1, sizeof *q);
    assert_non_null(q);
    q->kind = kind;
    q->reply_to = answers;
    q->since_ms = INT64_MIN;
    q->until_ms = INT64_MAX;
    q->limit = HISTORY_LIMIT_MAX;
    return q;
}

static void
ask(struct history *h, struct question *q)
{
    assert_int_equal(h->ops->ask(h, q), OK);
    struct mail_list got = mailbox_take(answers, 1, SIZE_MAX, 2 * KIT_DEADLINE_MS);
    assert_ptr_equal(got.first, &q->reply.mail);
}

static struct question *
ask_one(struct history *h, const char *id)
{
    struct question *q = new_question(QUESTION_ONE);
    q->id_len = strlen(id);
    memcpy(q->id, id, q->id_len);
    ask(h, q);
    return q;
}

/* The ids of an answer, separated by spaces, must be these. */
static void
assert_ids(const struct question *q, const char *expected)
{
    char got[512] = "";
    assert_int_equal(q->result, OK);
    for (size_t i = 0; i < q->n; i++) {
        size_t at = strlen(got);
        snprintf(got + at, sizeof got - at, "%s%.*s", i > 0 ? " " : "",
                 SPAN_FMT(event_id(q->rows[i].ev)));
    }
    assert_string_equal(got, expected);
}

/* Events with the ids a, b, c …: a is accepted at BASE_MS, each next one a second later. They are
 * stored in the order of `letters`. */
static void
store(struct postgres_rig *r, const char *letters, const char *type)
{
    for (; *letters != '\0'; letters++) {
        const char id[] = {*letters, '\0'};
        postgres_rig_hold(r, 1);
        struct event *ev = event_new(span_of(id), span_of(type),
                                     SPAN("2026-02-03T12:30:00.5+01:00"), SPAN("{\"n\": 1}"));
        ev->accepted_ms = BASE_MS + (*letters - 'a') * 1000;
        batch_add(&r->batch, ev);
        assert_int_equal(postgres_rig_write(r), OK);
    }
}

static void
a_stored_event_is_found_by_its_id(void **state)
{
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    store(r, "ab", "T");
    struct question *q = ask_one(h, "b");
    assert_ids(q, "b");
    const struct found *f = &q->rows[0];
    assert_int_equal(f->state, EVENT_PROCESSED);
    assert_int_equal(f->ev->accepted_ms, BASE_MS + 1000);
    assert_in_range(f->settled_ms, clock_wall_ms() - KIT_DEADLINE_MS, clock_wall_ms());
    assert_true(span_eq(event_type(f->ev), SPAN("T")));
    assert_true(span_eq(event_timestamp(f->ev), SPAN("2026-02-03T11:30:00.5Z")));
    assert_true(span_eq(event_payload(f->ev), SPAN("{\"n\": 1}")));
    question_free(q);
    h->ops->close(h);
}

static void
an_unknown_id_is_not_found(void **state)
{
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    store(r, "a", "T");
    static const char *const ids[] = {"b", "", "a'; DROP TABLE events; --", "\xff\xfe"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct question *q = ask_one(h, ids[i]);
        assert_int_equal(q->result, ERR_NOT_FOUND);
        assert_int_equal(q->n, 0);
        question_free(q);
    }
    h->ops->close(h);
}

static void
a_timestamp_is_shown_in_utc_with_the_digits_that_it_has(void **state)
{
    static const struct {
        const char *id, *given, *shown;
    } times[] = {
        {"a", "2026-02-03T12:30:00Z", "2026-02-03T12:30:00Z"},
        {"b", "2026-02-03T12:30:00.120000Z", "2026-02-03T12:30:00.12Z"},
        {"c", "1960-02-03T12:30:00.000001-00:30", "1960-02-03T13:00:00.000001Z"},
        {"d", "1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"},
        {"e", "0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"},
        {"f", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"},
        {"g", "1990-12-31T23:59:60Z", "1991-01-01T00:00:00Z"},
    };
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        postgres_rig_hold(r, 1);
        batch_add(&r->batch,
                  event_new(span_of(times[i].id), SPAN("T"), span_of(times[i].given), SPAN("{}")));
        assert_int_equal(postgres_rig_write(r), OK);
        struct question *q = ask_one(h, times[i].id);
        assert_int_equal(q->result, OK);
        char shown[EVENT_TIME_MAX + 1];
        snprintf(shown, sizeof shown, "%.*s", SPAN_FMT(event_timestamp(q->rows[0].ev)));
        assert_string_equal(shown, times[i].shown);
        question_free(q);
    }
    h->ops->close(h);
}

static void
a_list_is_newest_first_by_accept_order_not_by_store_order(void **state)
{
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    store(r, "cadbe", "T");
    struct question *q = new_question(QUESTION_LIST);
    ask(h, q);
    assert_ids(q, "e d c b a");
    assert_int_equal(q->next_seq, 0);
    question_free(q);
    h->ops->close(h);
}

static void
type_since_and_until_narrow_a_list(void **state)
{
    static const struct {
        const char *type;
        int64_t since_ms, until_ms;
        const char *expected;
    } cases[] = {
        {"", INT64_MIN, INT64_MAX, "f e d c b a"},
        {"X", INT64_MIN, INT64_MAX, "f e"},
        {"none", INT64_MIN, INT64_MAX, ""},
        {"'", INT64_MIN, INT64_MAX, ""},
        {"", BASE_MS + 2000, INT64_MAX, "f e d c"}, /* at or after */
        {"", BASE_MS + 2001, INT64_MAX, "f e d"},   /* to the millisecond */
        {"", INT64_MIN, BASE_MS + 2000, "b a"},     /* before */
        {"", INT64_MIN, BASE_MS + 2001, "c b a"},
        {"", BASE_MS + 1000, BASE_MS + 3000, "c b"},
        {"X", BASE_MS + 1000, BASE_MS + 5000, "e"},
        {"", BASE_MS + 3000, BASE_MS + 1000, ""},
        {"", -INT64_C(62167219200000), INT64_C(253402300799999), "f e d c b a"}, /* years 0, 9999 */
        {"", INT64_C(253402300799999), INT64_MAX, ""},
        {"", INT64_MIN, -1, ""},
    };
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    store(r, "abcd", "T");
    store(r, "ef", "X");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct question *q = new_question(QUESTION_LIST);
        q->type_len = strlen(cases[i].type);
        memcpy(q->type, cases[i].type, q->type_len);
        q->since_ms = cases[i].since_ms;
        q->until_ms = cases[i].until_ms;
        ask(h, q);
        assert_ids(q, cases[i].expected);
        question_free(q);
    }
    h->ops->close(h);
}

static void
events_that_came_before_the_days_table_are_found_by_since(void **state)
{
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    postgres_rig_hold(r, 1);
    postgres_rig_add(r, "now", "{}");
    int64_t accepted_ms = r->batch.item[0].ev->accepted_ms;
    assert_int_equal(postgres_rig_write(r), OK);
    /* the accepting machine's clock was half a day ahead of the database's */
    postgres_rig_do(r, "UPDATE event_ids SET stored_at = stored_at - interval '12 hours';"
                       "UPDATE events SET stored_at = stored_at - interval '12 hours'");
    struct question *q = new_question(QUESTION_LIST);
    q->since_ms = accepted_ms;
    ask(h, q);
    assert_ids(q, "now");
    question_free(q);
    h->ops->close(h);
}

/* As many of one type before as of the other after: the way over all of them would be long. */
static void
a_list_of_one_type_is_not_looked_for_among_the_others(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_do(
        r, "INSERT INTO events SELECT n, CASE WHEN n <= 10000 THEN 'EARLY' ELSE 'LATE' END,"
           " now(), '{}', now(), now(), (extract(epoch from now()) * 1000)::bigint *"
           " 2097152 + n FROM generate_series(1, 20000) n; ANALYZE events");
    struct history *h = open_history(r);
    struct question *q = new_question(QUESTION_LIST);
    q->limit = 3;
    q->type_len = 5;
    memcpy(q->type, "EARLY", 5);
    ask(h, q);
    assert_ids(q, "10000 9999 9998");
    question_free(q);
    h->ops->close(h); /* a session that ends tells what it used */
    int64_t until_ms = clock_mono_ns() / 1000000 + KIT_DEADLINE_MS;
    while (clock_mono_ns() / 1000000 < until_ms &&
           postgres_rig_number(r, "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE"
                                  " indexrelname LIKE 'events%seq_idx'") == 0) {
    }
    assert_in_range(postgres_rig_number(r,
                                        "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE"
                                        " indexrelname LIKE 'events%seq_idx'"),
                    3, 10);
}

/* The first answer is looked for in the last day, the next in a month, then everywhere. */
static void
a_list_goes_on_beyond_its_last_day(void **state)
{
    static const int64_t hours_ago[] = {1, 23, 25, 24 * 10, 24 * 29, 24 * 31, 24 * 400, 24 * 10000};
    enum { N = sizeof hours_ago / sizeof *hours_ago };
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    char all[2 * N + 1] = "";
    postgres_rig_hold(r, N);
    for (int i = 0; i < N; i++) {
        const char id[] = {(char)('a' + i), '\0'};
        postgres_rig_add(r, id, "{}");
        r->batch.item[i].ev->accepted_ms -= hours_ago[i] * 3600000;
        snprintf(all + 2 * i, sizeof all - (size_t)(2 * i), "%s ", id);
    }
    all[2 * N - 1] = '\0';
    assert_int_equal(postgres_rig_write(r), OK);
    for (size_t limit = 1; limit <= N; limit++) {
        uint64_t cursor = 0;
        size_t seen = 0;
        do {
            struct question *q = new_question(QUESTION_LIST);
            q->limit = limit;
            q->before_seq = cursor;
            ask(h, q);
            size_t n = N - seen < limit ? N - seen : limit;
            char expected[2 * N + 1];
            snprintf(expected, sizeof expected, "%.*s", (int)(2 * n - 1), all + 2 * seen);
            assert_ids(q, expected);
            seen += q->n;
            cursor = q->next_seq;
            question_free(q);
        } while (cursor != 0);
        assert_int_equal(seen, N);
    }
    h->ops->close(h);
}

static void
pages_show_every_event_once(void **state)
{
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    postgres_rig_hold_run(r, "e", 95);
    for (size_t i = 0; i < r->batch.n; i++) { /* many in one millisecond */
        r->batch.item[i].ev->accepted_ms = BASE_MS + (int64_t)i / 40;
    }
    assert_int_equal(postgres_rig_write(r), OK);
    uint64_t cursor = 0;
    int next = 94;
    for (int page = 0; page < 10; page++) {
        struct question *q = new_question(QUESTION_LIST);
        q->limit = 10;
        q->before_seq = cursor;
        ask(h, q);
        assert_int_equal(q->result, OK);
        assert_int_equal(q->n, page < 9 ? 10 : 5);
        for (size_t i = 0; i < q->n; i++, next--) {
            char id[16];
            snprintf(id, sizeof id, "e%d", next);
            assert_true(span_eq(event_id(q->rows[i].ev), span_of(id)));
        }
        cursor = q->next_seq;
        assert_int_equal(cursor != 0, page < 9);
        question_free(q);
    }
    h->ops->close(h);
}

static void
a_page_that_is_just_full_is_the_last(void **state)
{
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    store(r, "abc", "T");
    struct question *q = new_question(QUESTION_LIST);
    q->limit = 3;
    ask(h, q);
    assert_ids(q, "c b a");
    assert_int_equal(q->next_seq, 0);
    question_free(q);
    h->ops->close(h);
}

static void
a_long_answer_ends_early_and_goes_on_at_its_cursor(void **state)
{
    enum { N = 30 };
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    size_t size = (size_t)400 * 1024;
    char *payload = malloc(size + 16);
    snprintf(payload, size + 16, "{\"a\":\"%*s\"}", (int)size, "");
    postgres_rig_hold(r, N);
    for (int i = 0; i < N; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", i);
        postgres_rig_add(r, id, payload);
    }
    free(payload);
    assert_int_equal(postgres_rig_write(r), OK);
    size_t seen = 0;
    unsigned pages = 0;
    uint64_t cursor = 0;
    do {
        struct question *q = new_question(QUESTION_LIST);
        q->before_seq = cursor;
        ask(h, q);
        assert_int_equal(q->result, OK);
        assert_in_range(q->n, 1, HISTORY_ANSWER_BYTES / size + 2);
        seen += q->n;
        cursor = q->next_seq;
        pages++;
        question_free(q);
    } while (cursor != 0 && pages < 20);
    assert_int_equal(seen, N);
    assert_int_equal(pages, 3);
    h->ops->close(h);
}

static void
questions_are_answered_before_it_closes(void **state)
{
    enum { N = 200 };
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    const struct history_ops *ops = h->ops;
    store(r, "abc", "T");
    for (int i = 0; i < N; i++) {
        assert_int_equal(ops->ask(h, new_question(QUESTION_LIST)), OK);
    }
    ops->close(h);
    ops->close(NULL);
    for (int i = 0; i < N; i++) {
        struct mail_list got = mailbox_take(answers, 1, SIZE_MAX, 0);
        struct question *q = (struct question *)got.first;
        assert_non_null(q);
        assert_ids(q, "c b a");
        question_free(q);
    }
}

static void
a_search_that_takes_longer_than_a_second_is_given_up(void **state)
{
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    store(r, "a", "T");
    PGconn *locker = PQconnectdb(r->url);
    PQclear(PQexec(locker, "BEGIN; LOCK TABLE event_ids, events"));
    for (int kind = QUESTION_ONE; kind <= QUESTION_LIST; kind++) {
        struct question *q = new_question((enum question_kind)kind);
        q->id[0] = 'a';
        q->id_len = 1;
        ask(h, q);
        assert_int_equal(q->result, ERR_UNAVAILABLE);
        assert_non_null(q->why);
        assert_int_equal(q->n, 0);
        question_free(q);
    }
    PQfinish(locker);
    struct question *q = ask_one(h, "a");
    assert_ids(q, "a");
    question_free(q);
    h->ops->close(h);
}

/* Each row of it takes its time. */
static void
a_slow_search_says_how_to_narrow_it(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_do(r, "CREATE FUNCTION slow() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM"
                       " pg_sleep(10); RETURN 'T'; END $$;"
                       "ALTER TABLE events RENAME TO kept;"
                       "CREATE VIEW events AS SELECT event_id, slow() AS type, timestamp, payload,"
                       " accepted_at, stored_at, seq FROM kept;"
                       "INSERT INTO kept VALUES ('a', 'T', now(), '{}', now(), now(), 1)");
    struct history *h = open_history(r);
    struct question *q = new_question(QUESTION_LIST);
    ask(h, q);
    assert_int_equal(q->result, ERR_UNAVAILABLE);
    assert_non_null(strstr(q->why, "narrow it with type"));
    question_free(q);
    h->ops->close(h);
}

static void
a_server_that_was_restarted_is_asked_again_unnoticed(void **state)
{
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    store(r, "a", "T");
    struct question *q = ask_one(h, "a");
    assert_ids(q, "a");
    question_free(q);
    postgres_server_kill(r->server);
    postgres_server_start(r->server);
    q = ask_one(h, "a");
    assert_ids(q, "a");
    question_free(q);
    h->ops->close(h);
}

static void
a_server_that_is_away_is_told_and_many_questions_do_not_wait_for_it(void **state)
{
    enum { N = 50 };
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    store(r, "a", "T");
    postgres_server_pause(r->server);
    int64_t from_ms = clock_mono_ns() / 1000000;
    for (int i = 0; i < N; i++) {
        struct question *q = ask_one(h, "a");
        assert_int_equal(q->result, ERR_UNAVAILABLE);
        assert_string_equal(q->why, "PostgreSQL cannot be reached or does not answer");
        question_free(q);
    }
    assert_in_range(clock_mono_ns() / 1000000 - from_ms, 0, KIT_DEADLINE_MS);
    postgres_server_resume(r->server);
    int64_t until_ms = clock_mono_ns() / 1000000 + 2 * (int64_t)KIT_DEADLINE_MS;
    enum err e = ERR_UNAVAILABLE;
    while (e != OK && clock_mono_ns() / 1000000 < until_ms) {
        struct question *q = ask_one(h, "a");
        e = q->result;
        question_free(q);
    }
    assert_int_equal(e, OK);
    h->ops->close(h);
}

static void
the_connection_cannot_write(void **state)
{
    struct postgres_rig *r = *state;
    struct history *h = open_history(r);
    postgres_rig_do(r,
                    "CREATE FUNCTION touch() RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO"
                    " weir_schema VALUES (50); RETURN 'T'; END $$;"
                    "ALTER TABLE events RENAME TO kept;"
                    "CREATE VIEW events AS SELECT event_id, touch() AS type, timestamp, payload,"
                    " accepted_at, stored_at, seq FROM kept;"
                    "INSERT INTO kept VALUES ('a', 'T', now(), '{}', now(), now(), 1)");
    struct question *q = new_question(QUESTION_LIST);
    ask(h, q);
    assert_int_equal(q->result, ERR_UNAVAILABLE);
    question_free(q);
    assert_int_equal(postgres_rig_number(r, "SELECT count(*) FROM weir_schema"), 1);
    h->ops->close(h);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
static const struct CMUnitTest tests[] = {
    TEST(a_stored_event_is_found_by_its_id),
    TEST(an_unknown_id_is_not_found),
    TEST(a_timestamp_is_shown_in_utc_with_the_digits_that_it_has),
    TEST(a_list_is_newest_first_by_accept_order_not_by_store_order),
    TEST(type_since_and_until_narrow_a_list),
    TEST(events_that_came_before_the_days_table_are_found_by_since),
    TEST(a_list_of_one_type_is_not_looked_for_among_the_others),
    TEST(a_list_goes_on_beyond_its_last_day),
    TEST(pages_show_every_event_once),
    TEST(a_page_that_is_just_full_is_the_last),
    TEST(a_long_answer_ends_early_and_goes_on_at_its_cursor),
    TEST(questions_are_answered_before_it_closes),
    TEST(a_search_that_takes_longer_than_a_second_is_given_up),
    TEST(a_slow_search_says_how_to_narrow_it),
    TEST(a_server_that_was_restarted_is_asked_again_unnoticed),
    TEST(a_server_that_is_away_is_told_and_many_questions_do_not_wait_for_it),
    TEST(the_connection_cannot_write),
};

int
main(void)
{
    struct postgres_server server = {0};
    postgres_rig_begin(&server);
    int failures = kit_run("history/postgres", tests, sizeof tests / sizeof *tests, &server);
    postgres_server_end(&server);
    return failures;
}
