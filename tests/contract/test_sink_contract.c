/* What sink.h promises, asked of the backends that need no server. */
#include "memory.h"
#include "sink_suite.h"

#include "history/history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
open_memory(struct sink_rig *r)
{
    assert_int_equal(memory_sink_open(&r->sink), OK);
}

static unsigned
effects_memory(struct sink_rig *r, const char *id, const char *payload)
{
    (void)payload;
    return memory_sink_effects(r->sink, id);
}

static void
open_local(struct sink_rig *r)
{
    kit_open_store(&r->kit);
    assert_int_equal(sink_local_open(&r->sink, r->kit.store), OK);
}

static unsigned
effects_local(struct sink_rig *r, const char *id, const char *payload)
{
    struct mailbox *answers = mailbox_open(0, 0, NULL, NULL);
    struct question *q = calloc(1, sizeof *q);
    q->kind = QUESTION_LIST;
    q->since_ms = INT64_MIN;
    q->until_ms = INT64_MAX;
    q->limit = HISTORY_LIMIT_MAX;
    q->reply_to = answers;
    assert_int_equal(store_ask(r->kit.store, q), OK);
    struct mail_list got = mailbox_take(answers, 1, SIZE_MAX, KIT_DEADLINE_MS);
    assert_ptr_equal(got.first, q);
    assert_int_equal(q->result, OK);
    unsigned n = 0;
    for (size_t i = 0; i < q->n; i++) {
        n += q->rows[i].state == EVENT_PROCESSED && span_eq(event_id(q->rows[i].ev), span_of(id)) &&
             span_eq(event_payload(q->rows[i].ev), span_of(payload));
    }
    question_free(q);
    mailbox_close(answers);
    return n;
}

static void
open_log(struct sink_rig *r)
{
    char why[256] = "";
    snprintf(r->path, sizeof r->path, "%s/events.ndjson", r->kit.folder);
    assert_int_equal(sink_log_open(&r->sink, r->path, &r->kit.env, why, sizeof why), OK);
}

static unsigned
effects_log(struct sink_rig *r, const char *id, const char *payload)
{
    char expected[512];
    char line[1024];
    unsigned n = 0;
    snprintf(expected, sizeof expected,
             "{\"event_id\":\"%s\",\"type\":\"TEST\",\"timestamp\":\"2026-02-03T12:30:00Z\","
             "\"payload\":%s,\"accepted_at\":\"1970-01-01T00:00:00.000Z\"}\n",
             id, payload);
    FILE *f = fopen(r->path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        n += strcmp(line, expected) == 0;
    }
    fclose(f);
    return n;
}

static struct sink_maker memory = {open_memory, effects_memory, true, NULL};
static struct sink_maker local = {open_local, effects_local, true, NULL};
static struct sink_maker logging = {open_log, effects_log, false, NULL};

/* --- of the local one --- */

static void
a_joined_batch_is_only_staged(void **state)
{
    struct sink_rig *r = *state;
    sink_hold(r, "a", "{}");
    r->batch.joined = true;
    sink_write(r);
    assert_int_equal(r->batch.staged, STAGE_WRITE);
    assert_int_equal(r->maker->effects(r, "a", "{}"), 0);
}

static void
after_a_failed_write_the_batch_is_as_it_was_and_can_be_written(void **state)
{
    struct sink_rig *r = *state;
    struct queue *q = NULL;
    struct consumer *c = NULL;
    assert_int_equal(queue_local_open(&q, r->kit.store), OK);
    assert_int_equal(consumer_local_open(&c, r->kit.store), OK);
    sink_hold(r, "ab", "{}");
    kit_arm(&r->kit, FAULT_ERROR, ERR_DISK_FULL, "store.before_commit", 0);
    assert_int_equal(r->sink->ops->write(r->sink, &r->batch), ERR_DISK_FULL);
    assert_true(r->kit.fault_fired);
    kit_disarm(&r->kit);
    assert_int_equal(r->batch.item[0].state, EVENT_PROCESSING);
    assert_int_equal(r->batch.item[0].result, OK);
    /* what the queue accepts meanwhile must not collide with it */
    int64_t until_ms = r->kit.env.mono_ms(&r->kit.env) + KIT_DEADLINE_MS;
    enum err e = ERR_BUSY;
    while (e != OK && r->kit.env.mono_ms(&r->kit.env) < until_ms) {
        e = kit_publish_one(q, "queued"); /* refused until the store has probed the disk */
    }
    assert_int_equal(e, OK);
    sink_write(r);
    struct batch queued;
    assert_int_equal(batch_init(&queued, 10), OK);
    kit_take(c, &queued, 1);
    queued.staged = STAGE_WRITE | STAGE_MARK;
    assert_int_equal(c->ops->settle(c, &queued), OK);
    assert_int_equal(r->kit.fatals, 0);
    assert_int_equal(r->maker->effects(r, "a", "{}"), 1);
    assert_int_equal(r->maker->effects(r, "queued", "{\"of\":\"queued\"}"), 1);
    batch_fini(&queued);
    c->ops->close(c);
    q->ops->close(q);
}

static const struct CMUnitTest local_only[] = {
    SINK_TEST(a_joined_batch_is_only_staged),
    SINK_TEST(after_a_failed_write_the_batch_is_as_it_was_and_can_be_written),
};

int
main(void)
{
    return SINK_RUN("sink/memory", sink_every, &memory) +
           SINK_RUN("sink/memory, unique", sink_unique, &memory) +
           SINK_RUN("sink/local", sink_every, &local) +
           SINK_RUN("sink/local, unique", sink_unique, &local) +
           SINK_RUN("sink/local, itself", local_only, &local) +
           SINK_RUN("sink/log", sink_every, &logging);
}
