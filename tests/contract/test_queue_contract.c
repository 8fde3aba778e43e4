/* What queue.h promises, asked of every backend. */
#include "queue_rig.h"
#include "thread.h"

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
    kit_take(r->queue, &r->batch, 4);
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
    kit_take(r->queue, &r->batch, 1);
    const struct event *out = r->batch.item[0].ev;
    assert_true(span_eq(event_id(out), SPAN("id \xe2\x82\xac")));
    assert_true(span_eq(event_type(out), SPAN("T")));
    assert_true(span_eq(event_timestamp(out), SPAN("2026-02-03T12:30:00.123456+05:30")));
    assert_true(span_eq(event_payload(out), in));
}

static void
a_taken_event_is_not_given_again_while_it_is_held(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish_one(r->queue, "a"), OK);
    kit_take(r->queue, &r->batch, 1);
    queue_rig_assert_nothing_to_take(r);
    assert_int_equal(kit_depth(r->queue), 1);
}

static void
a_take_gives_at_most_what_the_batch_holds(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish_run(r->queue, "e", 150), OK);
    kit_take(r->queue, &r->batch, 100);
    queue_rig_settle(r, EVENT_PROCESSED);
    kit_take(r->queue, &r->batch, 50);
    assert_true(kit_id_is(&r->batch.item[0], "e100"));
}

static void
settled_events_are_gone_whatever_became_of_them(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish(r->queue, (const char *[]){"a", "b", "c"}, 3), OK);
    kit_take(r->queue, &r->batch, 3);
    r->batch.item[0].state = EVENT_PROCESSED;
    r->batch.item[1].state = EVENT_DUPLICATE;
    r->batch.item[2].state = EVENT_DEAD;
    snprintf(r->batch.item[2].reason, sizeof r->batch.item[2].reason, "no use");
    queue_rig_settle(r, EVENT_PROCESSED);
    assert_int_equal(kit_depth(r->queue), 0);
    queue_rig_assert_nothing_to_take(r);
}

static void
an_undecided_event_stays_taken_and_can_be_settled_later(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish_one(r->queue, "a"), OK);
    kit_take(r->queue, &r->batch, 1);
    r->batch.item[0].result = ERR_UNAVAILABLE;
    assert_int_equal(r->queue->ops->settle(r->queue, &r->batch), OK);
    assert_int_equal(r->batch.item[0].state, EVENT_PROCESSING);
    assert_int_equal(kit_depth(r->queue), 1);
    queue_rig_assert_nothing_to_take(r);
    r->batch.item[0].result = OK;
    queue_rig_settle(r, EVENT_PROCESSED);
    assert_int_equal(kit_depth(r->queue), 0);
}

static void
batches_may_be_settled_out_of_order(void **state)
{
    struct queue_rig *r = *state;
    struct batch later;
    assert_int_equal(batch_init(&later, 100), OK);
    assert_int_equal(kit_publish_run(r->queue, "e", 150), OK);
    kit_take(r->queue, &r->batch, 100);
    kit_take(r->queue, &later, 50);
    kit_decide(&later, EVENT_PROCESSED);
    assert_int_equal(r->queue->ops->settle(r->queue, &later), OK);
    assert_int_equal(kit_depth(r->queue), 100);
    queue_rig_settle(r, EVENT_PROCESSED);
    assert_int_equal(kit_depth(r->queue), 0);
    batch_fini(&later);
}

static void
the_same_id_is_given_as_often_as_it_was_published(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish(r->queue, (const char *[]){"a", "a"}, 2), OK);
    assert_int_equal(kit_publish_one(r->queue, "a"), OK);
    kit_take(r->queue, &r->batch, 3);
}

static void
a_take_without_events_returns_empty_when_its_time_is_over(void **state)
{
    queue_rig_assert_nothing_to_take(*state);
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
    kit_take(r->queue, &r->batch, 10);
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
        assert_int_equal(r->queue->ops->take(r->queue, &r->batch, 100), OK);
        in -= r->batch.n;
        queue_rig_settle(r, EVENT_PROCESSED);
    }
    assert_int_equal(in, 0);
    assert_int_equal(kit_publish_event(r->queue, kit_event("again", payload)), OK);
    free(payload);
}

struct taker {
    struct queue *queue;
    struct thread thread;
    struct batch batch;
    enum err result;
    atomic_uint *seen; /* one a number */
};

static void
take_with_patience(void *data)
{
    struct taker *t = data;
    do {
        t->result = t->queue->ops->take(t->queue, &t->batch, KIT_DEADLINE_MS);
    } while (t->result == OK && t->batch.n == 0);
}

static void
a_waiting_take_gets_what_is_published_later(void **state)
{
    struct queue_rig *r = *state;
    struct taker t = {.queue = r->queue};
    assert_int_equal(batch_init(&t.batch, 10), OK);
    assert_int_equal(thread_start(&t.thread, "taker", take_with_patience, &t), OK);
    assert_int_equal(kit_publish_one(r->queue, "a"), OK);
    thread_join(&t.thread);
    assert_int_equal(t.result, OK);
    assert_int_equal(t.batch.n, 1);
    batch_fini(&t.batch);
}

