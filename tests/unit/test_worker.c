/* The worker's loop, on backends in memory and on real threads. */
#include "worker/worker.h"

#include "kit.h"
#include "memory.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct rig {
    struct kit kit;
    struct queue *queue;
    struct consumer *consumer; /* the worker's */
    struct dedup *dedup;       /* the worker's */
    struct sink *sink;         /* the worker's */
    struct worker *worker;
    atomic_uint watched[EVENT_DEAD + 1]; /* by state */
};

static void
watch(void *data, const struct delivery *d)
{
    atomic_fetch_add(&((struct rig *)data)->watched[d->state], 1);
}

static int
set_up(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    kit_open(&r->kit);
    assert_int_equal(memory_queue_open(&r->queue, &r->kit.env, UINT64_MAX), OK);
    assert_int_equal(memory_consumer_open(&r->consumer, r->queue), OK);
    assert_int_equal(memory_dedup_open(&r->dedup), OK);
    assert_int_equal(memory_sink_open(&r->sink), OK);
    struct worker_parts parts = {
        .env = &r->kit.env,
        .stats = &r->kit.stats,
        .consumer = r->consumer,
        .dedup = r->dedup,
        .sink = r->sink,
        .batch_max = 4,
        .watch = watch,
        .watch_data = r,
    };
    assert_int_equal(worker_open(&r->worker, &parts), OK);
    *state = r;
    return 0;
}

static int
tear_down(void **state)
{
    struct rig *r = *state;
    if (r->worker != NULL) {
        r->consumer->ops->stop(r->consumer); /* it need not wait until its take's time is over */
    }
    worker_close(r->worker);
    r->queue->ops->close(r->queue);
    kit_close(&r->kit);
    free(r);
    return 0;
}

static void
start(struct rig *r)
{
    assert_int_equal(worker_start(r->worker, 0), OK);
}

/* The statistics are counted before the queue's depth is looked at again by anyone. */
static void
wait_until(struct rig *r, const _Atomic uint64_t *counter, uint64_t value)
{
    int64_t until_ms = r->kit.env.mono_ms(&r->kit.env) + KIT_DEADLINE_MS;
    while (stats_get(counter) < value && r->kit.env.mono_ms(&r->kit.env) < until_ms) {
        sched_yield();
    }
    assert_int_equal(stats_get(counter), value);
}

/* After this the worker's own parts may be looked at. */
static void
stop_and_wait(struct rig *r)
{
    worker_stop(r->worker);
    r->consumer->ops->stop(r->consumer);
    worker_close(r->worker);
    r->worker = NULL;
}

static void
every_event_is_processed_counted_and_watched(void **state)
{
    struct rig *r = *state;
    start(r);
    assert_int_equal(kit_publish_run(r->queue, "e", 10), OK);
    wait_until(r, &r->kit.stats.processed, 10);
    assert_int_equal(kit_depth(r->queue), 0);
    stop_and_wait(r);
    assert_int_equal(r->watched[EVENT_PROCESSED], 10);
    assert_true(stats_get(&r->kit.stats.batches) >= 3); /* of at most 4 */
    assert_int_equal(stats_get(&r->kit.stats.pauses), 0);
}

static void
duplicates_conflicts_and_dead_events_are_counted_apart(void **state)
{
    struct rig *r = *state;
    memory_sink_refuse(r->sink, "bad", ERR_REJECTED, 1);
    assert_int_equal(kit_publish(r->queue, (const char *[]){"a", "bad", "a"}, 3), OK);
    assert_int_equal(kit_publish_event(r->queue, kit_event("a", "{\"other\":1}")), OK);
    start(r);
    wait_until(r, &r->kit.stats.batches, 1);
    assert_int_equal(stats_get(&r->kit.stats.processed), 1);
    assert_int_equal(stats_get(&r->kit.stats.dead), 1);
    assert_int_equal(stats_get(&r->kit.stats.duplicate), 2);
    assert_int_equal(stats_get(&r->kit.stats.conflict), 1);
    stop_and_wait(r);
    assert_int_equal(r->watched[EVENT_DEAD], 1);
    assert_int_equal(r->watched[EVENT_DUPLICATE], 2);
}

