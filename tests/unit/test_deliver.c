/* deliver() on parts that do what the test says and write down when they were called. */
#include "worker/deliver.h"

#include "kit.h"
#include "memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* One struct stands behind all three contracts; each call adds its word to the trace. */
struct rig {
    struct kit kit;
    struct dedup dedup;
    struct sink sink;
    struct consumer consumer;
    char trace[256];
    enum err seen_error, write_error, mark_error, settle_error;
    const char *known;   /* letters of ids that seen() knows */
    const char *twice;   /* letters that the sink's key knows */
    const char *refused; /* letters whose result is refusal */
    enum err refusal;
    unsigned stages; /* what write and mark stage, of enum batch_stage */
    struct batch batch;
    enum event_state at_settle[8];
    struct deliver_parts parts;
};

static struct rig *here; /* cmocka runs one test at a time */

static void
note(const char *word)
{
    size_t n = strlen(here->trace);
    snprintf(here->trace + n, sizeof here->trace - n, "%s%s", n > 0 ? " " : "", word);
}

static bool
is_one_of(const struct delivery *d, const char *letters)
{
    return letters != NULL && strchr(letters, event_id(d->ev).at[0]) != NULL;
}

static enum err
seen(struct dedup *d, struct batch *b)
{
    (void)d;
    note("seen");
    for (size_t i = 0; i < b->n; i++) {
        if (is_one_of(&b->item[i], here->known)) {
            b->item[i].state = EVENT_DUPLICATE;
        }
    }
    return here->seen_error;
}

static enum err
mark(struct dedup *d, struct batch *b)
{
    (void)d;
    note("mark");
    b->staged |= here->stages & STAGE_MARK;
    return here->mark_error;
}

static enum err
write_batch(struct sink *s, struct batch *b)
{
    (void)s;
    note("write");
    b->staged |= here->stages & STAGE_WRITE;
    for (size_t i = 0; i < b->n; i++) {
        struct delivery *d = &b->item[i];
        if (d->state == EVENT_PROCESSING && is_one_of(d, here->twice)) {
            d->state = EVENT_DUPLICATE;
        }
        if (d->state == EVENT_PROCESSING && is_one_of(d, here->refused)) {
            d->result = here->refusal;
        }
    }
    return here->write_error;
}

static enum err
settle(struct consumer *c, struct batch *b)
{
    (void)c;
    note("settle");
    for (size_t i = 0; i < b->n; i++) {
        here->at_settle[i] = b->item[i].state;
    }
    return here->settle_error;
}

static int
set_up(void **state)
{
    static const struct dedup_ops dedup_ops = {"scripted", seen, mark, NULL};
    static const struct sink_ops sink_ops = {"scripted", write_batch, NULL};
    static const struct consumer_ops consumer_ops = {.name = "scripted", .settle = settle};
    struct rig *r = calloc(1, sizeof *r);
    kit_open(&r->kit);
    r->dedup.ops = &dedup_ops;
    r->sink.ops = &sink_ops;
    r->consumer.ops = &consumer_ops;
    r->parts = (struct deliver_parts){&r->kit.env, &r->consumer, &r->dedup, &r->sink};
    assert_int_equal(batch_init(&r->batch, 8), OK);
    for (const char *c = "abc"; *c != '\0'; c++) {
        batch_add(&r->batch, kit_event((const char[]){*c, '\0'}, "{}"));
    }
    here = *state = r;
    return 0;
}

static int
tear_down(void **state)
{
    struct rig *r = *state;
    batch_fini(&r->batch);
    kit_close(&r->kit);
    free(r);
    return 0;
}

/* One letter an event: P PROCESSED, D DUPLICATE, x DEAD, . PROCESSING. */
static void
assert_states(const enum event_state *states, const char *expected)
{
    for (size_t i = 0; expected[i] != '\0'; i++) {
        char got = states[i] == EVENT_PROCESSED   ? 'P'
                   : states[i] == EVENT_DUPLICATE ? 'D'
                   : states[i] == EVENT_DEAD      ? 'x'
                                                  : '.';
        assert_int_equal(got, expected[i]);
    }
}

static void
the_steps_come_in_the_order_of_the_promise(void **state)
{
    struct rig *r = *state;
    assert_int_equal(deliver(&r->parts, &r->batch), OK);
    assert_string_equal(r->trace, "seen write mark settle");
    assert_states(r->at_settle, "PPP");
}