static void
stop_ends_every_waiting_take(void **state)
{
    struct queue_rig *r = *state;
    struct taker t[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        t[i].queue = r->queue;
        assert_int_equal(batch_init(&t[i].batch, 10), OK);
        assert_int_equal(thread_start(&t[i].thread, "taker", take_with_patience, &t[i]), OK);
    }
    r->queue->ops->stop(r->queue);
    for (size_t i = 0; i < 3; i++) {
        thread_join(&t[i].thread);
        assert_int_equal(t[i].result, ERR_STOPPING);
        batch_fini(&t[i].batch);
    }
}

static void
after_stop_publishes_are_answered_settles_work_and_nothing_is_given(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish_one(r->queue, "a"), OK);
    kit_take(r->queue, &r->batch, 1);
    r->queue->ops->stop(r->queue);
    assert_int_equal(kit_publish_one(r->queue, "b"), OK);
    queue_rig_settle(r, EVENT_PROCESSED);
    assert_int_equal(kit_depth(r->queue), 1);
    struct batch none;
    assert_int_equal(batch_init(&none, 10), OK);
    assert_int_equal(r->queue->ops->take(r->queue, &none, 20), ERR_STOPPING);
    assert_int_equal(none.n, 0);
    batch_fini(&none);
}

#define CROWD 4
#define EACH 300

static void
take_and_settle_until_stopped(void *data)
{
    struct taker *t = data;
    for (;;) {
        t->result = t->queue->ops->take(t->queue, &t->batch, 50);
        if (t->result != OK) {
            return;
        }
        for (size_t i = 0; i < t->batch.n; i++) {
            struct span id = event_id(t->batch.item[i].ev);
            unsigned number = (unsigned)strtoul(id.at + 1, NULL, 10); /* "e12" and then the type */
            atomic_fetch_add(&t->seen[number], 1);
        }
        kit_decide(&t->batch, EVENT_PROCESSED);
        t->result = t->queue->ops->settle(t->queue, &t->batch);
        if (t->result != OK) {
            return;
        }
        batch_reset(&t->batch);
    }
}

struct publisher {
    struct queue *queue;
    struct thread thread;
    unsigned first;
    atomic_uint failures;
};

static void
publish_each(void *data)
{
    struct publisher *p = data;
    for (unsigned i = 0; i < EACH; i++) {
        char id[32];
        snprintf(id, sizeof id, "e%u", p->first + i);
        if (kit_publish_one(p->queue, id) != OK) {
            atomic_fetch_add(&p->failures, 1);
        }
    }
}

static void
many_publishers_and_takers_lose_and_double_nothing(void **state)
{
    struct queue_rig *r = *state;
    static atomic_uint seen[CROWD * EACH];
    struct publisher publishers[CROWD] = {0};
    struct taker takers[CROWD] = {0};
    memset(seen, 0, sizeof seen);
    for (unsigned i = 0; i < CROWD; i++) {
        publishers[i].queue = takers[i].queue = r->queue;
        publishers[i].first = i * EACH;
        takers[i].seen = seen;
        assert_int_equal(batch_init(&takers[i].batch, 7), OK);
        assert_int_equal(
            thread_start(&takers[i].thread, "taker", take_and_settle_until_stopped, &takers[i]),
            OK);
        assert_int_equal(
            thread_start(&publishers[i].thread, "publisher", publish_each, &publishers[i]), OK);
    }
    for (size_t i = 0; i < CROWD; i++) {
        thread_join(&publishers[i].thread);
        assert_int_equal(publishers[i].failures, 0);
    }
    int64_t until_ms = r->kit.env.mono_ms(&r->kit.env) + KIT_DEADLINE_MS;
    while (kit_depth(r->queue) > 0 && r->kit.env.mono_ms(&r->kit.env) < until_ms) {
        sched_yield();
    }
    r->queue->ops->stop(r->queue);
    for (size_t i = 0; i < CROWD; i++) {
        thread_join(&takers[i].thread);
        assert_int_equal(takers[i].result, ERR_STOPPING);
        batch_fini(&takers[i].batch);
    }
    for (size_t i = 0; i < CROWD * EACH; i++) {
        assert_int_equal(seen[i], 1);
    }
}

static const struct CMUnitTest every[] = {
    QUEUE_TEST(published_events_are_taken_in_accept_order),
    QUEUE_TEST(an_event_comes_out_byte_for_byte_as_it_went_in),
    QUEUE_TEST(a_taken_event_is_not_given_again_while_it_is_held),
    QUEUE_TEST(a_take_gives_at_most_what_the_batch_holds),
    QUEUE_TEST(settled_events_are_gone_whatever_became_of_them),
    QUEUE_TEST(an_undecided_event_stays_taken_and_can_be_settled_later),
    QUEUE_TEST(batches_may_be_settled_out_of_order),
    QUEUE_TEST(the_same_id_is_given_as_often_as_it_was_published),
    QUEUE_TEST(a_take_without_events_returns_empty_when_its_time_is_over),
    QUEUE_TEST(the_status_counts_what_is_not_settled),
    QUEUE_TEST(a_full_queue_refuses_loses_nothing_and_takes_again_when_drained),
    QUEUE_TEST(a_waiting_take_gets_what_is_published_later),
    QUEUE_TEST(stop_ends_every_waiting_take),
    QUEUE_TEST(after_stop_publishes_are_answered_settles_work_and_nothing_is_given),
    QUEUE_TEST(many_publishers_and_takers_lose_and_double_nothing),
};

int
main(void)
{
    size_t n = sizeof every / sizeof *every;
    return kit_run("queue/memory", every, n, &queue_rig_memory) +
           kit_run("queue/local", every, n, &queue_rig_local);
}