static void
a_part_that_does_not_answer_pauses_the_worker_and_nothing_is_lost(void **state)
{
    struct rig *r = *state;
    memory_sink_fail(r->sink, ERR_UNAVAILABLE, 3);
    assert_int_equal(kit_publish_run(r->queue, "e", 4), OK);
    int64_t start_ms = r->kit.env.mono_ms(&r->kit.env);
    start(r);
    wait_until(r, &r->kit.stats.processed, 4);
    int64_t took_ms = r->kit.env.mono_ms(&r->kit.env) - start_ms;
    assert_true(took_ms >= 25 + 50 + 100); /* half of 50, of 100, of 200 at least */
    assert_int_equal(stats_get(&r->kit.stats.pauses), 1);
    assert_int_equal(memory_sink_writes(r->sink), 4);
    assert_int_equal(kit_depth(r->queue), 0);
}

static void
each_pause_is_counted_once(void **state)
{
    struct rig *r = *state;
    start(r);
    for (unsigned i = 1; i <= 2; i++) {
        memory_sink_fail(r->sink, ERR_BUSY, 2);
        assert_int_equal(kit_publish_run(r->queue, i == 1 ? "a" : "b", 1), OK);
        wait_until(r, &r->kit.stats.processed, i);
        assert_int_equal(stats_get(&r->kit.stats.pauses), i);
    }
}

static void
a_settle_that_failed_once_leaves_one_effect(void **state)
{
    struct rig *r = *state;
    memory_queue_fail(r->queue, ERR_UNAVAILABLE, 1);
    assert_int_equal(kit_publish_one(r->queue, "a"), OK);
    start(r);
    wait_until(r, &r->kit.stats.batches, 1);
    assert_int_equal(memory_sink_effects(r->sink, "a"), 1);
    assert_int_equal(kit_depth(r->queue), 0);
}

static void
a_batch_that_was_lost_is_forgotten_counted_when_it_comes_again_and_taking_goes_on(void **state)
{
    struct rig *r = *state;
    memory_queue_fail(r->queue, ERR_LOST, 1);
    assert_int_equal(kit_publish(r->queue, (const char *[]){"a", "b", "c"}, 3), OK);
    start(r);
    wait_until(r, &r->kit.stats.batches, 1);
    assert_int_equal(kit_depth(r->queue), 0);
    /* the first round had its effect, and nothing was counted of it */
    assert_int_equal(stats_get(&r->kit.stats.processed), 0);
    assert_int_equal(stats_get(&r->kit.stats.duplicate), 3);
    assert_int_equal(memory_sink_effects(r->sink, "a"), 1);
    assert_int_equal(stats_get(&r->kit.stats.pauses), 0);
    assert_int_equal(kit_publish_run(r->queue, "later", 4), OK);
    wait_until(r, &r->kit.stats.processed, 4);
    stop_and_wait(r);
    assert_int_equal(r->watched[EVENT_PROCESSED], 4);
    assert_int_equal(r->watched[EVENT_DUPLICATE], 3);
}

static void
the_connection_is_kept_alive_while_the_worker_pauses(void **state)
{
    struct rig *r = *state;
    memory_sink_fail(r->sink, ERR_UNAVAILABLE, 3);
    assert_int_equal(kit_publish_one(r->queue, "a"), OK);
    start(r);
    wait_until(r, &r->kit.stats.processed, 1);
    assert_int_equal(memory_queue_idles(r->queue), 3); /* once a pause */
    assert_int_equal(kit_publish_one(r->queue, "b"), OK);
    wait_until(r, &r->kit.stats.processed, 2);
    assert_int_equal(memory_queue_idles(r->queue), 3);
}