static void
after_a_failed_step_no_later_one_is_made(void **state)
{
    struct rig *r = *state;
    const struct {
        enum err *error;
        const char *trace;
    } steps[] = {
        {&r->seen_error, "seen"},
        {&r->write_error, "seen write"},
        {&r->mark_error, "seen write mark"},
        {&r->settle_error, "seen write mark settle"},
    };
    for (size_t i = 0; i < 4; i++) {
        r->trace[0] = '\0';
        *steps[i].error = ERR_UNAVAILABLE;
        assert_int_equal(deliver(&r->parts, &r->batch), ERR_UNAVAILABLE);
        assert_string_equal(r->trace, steps[i].trace);
        *steps[i].error = OK;
    }
    r->trace[0] = '\0';
    assert_int_equal(deliver(&r->parts, &r->batch), OK); /* and the same batch goes through then */
    assert_states(r->at_settle, "PPP");
}

static void
a_fault_between_steps_stops_there_and_after_settle_it_is_too_late(void **state)
{
    struct rig *r = *state;
    static const char *const traces[] = {"", "seen", "seen write", "seen write mark"};
    for (int i = 0; i < 4; i++) {
        r->trace[0] = '\0';
        kit_arm(&r->kit, FAULT_ERROR, ERR_NOMEM, NULL, i);
        assert_int_equal(deliver(&r->parts, &r->batch), ERR_NOMEM);
        assert_string_equal(r->trace, traces[i]);
    }
    kit_arm(&r->kit, FAULT_ERROR, ERR_NOMEM, NULL, 4);
    assert_int_equal(deliver(&r->parts, &r->batch), OK);
    assert_true(r->kit.fault_fired);
    assert_string_equal(r->kit.fault_point, "deliver.settled");
}

static void
duplicates_of_dedup_and_of_the_sink_are_settled_as_such(void **state)
{
    struct rig *r = *state;
    r->known = "a";
    r->twice = "c";
    assert_int_equal(deliver(&r->parts, &r->batch), OK);
    assert_states(r->at_settle, "DPD");
}

static void
a_rejected_event_is_dead_with_a_reason_and_the_others_go_on(void **state)
{
    struct rig *r = *state;
    r->refused = "b";
    r->refusal = ERR_REJECTED;
    assert_int_equal(deliver(&r->parts, &r->batch), OK);
    assert_states(r->at_settle, "PxP");
    assert_string_equal(r->batch.item[1].reason, err_text(ERR_REJECTED));
    assert_string_equal(r->batch.item[0].reason, "");
}

static void
one_event_to_be_tried_again_holds_up_its_batch(void **state)
{
    struct rig *r = *state;
    r->refused = "b";
    r->refusal = ERR_BUSY;
    assert_int_equal(deliver(&r->parts, &r->batch), ERR_BUSY);
    assert_string_equal(r->trace, "seen write");
    r->refused = NULL;
    assert_int_equal(deliver(&r->parts, &r->batch), OK);
    assert_states(r->at_settle, "PPP");
    assert_int_equal(r->batch.item[1].result, OK);
}

static void
the_gravest_result_of_an_event_goes_up(void **state)
{
    struct rig *r = *state;
    r->refused = "bc";
    r->refusal = ERR_IO;
    assert_int_equal(deliver(&r->parts, &r->batch), ERR_IO);
    r->refusal = ERR_MISUSE;
    assert_int_equal(deliver(&r->parts, &r->batch), ERR_MISUSE);
}

static void
what_a_failed_attempt_believed_is_forgotten(void **state)
{
    struct rig *r = *state;
    r->known = "a";
    r->refused = "b";
    r->refusal = ERR_REJECTED;
    r->stages = STAGE_WRITE | STAGE_MARK;
    r->settle_error = ERR_DISK_FULL;
    assert_int_equal(deliver(&r->parts, &r->batch), ERR_DISK_FULL);
    r->known = r->refused = NULL; /* as if the cache had been flushed and the sink mended */
    r->stages = 0;
    r->settle_error = OK;
    assert_int_equal(deliver(&r->parts, &r->batch), OK);
    assert_int_equal(r->batch.staged, 0);
    assert_states(r->at_settle, "PPP");
    assert_string_equal(r->batch.item[1].reason, "");
}

