#include "dedup_suite.h"

#include <stdlib.h>

int
dedup_set_up(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    r->open = ((struct rig *)*state)->open;
    r->data = ((struct rig *)*state)->data;
    kit_open(&r->kit);
    r->open(r);
    assert_int_equal(batch_init(&r->batch, 10), OK);
    *state = r;
    return 0;
}

int
dedup_tear_down(void **state)
{
    struct rig *r = *state;
    batch_fini(&r->batch);
    r->dedup->ops->close(r->dedup);
    kit_close(&r->kit);
    free(r);
    return 0;
}

void
dedup_hold(struct rig *r, const char *letters)
{
    batch_reset(&r->batch);
    for (; *letters != '\0'; letters++) {
        const char id[] = {*letters, '\0'};
        batch_add(&r->batch, kit_event(id, "{}"));
    }
}

void
dedup_mark(struct rig *r)
{
    assert_int_equal(r->dedup->ops->mark(r->dedup, &r->batch), OK);
}

void
dedup_assert_states(const struct rig *r, const char *expected)
{
    for (size_t i = 0; i < r->batch.n; i++) {
        enum event_state state = r->batch.item[i].state;
        char got = state == EVENT_PROCESSING ? 'P' : state == EVENT_DUPLICATE ? 'D' : 'x';
        assert_int_equal(got, expected[i]);
    }
}

void
dedup_assert_seen(struct rig *r, const char *expected)
{
    assert_int_equal(r->dedup->ops->seen(r->dedup, &r->batch), OK);
    dedup_assert_states(r, expected);
}

static void
an_id_that_was_never_marked_is_not_seen(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "abc");
    dedup_assert_seen(r, "PPP");
    dedup_hold(r, "abc"); /* looking is not marking */
    dedup_assert_seen(r, "PPP");
}

static void
marking_twice_is_success(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "ab");
    dedup_mark(r);
    dedup_hold(r, "ab");
    dedup_mark(r);
    dedup_hold(r, "aab");
    dedup_mark(r);
}

static void
decided_events_are_left_as_they_are(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "a");
    dedup_mark(r);
    dedup_hold(r, "aa");
    r->batch.item[0].state = EVENT_DEAD;
    r->batch.item[1].state = EVENT_DEAD;
    dedup_assert_seen(r, "xx");
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
    dedup_hold(r, "ab");
    dedup_assert_seen(r, "PP");
    dedup_mark(r);
    dedup_hold(r, "abc");
    dedup_assert_seen(r, "DDP");
    dedup_hold(r, "ca");
    dedup_assert_seen(r, "PD");
}

static void
an_id_that_stands_earlier_in_the_batch_is_a_duplicate(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "abacba");
    dedup_assert_seen(r, "PPDPDD");
}

static void
only_what_had_its_effect_is_marked(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "abc");
    r->batch.item[0].state = EVENT_DEAD;
    r->batch.item[1].result = ERR_UNAVAILABLE;
    dedup_mark(r);
    dedup_hold(r, "abc");
    dedup_assert_seen(r, "PPD");
}

static void
a_batch_with_nothing_to_mark_is_success(void **state)
{
    struct rig *r = *state;
    dedup_mark(r);
    dedup_hold(r, "a");
    r->batch.item[0].state = EVENT_DEAD;
    dedup_mark(r);
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
}

/* --- of those that remember the payload, too --- */

static void
another_payload_is_a_conflict(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "a");
    dedup_mark(r);
    batch_reset(&r->batch);
    batch_add(&r->batch, kit_event("a", "{}"));
    batch_add(&r->batch, kit_event("b", "{}"));
    dedup_assert_seen(r, "DP");
    assert_false(r->batch.item[0].conflict);
    batch_reset(&r->batch);
    batch_add(&r->batch, kit_event("a", "{\"other\":1}"));
    dedup_assert_seen(r, "D");
    assert_true(r->batch.item[0].conflict);
}

static void
a_conflict_is_told_against_what_was_kept_not_against_a_neighbour(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "a");
    dedup_mark(r);
    batch_reset(&r->batch);
    batch_add(&r->batch, kit_event("a", "{\"other\":1}"));
    batch_add(&r->batch, kit_event("a", "{\"other\":1}"));
    batch_add(&r->batch, kit_event("a", "{}"));
    dedup_assert_seen(r, "DDD");
    assert_true(r->batch.item[0].conflict);
    assert_true(r->batch.item[1].conflict);
    assert_false(r->batch.item[2].conflict);
}

const struct CMUnitTest dedup_every[4] = {
    DEDUP_TEST(an_id_that_was_never_marked_is_not_seen),
    DEDUP_TEST(marking_twice_is_success),
    DEDUP_TEST(decided_events_are_left_as_they_are),
    DEDUP_TEST(close_takes_null),
};
const struct CMUnitTest dedup_exact[4] = {
    DEDUP_TEST(a_marked_id_is_seen_from_then_on),
    DEDUP_TEST(an_id_that_stands_earlier_in_the_batch_is_a_duplicate),
    DEDUP_TEST(only_what_had_its_effect_is_marked),
    DEDUP_TEST(a_batch_with_nothing_to_mark_is_success),
};
const struct CMUnitTest dedup_conflicts[2] = {
    DEDUP_TEST(another_payload_is_a_conflict),
    DEDUP_TEST(a_conflict_is_told_against_what_was_kept_not_against_a_neighbour),
};
