/* What sink.h promises, asked of every backend. Batches here are not joined: what write() says OK
 * to is durable when it returns. */
#include "kit.h"
#include "memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct rig;
struct maker {
    void (*open)(struct rig *r); /* sets sink */
    /* How often the event with this id and payload had its effect. */
    unsigned (*effects)(struct rig *r, const char *id, const char *payload);
    bool unique; /* the sink has a unique key */
};
struct rig {
    const struct maker *maker;
    struct kit kit;
    struct sink *sink;
    struct batch batch;
    char path[128];
};

static void
open_memory(struct rig *r)
{
    assert_int_equal(memory_sink_open(&r->sink), OK);
}

static unsigned
effects_memory(struct rig *r, const char *id, const char *payload)
{
    (void)payload;
    return memory_sink_effects(r->sink, id);
}

static void
open_local(struct rig *r)
{
    kit_open_store(&r->kit);
    assert_int_equal(sink_local_open(&r->sink, r->kit.store), OK);
}

static unsigned
effects_local(struct rig *r, const char *id, const char *payload)
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
open_log(struct rig *r)
{
    char why[256] = "";
    snprintf(r->path, sizeof r->path, "%s/events.ndjson", r->kit.folder);
    assert_int_equal(sink_log_open(&r->sink, r->path, &r->kit.env, why, sizeof why), OK);
}

static unsigned
effects_log(struct rig *r, const char *id, const char *payload)
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

static struct maker memory = {open_memory, effects_memory, true};
static struct maker local = {open_local, effects_local, true};
static struct maker logging = {open_log, effects_log, false};

static int
set_up(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    r->maker = *state;
    kit_open(&r->kit);
    r->maker->open(r);
    assert_int_equal(batch_init(&r->batch, 10), OK);
    *state = r;
    return 0;
}

static int
tear_down(void **state)
{
    struct rig *r = *state;
    batch_fini(&r->batch);
    r->sink->ops->close(r->sink);
    kit_close(&r->kit);
    free(r);
    return 0;
}

static void
hold(struct rig *r, const char *letters, const char *payload)
{
    batch_reset(&r->batch);
    for (; *letters != '\0'; letters++) {
        const char id[] = {*letters, '\0'};
        batch_add(&r->batch, kit_event(id, payload));
    }
}

static void
write_batch(struct rig *r)
{
    assert_int_equal(r->sink->ops->write(r->sink, &r->batch), OK);
}

static void
every_event_of_the_batch_has_its_effect(void **state)
{
    struct rig *r = *state;
    hold(r, "abc", "{\"n\": 1}");
    write_batch(r);
    for (size_t i = 0; i < 3; i++) {
        const char id[] = {"abc"[i], '\0'};
        assert_int_equal(r->maker->effects(r, id, "{\"n\": 1}"), 1);
        assert_int_equal(r->batch.item[i].result, OK);
        assert_true(r->batch.item[i].state == EVENT_PROCESSING ||
                    r->batch.item[i].state == EVENT_PROCESSED);
    }
}

static void
decided_events_are_not_written(void **state)
{
    struct rig *r = *state;
    hold(r, "abc", "{}");
    r->batch.item[0].state = EVENT_DUPLICATE;
    r->batch.item[2].state = EVENT_DEAD;
    write_batch(r);
    assert_int_equal(r->maker->effects(r, "a", "{}"), 0);
    assert_int_equal(r->maker->effects(r, "b", "{}"), 1);
    assert_int_equal(r->maker->effects(r, "c", "{}"), 0);
    assert_int_equal(r->batch.item[0].state, EVENT_DUPLICATE);
    assert_int_equal(r->batch.item[2].state, EVENT_DEAD);
}

static void
a_batch_with_nothing_to_write_is_success(void **state)
{
    struct rig *r = *state;
    write_batch(r);
    hold(r, "a", "{}");
    r->batch.item[0].state = EVENT_DUPLICATE;
    write_batch(r);
    assert_int_equal(r->maker->effects(r, "a", "{}"), 0);
}

static void
writing_an_id_twice_is_success(void **state)
{
    struct rig *r = *state;
    hold(r, "ab", "{}");
    write_batch(r);
    hold(r, "ab", "{}");
    write_batch(r);
    assert_int_equal(r->maker->effects(r, "a", "{}"), r->maker->unique ? 1 : 2);
}

