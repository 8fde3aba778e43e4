/* What dedup.h promises, asked of every backend. */
#include "kit.h"
#include "memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

struct rig {
    void (*open)(struct rig *r); /* sets dedup */
    struct kit kit;
    struct dedup *dedup;
    struct batch batch;
};

static void
open_memory(struct rig *r)
{
    assert_int_equal(memory_dedup_open(&r->dedup), OK);
}

static void
open_none(struct rig *r)
{
    assert_int_equal(dedup_none_open(&r->dedup), OK);
}

static void
open_local(struct rig *r)
{
    kit_open_store(&r->kit);
    assert_int_equal(dedup_local_open(&r->dedup, r->kit.store, false), OK);
}

static int
set_up(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    r->open = ((struct rig *)*state)->open;
    kit_open(&r->kit);
    r->open(r);
    assert_int_equal(batch_init(&r->batch, 10), OK);
    *state = r;
    return 0;
}

static int
tear_down(void **state)
{
    struct rig *r = *state;
    batch_fini(&r->batch);
    r->dedup->ops->close(r->dedup);
    kit_close(&r->kit);
    free(r);
    return 0;
}

/* A new batch with one event a letter. */
static void
hold(struct rig *r, const char *letters)
{
    batch_reset(&r->batch);
    for (; *letters != '\0'; letters++) {
        const char id[] = {*letters, '\0'};
        batch_add(&r->batch, kit_event(id, "{}"));
    }
}

static void
mark(struct rig *r)
{
    assert_int_equal(r->dedup->ops->mark(r->dedup, &r->batch), OK);
}

/* One letter an event: P for PROCESSING, D for DUPLICATE, x for DEAD. */
static void
assert_seen(struct rig *r, const char *expected)
{
    assert_int_equal(r->dedup->ops->seen(r->dedup, &r->batch), OK);
    for (size_t i = 0; i < r->batch.n; i++) {
        enum event_state state = r->batch.item[i].state;
        char got = state == EVENT_PROCESSING ? 'P' : state == EVENT_DUPLICATE ? 'D' : 'x';
        assert_int_equal(got, expected[i]);
    }
}

static void
an_id_that_was_never_marked_is_not_seen(void **state)
{
    struct rig *r = *state;
    hold(r, "abc");
    assert_seen(r, "PPP");
    hold(r, "abc"); /* looking is not marking */
    assert_seen(r, "PPP");
}

static void
marking_twice_is_success(void **state)
{
    struct rig *r = *state;
    hold(r, "ab");
    mark(r);
    hold(r, "ab");
    mark(r);
    hold(r, "aab");
    mark(r);
}

static void
decided_events_are_left_as_they_are(void **state)
{
    struct rig *r = *state;
    hold(r, "a");
    mark(r);
    hold(r, "aa");
    r->batch.item[0].state = EVENT_DEAD;
    r->batch.item[1].state = EVENT_DEAD;
    assert_seen(r, "xx");
}

static void
close_takes_null(void **state)
{
    struct rig *r = *state;
    r->dedup->ops->close(NULL);
}

/* --- of those that are exact --- */

static void
a_marked_id_is_seen_from_then_on(void **state)
{
    struct rig *r = *state;
    hold(r, "ab");
    assert_seen(r, "PP");
    mark(r);
    hold(r, "abc");
    assert_seen(r, "DDP");
    hold(r, "ca");
    assert_seen(r, "PD");
}

static void
an_id_that_stands_earlier_in_the_batch_is_a_duplicate(void **state)
{
    struct rig *r = *state;
    hold(r, "abacba");
    assert_seen(r, "PPDPDD");
}

static void
only_what_had_its_effect_is_marked(void **state)
{
    struct rig *r = *state;
    hold(r, "abc");
    r->batch.item[0].state = EVENT_DEAD;
    r->batch.item[1].result = ERR_UNAVAILABLE;
    mark(r);
    hold(r, "abc");
    assert_seen(r, "PPD");
}

