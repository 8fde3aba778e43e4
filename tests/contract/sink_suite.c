#include "sink_suite.h"

#include <stdlib.h>

int
sink_set_up(void **state)
{
    struct sink_rig *r = calloc(1, sizeof *r);
    r->maker = *state;
    kit_open(&r->kit);
    r->maker->open(r);
    assert_int_equal(batch_init(&r->batch, 10), OK);
    *state = r;
    return 0;
}

int
sink_tear_down(void **state)
{
    struct sink_rig *r = *state;
    batch_fini(&r->batch);
    r->sink->ops->close(r->sink);
    kit_close(&r->kit);
    free(r);
    return 0;
}

void
sink_hold(struct sink_rig *r, const char *letters, const char *payload)
{
    batch_reset(&r->batch);
    for (; *letters != '\0'; letters++) {
        const char id[] = {*letters, '\0'};
        batch_add(&r->batch, kit_event(id, payload));
    }
}

void
sink_write(struct sink_rig *r)
{
    assert_int_equal(r->sink->ops->write(r->sink, &r->batch), OK);
}

static void
every_event_of_the_batch_has_its_effect(void **state)
{
    struct sink_rig *r = *state;
    sink_hold(r, "abc", "{\"n\": 1}");
    sink_write(r);
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
    struct sink_rig *r = *state;
    sink_hold(r, "abc", "{}");
    r->batch.item[0].state = EVENT_DUPLICATE;
    r->batch.item[2].state = EVENT_DEAD;
    sink_write(r);
    assert_int_equal(r->maker->effects(r, "a", "{}"), 0);
    assert_int_equal(r->maker->effects(r, "b", "{}"), 1);
    assert_int_equal(r->maker->effects(r, "c", "{}"), 0);
    assert_int_equal(r->batch.item[0].state, EVENT_DUPLICATE);
    assert_int_equal(r->batch.item[2].state, EVENT_DEAD);
}

static void
a_batch_with_nothing_to_write_is_success(void **state)
{
    struct sink_rig *r = *state;
    sink_write(r);
    sink_hold(r, "a", "{}");
    r->batch.item[0].state = EVENT_DUPLICATE;
    sink_write(r);
    assert_int_equal(r->maker->effects(r, "a", "{}"), 0);
}

static void
writing_an_id_twice_is_success(void **state)
{
    struct sink_rig *r = *state;
    sink_hold(r, "ab", "{}");
    sink_write(r);
    sink_hold(r, "ab", "{}");
    sink_write(r);
    assert_int_equal(r->maker->effects(r, "a", "{}"), r->maker->unique ? 1 : 2);
}

static void
close_takes_null(void **state)
{
    struct sink_rig *r = *state;
    r->sink->ops->close(NULL);
}

/* --- of those with a unique key --- */

static void
an_id_that_is_written_again_is_a_duplicate_with_one_effect(void **state)
{
    struct sink_rig *r = *state;
    sink_hold(r, "ab", "{}");
    sink_write(r);
    sink_hold(r, "bc", "{}");
    sink_write(r);
    assert_int_equal(r->batch.item[0].state, EVENT_DUPLICATE);
    assert_false(r->batch.item[0].conflict);
    assert_true(r->batch.item[1].state != EVENT_DUPLICATE);
    assert_int_equal(r->maker->effects(r, "b", "{}"), 1);
    assert_int_equal(r->maker->effects(r, "c", "{}"), 1);
}

static void
an_id_twice_in_one_batch_has_one_effect(void **state)
{
    struct sink_rig *r = *state;
    sink_hold(r, "aba", "{}");
    sink_write(r);
    assert_true(r->batch.item[0].state != EVENT_DUPLICATE);
    assert_int_equal(r->batch.item[2].state, EVENT_DUPLICATE);
    assert_int_equal(r->maker->effects(r, "a", "{}"), 1);
}

static void
another_payload_is_a_conflict_and_the_first_is_kept(void **state)
{
    struct sink_rig *r = *state;
    sink_hold(r, "a", "{\"first\":1}");
    sink_write(r);
    sink_hold(r, "aa", "{\"other\":2}");
    sink_write(r);
    for (size_t i = 0; i < 2; i++) { /* told against what was kept, not against its neighbour */
        assert_int_equal(r->batch.item[i].state, EVENT_DUPLICATE);
        assert_true(r->batch.item[i].conflict);
    }
    assert_int_equal(r->maker->effects(r, "a", "{\"first\":1}"), 1);
}

const struct CMUnitTest sink_every[] = {
    SINK_TEST(every_event_of_the_batch_has_its_effect),
    SINK_TEST(decided_events_are_not_written),
    SINK_TEST(a_batch_with_nothing_to_write_is_success),
    SINK_TEST(writing_an_id_twice_is_success),
    SINK_TEST(close_takes_null),
};
const struct CMUnitTest sink_unique[] = {
    SINK_TEST(an_id_that_is_written_again_is_a_duplicate_with_one_effect),
    SINK_TEST(an_id_twice_in_one_batch_has_one_effect),
    SINK_TEST(another_payload_is_a_conflict_and_the_first_is_kept),
};
