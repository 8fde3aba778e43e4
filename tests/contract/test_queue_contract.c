/* What queue.h promises, asked of every backend: what goes in, and how much of it waits. */
#include "queue_rig.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void
published_events_are_taken_in_accept_order(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish(r->queue, (const char *[]){"a", "b", "c"}, 3), OK);
    assert_int_equal(kit_publish_one(r->queue, "d"), OK);
    kit_take(r->consumer, &r->batch, 4);
    uint64_t last_seq = 0;
    for (size_t i = 0; i < 4; i++) {
        const char id[] = {"abcd"[i], '\0'};
        assert_true(kit_id_is(&r->batch.item[i], id));
        assert_true(r->batch.item[i].ev->seq > last_seq);
        assert_true(r->batch.item[i].ev->accepted_ms > 0);
        assert_int_equal(r->batch.item[i].state, EVENT_PROCESSING);
        last_seq = r->batch.item[i].ev->seq;
    }
}

static void
an_event_comes_out_byte_for_byte_as_it_went_in(void **state)
{
    struct queue_rig *r = *state;
    char payload[20000];
    for (size_t i = 0; i < sizeof payload; i++) {
        payload[i] = "{\"k\": \xc3\xa9 \\u0000}"[i % 17];
    }
    struct span in = {payload, sizeof payload};
    struct event *ev =
        event_new(SPAN("id \xe2\x82\xac"), SPAN("T"), SPAN("2026-02-03T12:30:00.123456+05:30"), in);
    assert_int_equal(kit_publish_event(r->queue, ev), OK);
    kit_take(r->consumer, &r->batch, 1);
    const struct event *out = r->batch.item[0].ev;
    assert_true(span_eq(event_id(out), SPAN("id \xe2\x82\xac")));
    assert_true(span_eq(event_type(out), SPAN("T")));
    assert_true(span_eq(event_timestamp(out), SPAN("2026-02-03T12:30:00.123456+05:30")));
    assert_true(span_eq(event_payload(out), in));
}

static void
the_same_id_is_given_as_often_as_it_was_published(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish(r->queue, (const char *[]){"a", "a"}, 2), OK);
    assert_int_equal(kit_publish_one(r->queue, "a"), OK);
    kit_take(r->consumer, &r->batch, 3);
}

/* A status may lag behind, but not for ever. */
static void
wait_until_idle(struct queue_rig *r)
{
    struct queue_status s = {.depth = 1};
    int64_t until_ms = r->kit.env.mono_ms(&r->kit.env) + KIT_DEADLINE_MS;
    while ((s.depth != 0 || s.bytes != 0 || s.oldest_age_ms != 0) &&
           r->kit.env.mono_ms(&r->kit.env) < until_ms) {
        r->queue->ops->status(r->queue, &s);
        sched_yield();
    }
    assert_true(s.depth == 0 && s.bytes == 0 && s.oldest_age_ms == 0);
}

static void
the_status_counts_what_is_not_settled(void **state)
{
    struct queue_rig *r = *state;
    struct queue_status s = {0};
    r->queue->ops->status(r->queue, &s);
    assert_true(s.ready && s.depth == 0 && s.bytes == 0 && s.oldest_age_ms == 0);
    assert_int_equal(kit_publish_run(r->queue, "e", 10), OK);
    r->queue->ops->status(r->queue, &s);
    assert_int_equal(s.depth, 10);
    assert_true(s.bytes >= 10 * strlen("{\"of\":\"e0\"}"));
    assert_true(s.oldest_age_ms >= 0 && s.oldest_age_ms < KIT_DEADLINE_MS);
    assert_in_range(s.retry_after_s, 1, 60);
    kit_take(r->consumer, &r->batch, 10);
    r->queue->ops->status(r->queue, &s);
    assert_int_equal(s.depth, 10); /* taken is not settled */
    queue_rig_settle(r, EVENT_PROCESSED);
    wait_until_idle(r);
}

/* Publishes until it is refused; gives how many went in. */
static size_t
fill_up(struct queue_rig *r, const char *payload, enum err *refusal)
{
    char id[32];
    for (size_t n = 0;; n++) {
        snprintf(id, sizeof id, "fill%zu", n);
        *refusal = kit_publish_event(r->queue, kit_event(id, payload));
        if (*refusal != OK || n == 100) {
            return n;
        }
    }
}

static void
a_full_queue_refuses_loses_nothing_and_takes_again_when_drained(void **state)
{
    struct queue_rig *r = *state;
    char *payload = calloc(1, 64 * 1024);
    memset(payload, 'x', 64 * 1024 - 1);
    enum err refusal = OK;
    size_t in = fill_up(r, payload, &refusal);
    assert_int_equal(refusal, ERR_QUEUE_FULL);
    assert_in_range(in, 2, QUEUE_MAX_BYTES / (64 * 1024) + 1); /* the last one may cross the line */
    assert_int_equal(kit_depth(r->queue), in);
    while (kit_depth(r->queue) > 0) {
        assert_int_equal(r->consumer->ops->take(r->consumer, &r->batch, 100), OK);
        in -= r->batch.n;
        queue_rig_settle(r, EVENT_PROCESSED);
    }
    assert_int_equal(in, 0);
    assert_int_equal(kit_publish_event(r->queue, kit_event("again", payload)), OK);
    free(payload);
}

static void
close_takes_null(void **state)
{
    struct queue_rig *r = *state;
    r->queue->ops->close(NULL);
}

static const struct CMUnitTest every[] = {
    QUEUE_TEST(published_events_are_taken_in_accept_order),
    QUEUE_TEST(an_event_comes_out_byte_for_byte_as_it_went_in),
    QUEUE_TEST(the_same_id_is_given_as_often_as_it_was_published),
    QUEUE_TEST(the_status_counts_what_is_not_settled),
    QUEUE_TEST(a_full_queue_refuses_loses_nothing_and_takes_again_when_drained),
    QUEUE_TEST(close_takes_null),
};

int
main(void)
{
    size_t n = sizeof every / sizeof *every;
    return kit_run("queue/memory", every, n, &queue_rig_memory) +
           kit_run("queue/local", every, n, &queue_rig_local);
}
