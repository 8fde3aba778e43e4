#include "postgres_rig.h"

#include "postgres/postgres.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEMPLATE "migrated"

void
postgres_rig_begin(struct postgres_server *s)
{
    char url[160], why[512] = "";
    struct buf said;
    postgres_server_start(s);
    postgres_server_create(s, TEMPLATE, "template1");
    postgres_server_url(s, url, sizeof url, TEMPLATE);
    buf_init(&said, 0);
    if (pg_migrate(url, &said, why, sizeof why) != OK) {
        fail_msg("%s", why);
    }
    buf_fini(&said);
}

void
postgres_rig_init(struct postgres_rig *r, struct postgres_server *s)
{
    static unsigned n;
    *r = (struct postgres_rig){.server = s};
    if (s->pid == 0) {
        postgres_server_start(s); /* a test that failed left it so */
    }
    snprintf(r->database, sizeof r->database, "test%u", n++);
    postgres_server_create(s, r->database, TEMPLATE);
    postgres_server_url(s, r->url, sizeof r->url, r->database);
    kit_open(&r->kit);
    r->cfg = (struct config){.sink = r->url, .sink_timeout = POSTGRES_PATIENT_MS};
    assert_int_equal(batch_init(&r->batch, 1), OK);
}

void
postgres_rig_fini(struct postgres_rig *r)
{
    batch_fini(&r->batch);
    if (r->sink != NULL) {
        r->sink->ops->close(r->sink);
    }
    postgres_server_drop(r->server, r->database);
    kit_close(&r->kit);
}

int
postgres_rig_set_up(void **state)
{
    struct postgres_rig *r = calloc(1, sizeof *r);
    postgres_rig_init(r, *state);
    *state = r;
    return 0;
}

int
postgres_rig_tear_down(void **state)
{
    struct postgres_rig *r = *state;
    postgres_rig_fini(r);
    free(r);
    return 0;
}

struct sink *
postgres_rig_sink(struct postgres_rig *r)
{
    struct sink *sink = NULL;
    if (sink_postgres_open(&sink, &r->cfg, &r->kit.env, r->why, sizeof r->why) != OK) {
        fail_msg("%s", r->why);
    }
    return sink;
}

void
postgres_rig_open_sink(struct postgres_rig *r)
{
    r->sink = postgres_rig_sink(r);
}

enum err
postgres_rig_try_open(struct postgres_rig *r)
{
    struct sink *sink = NULL;
    r->why[0] = '\0';
    enum err e = sink_postgres_open(&sink, &r->cfg, &r->kit.env, r->why, sizeof r->why);
    if (e == OK) {
        sink->ops->close(sink);
    }
    return e;
}

void
postgres_rig_hold(struct postgres_rig *r, size_t cap)
{
    batch_fini(&r->batch);
    assert_int_equal(batch_init(&r->batch, cap), OK);
}

void
postgres_rig_add(struct postgres_rig *r, const char *id, const char *payload)
{
    struct event *ev = kit_event(id, payload);
    ev->accepted_ms = r->kit.env.wall_ms(&r->kit.env);
    batch_add(&r->batch, ev);
}

void
postgres_rig_hold_run(struct postgres_rig *r, const char *prefix, size_t n)
{
    postgres_rig_hold(r, n + POSTGRES_ROOM);
    for (size_t i = 0; i < n; i++) {
        char id[EVENT_ID_MAX];
        snprintf(id, sizeof id, "%s%zu", prefix, i);
        postgres_rig_add(r, id, "{\"n\":1}");
    }
}

enum err
postgres_rig_write(struct postgres_rig *r)
{
    return r->sink->ops->write(r->sink, &r->batch);
}

int64_t
postgres_rig_number(struct postgres_rig *r, const char *sql)
{
    return postgres_server_number(r->server, r->database, sql);
}

void
postgres_rig_do(struct postgres_rig *r, const char *sql)
{
    postgres_server_do(r->server, r->database, sql);
}

void
postgres_rig_expect_text(struct postgres_rig *r, const char *sql, const char *expected)
{
    char text[512];
    postgres_server_text(r->server, text, sizeof text, r->database, sql);
    assert_string_equal(text, expected);
}

int64_t
postgres_rig_events(struct postgres_rig *r)
{
    assert_int_equal(postgres_rig_number(r, "SELECT count(*) FROM events e FULL JOIN event_ids i"
                                            " USING (event_id, stored_at, seq)"
                                            " WHERE e.type IS NULL OR i.payload_hash IS NULL"),
                     0);
    assert_int_equal(
        postgres_rig_number(r, "SELECT count(*) - count(DISTINCT event_id) FROM events"), 0);
    return postgres_rig_number(r, "SELECT count(*) FROM events");
}