static void
what_is_staged_is_left_for_settle_to_decide(void **state)
{
    struct rig *r = *state;
    r->known = "a";
    for (unsigned stages = 1; stages <= 3; stages++) {
        r->stages = stages;
        assert_int_equal(deliver(&r->parts, &r->batch), OK);
        assert_int_equal(r->batch.staged, stages);
        assert_states(r->at_settle, "D..");
    }
}

/* --- on real parts: the local store --- */

struct house {
    struct kit kit;
    struct queue *queue;
    struct consumer *consumer;
    struct dedup *dedup;
    struct sink *sink;
    struct batch batch;
    struct deliver_parts parts;
};

static int
build_house(void **state)
{
    struct house *h = calloc(1, sizeof *h);
    kit_open(&h->kit);
    kit_open_store(&h->kit);
    assert_int_equal(queue_local_open(&h->queue, h->kit.store), OK);
    assert_int_equal(consumer_local_open(&h->consumer, h->kit.store), OK);
    assert_int_equal(dedup_local_open(&h->dedup, h->kit.store, true), OK);
    assert_int_equal(sink_local_open(&h->sink, h->kit.store), OK);
    assert_int_equal(batch_init(&h->batch, 8), OK);
    h->parts = (struct deliver_parts){&h->kit.env, h->consumer, h->dedup, h->sink};
    *state = h;
    return 0;
}

static int
leave_house(void **state)
{
    struct house *h = *state;
    batch_fini(&h->batch);
    h->sink->ops->close(h->sink);
    h->dedup->ops->close(h->dedup);
    h->consumer->ops->close(h->consumer);
    h->queue->ops->close(h->queue);
    kit_close(&h->kit);
    free(h);
    return 0;
}

static void
in_the_local_store_write_mark_and_settle_are_one_commit(void **state)
{
    struct house *h = *state;
    assert_int_equal(kit_publish(h->queue, (const char *[]){"a", "b", "a"}, 3), OK);
    kit_take(h->consumer, &h->batch, 3);
    uint64_t commits = stats_get(&h->kit.stats.commits);
    assert_int_equal(deliver(&h->parts, &h->batch), OK);
    assert_int_equal(stats_get(&h->kit.stats.commits) - commits, 1);
    assert_int_equal(h->batch.item[0].state, EVENT_PROCESSED);
    assert_int_equal(h->batch.item[1].state, EVENT_PROCESSED);
    assert_int_equal(h->batch.item[2].state, EVENT_DUPLICATE);
    assert_int_equal(kit_depth(h->queue), 0);
}

static void
in_the_local_store_a_failed_commit_changes_nothing_and_can_be_tried_again(void **state)
{
    struct house *h = *state;
    assert_int_equal(kit_publish(h->queue, (const char *[]){"a", "b", "a"}, 3), OK);
    kit_take(h->consumer, &h->batch, 3);
    kit_arm(&h->kit, FAULT_ERROR, ERR_UNAVAILABLE, "store.before_commit", 0);
    assert_int_equal(deliver(&h->parts, &h->batch), ERR_UNAVAILABLE);
    kit_disarm(&h->kit);
    assert_int_equal(kit_depth(h->queue), 3);
    assert_int_equal(deliver(&h->parts, &h->batch), OK);
    assert_int_equal(h->batch.item[0].state, EVENT_PROCESSED);
    assert_int_equal(h->batch.item[2].state, EVENT_DUPLICATE);
    assert_int_equal(kit_depth(h->queue), 0);
}

#define SCRIPTED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define HOUSE(test) cmocka_unit_test_setup_teardown(test, build_house, leave_house)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        SCRIPTED(the_steps_come_in_the_order_of_the_promise),
        SCRIPTED(after_a_failed_step_no_later_one_is_made),
        SCRIPTED(a_fault_between_steps_stops_there_and_after_settle_it_is_too_late),
        SCRIPTED(duplicates_of_dedup_and_of_the_sink_are_settled_as_such),
        SCRIPTED(a_rejected_event_is_dead_with_a_reason_and_the_others_go_on),
        SCRIPTED(one_event_to_be_tried_again_holds_up_its_batch),
        SCRIPTED(the_gravest_result_of_an_event_goes_up),
        SCRIPTED(what_a_failed_attempt_believed_is_forgotten),
        SCRIPTED(what_is_staged_is_left_for_settle_to_decide),
        HOUSE(in_the_local_store_write_mark_and_settle_are_one_commit),
        HOUSE(in_the_local_store_a_failed_commit_changes_nothing_and_can_be_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
