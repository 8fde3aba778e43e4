/* What queue.h and consumer.h promise over a restart, and of more than fits in memory: asked of the backends that
 * keep events on a disk. */
#include "queue_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The local store's own: of a batch it ends what is decided, and the rest stays. */
static void
what_was_not_settled_is_given_again_after_a_restart_in_order(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish_run(r->queue, "e", 103), OK);
    kit_take(r->consumer, &r->batch, 100);
    for (size_t i = 0; i < 100; i += 2) {
        r->batch.item[i].state = EVENT_PROCESSED;
        r->batch.item[i + 1].result = ERR_UNAVAILABLE;
    }
    assert_int_equal(r->consumer->ops->settle(r->consumer, &r->batch), OK);
    assert_int_equal(r->batch.item[1].state, EVENT_PROCESSING);
    queue_rig_reopen(r);
    assert_int_equal(kit_depth(r->queue), 53);
    kit_take(r->consumer, &r->batch, 53);
    for (size_t i = 0; i < 53; i++) {
        char id[16];
        snprintf(id, sizeof id, "e%zu", i < 50 ? i * 2 + 1 : i + 50);
        assert_true(kit_id_is(&r->batch.item[i], id));
    }
}

static void
what_was_settled_stays_settled_after_a_restart(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish_run(r->queue, "e", 10), OK);
    kit_take(r->consumer, &r->batch, 10);
    queue_rig_settle(r, EVENT_PROCESSED);
    queue_rig_reopen(r);
    assert_int_equal(kit_depth(r->queue), 0);
    queue_rig_assert_nothing_to_take(r);
}

static void
events_published_after_a_restart_come_after_those_from_before(void **state)
{
    struct queue_rig *r = *state;
    assert_int_equal(kit_publish_run(r->queue, "old", 5), OK);
    queue_rig_reopen(r);
    assert_int_equal(kit_publish_run(r->queue, "new", 5), OK);
    kit_take(r->consumer, &r->batch, 10);
    for (size_t i = 0; i < 10; i++) {
        char id[16];
        snprintf(id, sizeof id, "%s%zu", i < 5 ? "old" : "new", i % 5);
        assert_true(kit_id_is(&r->batch.item[i], id));
        assert_true(i == 0 || r->batch.item[i].ev->seq > r->batch.item[i - 1].ev->seq);
    }
}

/* Makes the part that is kept in memory far smaller than what waits. */
static void
reopen_with_little_memory(struct queue_rig *r)
{
    r->kit.options.memory_bytes = (size_t)64 * 1024;
    queue_rig_reopen(r);
}

static void
more_than_fits_in_memory_is_given_in_order_too(void **state)
{
    struct queue_rig *r = *state;
    reopen_with_little_memory(r);
    char id[16];
    char *payload = calloc(1, 5000);
    memset(payload, 'x', 4999);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(id, sizeof id, "e%u", i);
        assert_int_equal(kit_publish_event(r->queue, kit_event(id, payload)), OK);
    }
    for (unsigned i = 0; i < 100;) {
        assert_int_equal(r->consumer->ops->take(r->consumer, &r->batch, KIT_DEADLINE_MS), OK);
        assert_true(r->batch.n > 0);
        for (size_t k = 0; k < r->batch.n; k++, i++) {
            snprintf(id, sizeof id, "e%u", i);
            assert_true(kit_id_is(&r->batch.item[k], id));
        }
        queue_rig_settle(r, EVENT_PROCESSED);
    }
    free(payload);
}

static void
an_event_larger_than_the_memory_for_the_queue_is_given_too(void **state)
{
    struct queue_rig *r = *state;
    reopen_with_little_memory(r);
    char *payload = calloc(1, 200 * 1024);
    memset(payload, 'x', 200 * 1024 - 1);
    assert_int_equal(kit_publish_one(r->queue, "before"), OK);
    assert_int_equal(kit_publish_event(r->queue, kit_event("large", payload)), OK);
    assert_int_equal(kit_publish_one(r->queue, "after"), OK);
    kit_take(r->consumer, &r->batch, 3);
    assert_true(kit_id_is(&r->batch.item[1], "large"));
    free(payload);
}

static const struct CMUnitTest durable[] = {
    QUEUE_TEST(what_was_not_settled_is_given_again_after_a_restart_in_order),
    QUEUE_TEST(what_was_settled_stays_settled_after_a_restart),
    QUEUE_TEST(events_published_after_a_restart_come_after_those_from_before),
    QUEUE_TEST(more_than_fits_in_memory_is_given_in_order_too),
    QUEUE_TEST(an_event_larger_than_the_memory_for_the_queue_is_given_too),
};

int
main(void)
{
    return kit_run("queue/local", durable, sizeof durable / sizeof *durable, &queue_rig_local);
}
