#include "queue_rig.h"

#include "memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void
open_memory(struct queue_rig *r)
{
    assert_int_equal(memory_queue_open(&r->queue, &r->kit.env, QUEUE_MAX_BYTES), OK);
}

static void
close_memory(struct queue_rig *r)
{
    r->queue->ops->close(r->queue);
}

static void
open_local(struct queue_rig *r)
{
    r->kit.options.max_bytes = QUEUE_MAX_BYTES;
    kit_open_store(&r->kit);
    assert_int_equal(queue_local_open(&r->queue, r->kit.store), OK);
}

static void
close_local(struct queue_rig *r)
{
    r->queue->ops->close(r->queue);
    kit_close_store(&r->kit);
}

static enum err
open_memory_consumer(struct consumer **out, struct queue_rig *r)
{
    return memory_consumer_open(out, r->queue);
}

static enum err
open_local_consumer(struct consumer **out, struct queue_rig *r)
{
    return consumer_local_open(out, r->kit.store);
}

static void
fail_memory_settle(struct queue_rig *r)
{
    memory_queue_fail(r->queue, ERR_UNAVAILABLE, 1);
}

static void
fail_local_settle(struct queue_rig *r)
{
    kit_arm(&r->kit, FAULT_ERROR, ERR_UNAVAILABLE, "store.before_commit", 0);
}

struct queue_maker queue_rig_memory = {open_memory, close_memory, open_memory_consumer,
                                       fail_memory_settle};
struct queue_maker queue_rig_local = {open_local, close_local, open_local_consumer,
                                      fail_local_settle};

struct consumer *
queue_rig_another_consumer(struct queue_rig *r)
{
    struct consumer *c = NULL;
    assert_int_equal(r->maker->open_consumer(&c, r), OK);
    return c;
}

static void
open_all(struct queue_rig *r)
{
    r->maker->open(r);
    r->consumer = queue_rig_another_consumer(r);
}

static void
close_all(struct queue_rig *r)
{
    r->consumer->ops->close(r->consumer);
    r->maker->close(r);
}

int
queue_rig_set_up(void **state)
{
    struct queue_rig *r = calloc(1, sizeof *r);
    r->maker = *state;
    kit_open(&r->kit);
    open_all(r);
    assert_int_equal(batch_init(&r->batch, 100), OK);
    *state = r;
    return 0;
}

int
queue_rig_tear_down(void **state)
{
    struct queue_rig *r = *state;
    batch_fini(&r->batch);
    close_all(r);
    kit_close(&r->kit);
    free(r);
    return 0;
}

/* As after a stop of the process: what it held is forgotten. */
void
queue_rig_reopen(struct queue_rig *r)
{
    batch_reset(&r->batch);
    close_all(r);
    open_all(r);
}

void
queue_rig_settle(struct queue_rig *r, enum event_state state)
{
    kit_decide(&r->batch, state);
    assert_int_equal(r->consumer->ops->settle(r->consumer, &r->batch), OK);
    batch_reset(&r->batch);
}

void
queue_rig_assert_nothing_to_take(struct queue_rig *r)
{
    struct batch b;
    assert_int_equal(batch_init(&b, 10), OK);
    assert_int_equal(r->consumer->ops->take(r->consumer, &b, 20), OK);
    assert_int_equal(b.n, 0);
    batch_fini(&b);
}
