/* What consumer.h promises, asked of every backend. */
#include "queue_rig.h"

#include "memory.h"
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
a_taken_event_is_not_given_again_while_it_is_held(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish_one(r->queue, "a"), OK);
    kit_take(r->consumer, &r->batch, 1);
    queue_rig_assert_nothing_to_take(r);
    assert_int_equal(kit_depth(r->queue), 1);
}

static void
a_take_gives_at_most_what_the_batch_holds(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish_run(r->queue, "e", 150), OK);
    kit_take(r->consumer, &r->batch, 100);
    queue_rig_settle(r, EVENT_PROCESSED);
    kit_take(r->consumer, &r->batch, 50);
    assert_true(kit_id_is(&r->batch.item[0], "e100"));
}

static void
settled_events_are_gone_whatever_became_of_them(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish(r->queue, (const char *[]){"a", "b", "c"}, 3), OK);
    kit_take(r->consumer, &r->batch, 3);
    r->batch.item[0].state = EVENT_PROCESSED;
    r->batch.item[1].state = EVENT_DUPLICATE;
    r->batch.item[2].state = EVENT_DEAD;
    snprintf(r->batch.item[2].reason, sizeof r->batch.item[2].reason, "no use");
    queue_rig_settle(r, EVENT_PROCESSED);
    assert_int_equal(kit_depth(r->queue), 0);
    queue_rig_assert_nothing_to_take(r);
}

static void
a_settle_that_failed_leaves_the_batch_taken_and_can_be_repeated(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish(r->queue, (const char *[]){"a", "b"}, 2), OK);
    kit_take(r->consumer, &r->batch, 2);
    kit_decide(&r->batch, EVENT_PROCESSED);
    r->maker->fail_settle(r);
    assert_int_equal(r->consumer->ops->settle(r->consumer, &r->batch), ERR_UNAVAILABLE);
    assert_int_equal(kit_depth(r->queue), 2);
    queue_rig_assert_nothing_to_take(r);
    queue_rig_settle(r, EVENT_PROCESSED);
    assert_int_equal(kit_depth(r->queue), 0);
}

static void
batches_of_two_consumers_may_be_settled_in_any_order(void **state)
{
    struct queue_rig *r = *state;
    struct consumer *other = queue_rig_another_consumer(r);
    struct batch later;
    assert_int_equal(batch_init(&later, 100), OK);
    assert_int_equal(kit_publish_run(r->queue, "e", 150), OK);
    kit_take(r->consumer, &r->batch, 100);
    kit_take(other, &later, 50);
    kit_decide(&later, EVENT_PROCESSED);
    assert_int_equal(other->ops->settle(other, &later), OK);
    assert_int_equal(kit_depth(r->queue), 100);
    queue_rig_settle(r, EVENT_PROCESSED);
    assert_int_equal(kit_depth(r->queue), 0);
    batch_fini(&later);
    other->ops->close(other);
}

static void
a_consumer_that_is_closed_leaves_the_others_at_work(void **state)
{
    struct queue_rig *r = *state;
    struct consumer *other = queue_rig_another_consumer(r);
    other->ops->close(other);
    assert_int_equal(kit_publish_one(r->queue, "a"), OK);
    kit_take(r->consumer, &r->batch, 1);
    queue_rig_settle(r, EVENT_PROCESSED);
    assert_int_equal(kit_depth(r->queue), 0);
}

static void
idle_changes_nothing(void **state)
{
    struct queue_rig *r = *state;
    r->consumer->ops->idle(r->consumer); /* before anything was taken */
    assert_int_equal(kit_publish(r->queue, (const char *[]){"a", "b"}, 2), OK);
    r->consumer->ops->idle(r->consumer);
    kit_take(r->consumer, &r->batch, 2);
    for (size_t i = 0; i < 3; i++) {
        r->consumer->ops->idle(r->consumer);
    }
    assert_int_equal(kit_depth(r->queue), 2);
    queue_rig_settle(r, EVENT_PROCESSED);
    r->consumer->ops->idle(r->consumer);
    assert_int_equal(kit_depth(r->queue), 0);
    queue_rig_assert_nothing_to_take(r);
}

static void
a_take_without_events_returns_empty_when_its_time_is_over(void **state)
{
    queue_rig_assert_nothing_to_take(*state);
}

struct taker {
    struct consumer *consumer;
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
        t->result = t->consumer->ops->take(t->consumer, &t->batch, KIT_DEADLINE_MS);
    } while (t->result == OK && t->batch.n == 0);
}

static void
a_waiting_take_gets_what_is_published_later(void **state)
{
    struct queue_rig *r = *state;
    struct taker t = {.consumer = r->consumer};
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
        t[i].consumer = queue_rig_another_consumer(r);
        assert_int_equal(batch_init(&t[i].batch, 10), OK);
        assert_int_equal(thread_start(&t[i].thread, "taker", take_with_patience, &t[i]), OK);
    }
    for (size_t i = 0; i < 3; i++) {
        t[i].consumer->ops->stop(t[i].consumer);
    }
    for (size_t i = 0; i < 3; i++) {
        thread_join(&t[i].thread);
        assert_int_equal(t[i].result, ERR_STOPPING);
        t[i].consumer->ops->close(t[i].consumer);
        batch_fini(&t[i].batch);
    }
}

