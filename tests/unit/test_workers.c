/* Several workers on one local store, with everything real but the api. */
#include "worker/worker.h"

#include "kit.h"
#include "thread.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define WORKERS 3
#define IDS 400
#define ROUNDS 3 /* each id is published so often, with the same payload */

struct rig {
    struct kit kit;
    struct queue *queue;
    struct worker *workers[WORKERS];
    struct consumer *consumers[WORKERS]; /* the workers' */
    atomic_uint processed[IDS];
    atomic_uint settled;
    atomic_uint failures; /* publishes that were refused */
};

static void
watch(void *data, const struct delivery *d)
{
    struct rig *r = data;
    char digits[16];
    snprintf(digits, sizeof digits, "%.*s", SPAN_FMT(event_id(d->ev)));
    if (d->state == EVENT_PROCESSED) {
        atomic_fetch_add(&r->processed[strtoul(digits, NULL, 10) % IDS], 1);
    }
    atomic_fetch_add(&r->settled, 1);
}

static void
start_worker(struct rig *r, unsigned number)
{
    struct worker_parts parts = {
        .env = &r->kit.env,
        .stats = &r->kit.stats,
        .batch_max = 16,
        .watch = watch,
        .watch_data = r,
    };
    assert_int_equal(consumer_local_open(&parts.consumer, r->kit.store), OK);
    assert_int_equal(dedup_local_open(&parts.dedup, r->kit.store, true), OK);
    assert_int_equal(sink_local_open(&parts.sink, r->kit.store), OK);
    assert_int_equal(worker_open(&r->workers[number], &parts), OK);
    r->consumers[number] = parts.consumer;
    assert_int_equal(worker_start(r->workers[number], number), OK);
}

static void
start(struct rig *r)
{
    kit_open_store(&r->kit);
    assert_int_equal(queue_local_open(&r->queue, r->kit.store), OK);
    for (unsigned i = 0; i < WORKERS; i++) {
        start_worker(r, i);
    }
}

/* In the order of a drain. */
static void
stop(struct rig *r)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        worker_stop(r->workers[i]);
        r->consumers[i]->ops->stop(r->consumers[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        worker_close(r->workers[i]);
    }
    r->queue->ops->close(r->queue);
    kit_close_store(&r->kit);
}

static int
set_up(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    kit_open(&r->kit);
    start(r);
    *state = r;
    return 0;
}

static int
tear_down(void **state)
{
    struct rig *r = *state;
    stop(r);
    kit_close(&r->kit);
    free(r);
    return 0;
}

static void
publish_all(void *data)
{
    struct rig *r = data;
    for (unsigned i = 0; i < IDS; i++) {
        char id[16];
        snprintf(id, sizeof id, "%u", i);
        atomic_fetch_add(&r->failures, kit_publish_one(r->queue, id) != OK);
    }
}

static void
wait_for_settled(struct rig *r, unsigned n)
{
    int64_t until_ms = r->kit.env.mono_ms(&r->kit.env) + KIT_DEADLINE_MS;
    while (atomic_load(&r->settled) < n && r->kit.env.mono_ms(&r->kit.env) < until_ms) {
        sched_yield();
    }
    assert_int_equal(atomic_load(&r->settled), n);
}

static void
an_id_that_several_workers_hold_at_once_has_one_effect(void **state)
{
    struct rig *r = *state;
    struct thread publishers[ROUNDS] = {0};
    for (size_t i = 0; i < ROUNDS; i++) {
        assert_int_equal(thread_start(&publishers[i], "publisher", publish_all, r), OK);
    }
    for (size_t i = 0; i < ROUNDS; i++) {
        thread_join(&publishers[i]);
    }
    assert_int_equal(r->failures, 0);
    wait_for_settled(r, IDS * ROUNDS);
    for (size_t i = 0; i < IDS; i++) {
        assert_int_equal(r->processed[i], 1);
    }
    assert_int_equal(stats_get(&r->kit.stats.processed), IDS);
    assert_int_equal(stats_get(&r->kit.stats.duplicate), IDS * (ROUNDS - 1));
    assert_int_equal(stats_get(&r->kit.stats.conflict), 0);
    assert_int_equal(kit_depth(r->queue), 0);
}

static void
what_a_stop_leaves_is_processed_after_the_next_start(void **state)
{
    struct rig *r = *state;
    for (unsigned round = 0; round < 3; round++) {
        publish_all(r);
        stop(r);
        start(r);
    }
    assert_int_equal(r->failures, 0);
    wait_for_settled(r, IDS * 3);
    for (size_t i = 0; i < IDS; i++) {
        assert_int_equal(r->processed[i], 1);
    }
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_id_that_several_workers_hold_at_once_has_one_effect),
        TEST(what_a_stop_leaves_is_processed_after_the_next_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