static void
stop_ends_a_pause_at_once_and_the_events_stay_queued(void **state)
{
    struct rig *r = *state;
    memory_sink_fail(r->sink, ERR_UNAVAILABLE, 1000000);
    assert_int_equal(kit_publish_run(r->queue, "e", 2), OK);
    start(r);
    int64_t until_ms = r->kit.env.mono_ms(&r->kit.env) + KIT_DEADLINE_MS;
    while (memory_sink_writes(r->sink) < 6 && r->kit.env.mono_ms(&r->kit.env) < until_ms) {
        sched_yield(); /* by now a pause is long: 800 to 1600 ms */
    }
    int64_t stop_ms = r->kit.env.mono_ms(&r->kit.env);
    stop_and_wait(r);
    assert_true(r->kit.env.mono_ms(&r->kit.env) - stop_ms < 700);
    assert_int_equal(kit_depth(r->queue), 2);
    assert_int_equal(r->watched[EVENT_PROCESSED], 0);
}

static void
a_grave_error_ends_the_process_and_nothing_is_settled(void **state)
{
    struct rig *r = *state;
    memory_sink_fail(r->sink, ERR_IO, 1);
    assert_int_equal(kit_publish_run(r->queue, "e", 2), OK);
    start(r);
    int64_t until_ms = r->kit.env.mono_ms(&r->kit.env) + KIT_DEADLINE_MS;
    while (r->kit.fatals == 0 && r->kit.env.mono_ms(&r->kit.env) < until_ms) {
        sched_yield();
    }
    stop_and_wait(r);
    assert_int_equal(r->kit.fatals, 1);
    assert_int_equal(kit_depth(r->queue), 2); /* and it never went on */
    assert_int_equal(stats_get(&r->kit.stats.pauses), 0);
}

static void
a_bug_ends_the_process_too(void **state)
{
    struct rig *r = *state;
    memory_sink_refuse(r->sink, "a", ERR_MISUSE, 1);
    assert_int_equal(kit_publish_one(r->queue, "a"), OK);
    start(r);
    int64_t until_ms = r->kit.env.mono_ms(&r->kit.env) + KIT_DEADLINE_MS;
    while (r->kit.fatals == 0 && r->kit.env.mono_ms(&r->kit.env) < until_ms) {
        sched_yield();
    }
    stop_and_wait(r);
    assert_int_equal(r->kit.fatals, 1);
    assert_int_equal(kit_depth(r->queue), 1);
}

static void
an_idle_worker_stops_in_bounded_time(void **state)
{
    struct rig *r = *state;
    start(r);
    int64_t stop_ms = r->kit.env.mono_ms(&r->kit.env);
    worker_stop(r->worker); /* the consumer itself is not stopped: a take ends by its time */
    worker_close(r->worker);
    r->worker = NULL;
    assert_true(r->kit.env.mono_ms(&r->kit.env) - stop_ms < 2000);
}

static void
a_worker_that_was_never_started_closes(void **state)
{
    struct rig *r = *state;
    worker_close(r->worker);
    r->worker = NULL;
    worker_close(NULL);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_event_is_processed_counted_and_watched),
        TEST(duplicates_conflicts_and_dead_events_are_counted_apart),
        TEST(a_part_that_does_not_answer_pauses_the_worker_and_nothing_is_lost),
        TEST(each_pause_is_counted_once),
        TEST(a_settle_that_failed_once_leaves_one_effect),
        TEST(a_batch_that_was_lost_is_forgotten_counted_when_it_comes_again_and_taking_goes_on),
        TEST(the_connection_is_kept_alive_while_the_worker_pauses),
        TEST(stop_ends_a_pause_at_once_and_the_events_stay_queued),
        TEST(a_grave_error_ends_the_process_and_nothing_is_settled),
        TEST(a_bug_ends_the_process_too),
        TEST(an_idle_worker_stops_in_bounded_time),
        TEST(a_worker_that_was_never_started_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