static void
after_stop_publishes_are_answered_settles_work_and_nothing_is_given(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish_one(r->queue, "a"), OK);
    kit_take(r->consumer, &r->batch, 1);
    r->consumer->ops->stop(r->consumer);
    assert_int_equal(kit_publish_one(r->queue, "b"), OK);
    queue_rig_settle(r, EVENT_PROCESSED);
    assert_int_equal(kit_depth(r->queue), 1);
    struct batch none;
    assert_int_equal(batch_init(&none, 10), OK);
    assert_int_equal(r->consumer->ops->take(r->consumer, &none, 20), ERR_STOPPING);
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
        t->result = t->consumer->ops->take(t->consumer, &t->batch, 50);
        if (t->result != OK) {
            return;
        }
        for (size_t i = 0; i < t->batch.n; i++) {
            struct span id = event_id(t->batch.item[i].ev);
            unsigned number = (unsigned)strtoul(id.at + 1, NULL, 10); /* "e12" and then the type */
            atomic_fetch_add(&t->seen[number], 1);
        }
        kit_decide(&t->batch, EVENT_PROCESSED);
        t->result = t->consumer->ops->settle(t->consumer, &t->batch);
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
        publishers[i].queue = r->queue;
        takers[i].consumer = queue_rig_another_consumer(r);
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
    for (size_t i = 0; i < CROWD; i++) {
        takers[i].consumer->ops->stop(takers[i].consumer);
    }
    for (size_t i = 0; i < CROWD; i++) {
        thread_join(&takers[i].thread);
        assert_int_equal(takers[i].result, ERR_STOPPING);
        takers[i].consumer->ops->close(takers[i].consumer);
        batch_fini(&takers[i].batch);
    }
    for (size_t i = 0; i < CROWD * EACH; i++) {
        assert_int_equal(seen[i], 1);
    }
}

static void
close_takes_null(void **state)
{
    struct queue_rig *r = *state;
    r->consumer->ops->close(NULL);
}

/* The memory queue alone can be told to lose what was taken. */
static void
what_was_lost_is_given_again_and_to_any_consumer(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish(r->queue, (const char *[]){"a", "b"}, 2), OK);
    kit_take(r->consumer, &r->batch, 2);
    kit_decide(&r->batch, EVENT_PROCESSED);
    memory_queue_fail(r->queue, ERR_LOST, 1);
    assert_int_equal(r->consumer->ops->settle(r->consumer, &r->batch), ERR_LOST);
    batch_reset(&r->batch);
    assert_int_equal(kit_depth(r->queue), 2);
    struct consumer *other = queue_rig_another_consumer(r);
    kit_take(other, &r->batch, 2);
    assert_true(kit_id_is(&r->batch.item[0], "a"));
    assert_true(r->batch.item[0].ev->accepted_ms > 0);
    kit_decide(&r->batch, EVENT_PROCESSED);
    assert_int_equal(other->ops->settle(other, &r->batch), OK);
    assert_int_equal(kit_depth(r->queue), 0);
    other->ops->close(other);
}

static const struct CMUnitTest every[] = {
    QUEUE_TEST(a_taken_event_is_not_given_again_while_it_is_held),
    QUEUE_TEST(a_take_gives_at_most_what_the_batch_holds),
    QUEUE_TEST(settled_events_are_gone_whatever_became_of_them),
    QUEUE_TEST(a_settle_that_failed_leaves_the_batch_taken_and_can_be_repeated),
    QUEUE_TEST(batches_of_two_consumers_may_be_settled_in_any_order),
    QUEUE_TEST(a_consumer_that_is_closed_leaves_the_others_at_work),
    QUEUE_TEST(idle_changes_nothing),
    QUEUE_TEST(a_take_without_events_returns_empty_when_its_time_is_over),
    QUEUE_TEST(a_waiting_take_gets_what_is_published_later),
    QUEUE_TEST(stop_ends_every_waiting_take),
    QUEUE_TEST(after_stop_publishes_are_answered_settles_work_and_nothing_is_given),
    QUEUE_TEST(many_publishers_and_takers_lose_and_double_nothing),
    QUEUE_TEST(close_takes_null),
};

static const struct CMUnitTest losing[] = {
    QUEUE_TEST(what_was_lost_is_given_again_and_to_any_consumer),
};

int
main(void)
{
    size_t n = sizeof every / sizeof *every;
    return kit_run("consumer/memory", every, n, &queue_rig_memory) +
           kit_run("consumer/local", every, n, &queue_rig_local) +
           kit_run("consumer/memory, losing", losing, sizeof losing / sizeof *losing,
                   &queue_rig_memory);
}