static void
close_takes_null(void **state)
{
    struct rig *r = *state;
    r->sink->ops->close(NULL);
}

/* --- of those with a unique key --- */

static void
an_id_that_is_written_again_is_a_duplicate_with_one_effect(void **state)
{
    struct rig *r = *state;
    hold(r, "ab", "{}");
    write_batch(r);
    hold(r, "bc", "{}");
    write_batch(r);
    assert_int_equal(r->batch.item[0].state, EVENT_DUPLICATE);
    assert_false(r->batch.item[0].conflict);
    assert_true(r->batch.item[1].state != EVENT_DUPLICATE);
    assert_int_equal(r->maker->effects(r, "b", "{}"), 1);
    assert_int_equal(r->maker->effects(r, "c", "{}"), 1);
}

static void
an_id_twice_in_one_batch_has_one_effect(void **state)
{
    struct rig *r = *state;
    hold(r, "aba", "{}");
    write_batch(r);
    assert_true(r->batch.item[0].state != EVENT_DUPLICATE);
    assert_int_equal(r->batch.item[2].state, EVENT_DUPLICATE);
    assert_int_equal(r->maker->effects(r, "a", "{}"), 1);
}

static void
another_payload_is_a_conflict_and_the_first_is_kept(void **state)
{
    struct rig *r = *state;
    hold(r, "a", "{\"first\":1}");
    write_batch(r);
    hold(r, "aa", "{\"other\":2}");
    write_batch(r);
    for (size_t i = 0; i < 2; i++) { /* told against what was kept, not against its neighbour */
        assert_int_equal(r->batch.item[i].state, EVENT_DUPLICATE);
        assert_true(r->batch.item[i].conflict);
    }
    assert_int_equal(r->maker->effects(r, "a", "{\"first\":1}"), 1);
}

/* --- of the local one --- */

static void
a_joined_batch_is_only_staged(void **state)
{
    struct rig *r = *state;
    hold(r, "a", "{}");
    r->batch.joined = true;
    write_batch(r);
    assert_int_equal(r->batch.staged, STAGE_WRITE);
    assert_int_equal(r->maker->effects(r, "a", "{}"), 0);
}

static void
after_a_failed_write_the_batch_is_as_it_was_and_can_be_written(void **state)
{
    struct rig *r = *state;
    struct queue *q = NULL;
    assert_int_equal(queue_local_open(&q, r->kit.store), OK);
    hold(r, "ab", "{}");
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
    write_batch(r);
    struct batch queued;
    assert_int_equal(batch_init(&queued, 10), OK);
    kit_take(q, &queued, 1);
    queued.staged = STAGE_WRITE | STAGE_MARK;
    assert_int_equal(q->ops->settle(q, &queued), OK);
    assert_int_equal(r->kit.fatals, 0);
    assert_int_equal(r->maker->effects(r, "a", "{}"), 1);
    assert_int_equal(r->maker->effects(r, "queued", "{\"of\":\"queued\"}"), 1);
    batch_fini(&queued);
    q->ops->close(q);
}

#define TEST(test)                                                                                 \
    {                                                                                              \
#test, test, set_up, tear_down, NULL                                                       \
    }
static const struct CMUnitTest every[] = {
    TEST(every_event_of_the_batch_has_its_effect),
    TEST(decided_events_are_not_written),
    TEST(a_batch_with_nothing_to_write_is_success),
    TEST(writing_an_id_twice_is_success),
    TEST(close_takes_null),
};
static const struct CMUnitTest unique[] = {
    TEST(an_id_that_is_written_again_is_a_duplicate_with_one_effect),
    TEST(an_id_twice_in_one_batch_has_one_effect),
    TEST(another_payload_is_a_conflict_and_the_first_is_kept),
};
static const struct CMUnitTest local_only[] = {
    TEST(a_joined_batch_is_only_staged),
    TEST(after_a_failed_write_the_batch_is_as_it_was_and_can_be_written),
};
#define RUN(name, suite, maker) kit_run(name, suite, sizeof suite / sizeof *suite, maker)

int
main(void)
{
    return RUN("sink/memory", every, &memory) + RUN("sink/memory, unique", unique, &memory) +
           RUN("sink/local", every, &local) + RUN("sink/local, unique", unique, &local) +
           RUN("sink/local, itself", local_only, &local) + RUN("sink/log", every, &logging);
}