static void
a_batch_with_nothing_to_mark_is_success(void **state)
{
    struct rig *r = *state;
    mark(r);
    hold(r, "a");
    r->batch.item[0].state = EVENT_DEAD;
    mark(r);
    hold(r, "a");
    assert_seen(r, "P");
}

/* --- of the one that remembers nothing --- */

static void
none_never_sees_anything(void **state)
{
    struct rig *r = *state;
    hold(r, "ab");
    mark(r);
    hold(r, "abb");
    assert_seen(r, "PPP");
}

/* --- of the local one --- */

static void
an_id_is_seen_after_a_restart(void **state)
{
    struct rig *r = *state;
    hold(r, "ab");
    mark(r);
    r->dedup->ops->close(r->dedup);
    kit_close_store(&r->kit);
    r->open(r);
    hold(r, "abc");
    assert_seen(r, "DDP");
}

static void
another_payload_is_a_conflict(void **state)
{
    struct rig *r = *state;
    hold(r, "a");
    mark(r);
    batch_reset(&r->batch);
    batch_add(&r->batch, kit_event("a", "{}"));
    batch_add(&r->batch, kit_event("b", "{}"));
    assert_seen(r, "DP");
    assert_false(r->batch.item[0].conflict);
    batch_reset(&r->batch);
    batch_add(&r->batch, kit_event("a", "{\"other\":1}"));
    assert_seen(r, "D");
    assert_true(r->batch.item[0].conflict);
}

static void
a_conflict_is_told_against_what_was_kept_not_against_a_neighbour(void **state)
{
    struct rig *r = *state;
    hold(r, "a");
    mark(r);
    batch_reset(&r->batch);
    batch_add(&r->batch, kit_event("a", "{\"other\":1}"));
    batch_add(&r->batch, kit_event("a", "{\"other\":1}"));
    batch_add(&r->batch, kit_event("a", "{}"));
    assert_seen(r, "DDD");
    assert_true(r->batch.item[0].conflict);
    assert_true(r->batch.item[1].conflict);
    assert_false(r->batch.item[2].conflict);
}

static void
a_joined_batch_only_stages_its_mark(void **state)
{
    struct rig *r = *state;
    hold(r, "a");
    r->batch.joined = true;
    mark(r);
    assert_int_equal(r->batch.staged, STAGE_MARK);
    hold(r, "a");
    assert_seen(r, "P");
}

#define TEST(test)                                                                                 \
    {                                                                                              \
#test, test, set_up, tear_down, NULL                                                       \
    }
static const struct CMUnitTest every[] = {
    TEST(an_id_that_was_never_marked_is_not_seen),
    TEST(marking_twice_is_success),
    TEST(decided_events_are_left_as_they_are),
    TEST(close_takes_null),
};
static const struct CMUnitTest exact[] = {
    TEST(a_marked_id_is_seen_from_then_on),
    TEST(an_id_that_stands_earlier_in_the_batch_is_a_duplicate),
    TEST(only_what_had_its_effect_is_marked),
    TEST(a_batch_with_nothing_to_mark_is_success),
};
static const struct CMUnitTest none_only[] = {
    TEST(none_never_sees_anything),
};
static const struct CMUnitTest local_only[] = {
    TEST(an_id_is_seen_after_a_restart),
    TEST(another_payload_is_a_conflict),
    TEST(a_conflict_is_told_against_what_was_kept_not_against_a_neighbour),
    TEST(a_joined_batch_only_stages_its_mark),
};
#define RUN(name, suite, rig) kit_run(name, suite, sizeof suite / sizeof *suite, rig)

int
main(void)
{
    struct rig memory = {.open = open_memory};
    struct rig none = {.open = open_none};
    struct rig local = {.open = open_local};
    return RUN("dedup/memory", every, &memory) + RUN("dedup/memory, exact", exact, &memory) +
           RUN("dedup/none", every, &none) + RUN("dedup/none, itself", none_only, &none) +
           RUN("dedup/local", every, &local) + RUN("dedup/local, exact", exact, &local) +
           RUN("dedup/local, itself", local_only, &local);
}
