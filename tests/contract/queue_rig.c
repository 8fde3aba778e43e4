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

struct queue_maker queue_rig_memory = {open_memory, close_memory};
struct queue_maker queue_rig_local = {open_local, close_local};

int
queue_rig_set_up(void **state)
{
    struct queue_rig *r = calloc(1, sizeof *r);
    r->maker = *state;
    kit_open(&r->kit);
    r->maker->open(r);
    assert_int_equal(batch_init(&r->batch, 100), OK);
    *state = r;
    return 0;
}

int
queue_rig_tear_down(void **state)
{
    struct queue_rig *r = *state;
    batch_fini(&r->batch);
    r->maker->close(r);
    kit_close(&r->kit);
    free(r);
    return 0;
}

/* As after a stop of the process: what it held is forgotten. */
void
queue_rig_reopen(struct queue_rig *r)
{
    batch_reset(&r->batch);
    r->maker->close(r);
    r->maker->open(r);
}

void
queue_rig_settle(struct queue_rig *r, enum event_state state)
{
    kit_decide(&r->batch, state);
    assert_int_equal(r->queue->ops->settle(r->queue, &r->batch), OK);
    batch_reset(&r->batch);
}

void
queue_rig_assert_nothing_to_take(struct queue_rig *r)
{
    struct batch b;
    assert_int_equal(batch_init(&b, 10), OK);
    assert_int_equal(r->queue->ops->take(r->queue, &b, 20), OK);
    assert_int_equal(b.n, 0);
    batch_fini(&b);
}
