/* The wall clock jumps, as after a wrong setting or a bad time server: order and uniqueness do not
 * depend on it. */
#include "sim.h"

#include "worker/deliver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define HOUR_MS ((int64_t)3600 * 1000)

static int
set_up(void **state)
{
    static struct sim s;
    const struct sim_plan plan = {.seed = sim_seed(), .mode = SIM_JOINED, .requests = 20};
    sim_init(&s, &plan);
    sim_open(&s);
    *state = &s;
    return 0;
}

static int
tear_down(void **state)
{
    struct sim *s = *state;
    sim_close(s);
    sim_fini(s);
    return 0;
}

static void
jump(struct sim *s, int64_t ms)
{
    atomic_fetch_add(&s->kit.wall_jump_ms, ms);
}

/* Everything that waits, in one batch: ids and times in order. */
static void
assert_order(struct sim *s, const char *const *ids, size_t n)
{
    struct batch b;
    assert_int_equal(batch_init(&b, n), OK);
    kit_take(s->consumer, &b, n);
    for (size_t i = 0; i < n; i++) {
        assert_true(kit_id_is(&b.item[i], ids[i]));
        if (i > 0) {
            assert_true(b.item[i].ev->seq > b.item[i - 1].ev->seq);
            assert_true(b.item[i].ev->accepted_ms >= b.item[i - 1].ev->accepted_ms);
        }
    }
    batch_fini(&b);
}

static void
after_a_jump_back_events_still_come_in_accept_order(void **state)
{
    struct sim *s = *state;
    assert_int_equal(kit_publish_one(s->queue, "before"), OK);
    jump(s, -HOUR_MS);
    assert_int_equal(kit_publish_one(s->queue, "after"), OK);
    jump(s, 2 * HOUR_MS);
    assert_int_equal(kit_publish_one(s->queue, "later"), OK);
    assert_order(s, (const char *[]){"before", "after", "later"}, 3);
}

static void
after_a_jump_back_over_a_restart_events_still_come_in_accept_order(void **state)
{
    struct sim *s = *state;
    assert_int_equal(kit_publish_one(s->queue, "before"), OK);
    sim_close(s);
    jump(s, -HOUR_MS);
    sim_open(s);
    assert_int_equal(kit_publish_one(s->queue, "after"), OK);
    assert_order(s, (const char *[]){"before", "after"}, 2);
}

static void
a_jump_back_makes_no_age_negative(void **state)
{
    struct sim *s = *state;
    assert_int_equal(kit_publish_one(s->queue, "a"), OK);
    jump(s, -HOUR_MS);
    struct queue_status status = {0};
    s->queue->ops->status(s->queue, &status);
    assert_true(status.oldest_age_ms >= 0);
    assert_true(status.ready);
}

static void
an_id_from_before_the_jump_is_a_duplicate_after_it(void **state)
{
    struct sim *s = *state;
    const struct deliver_parts parts = {&s->kit.env, s->consumer, s->dedup, s->sink};
    struct batch b;
    assert_int_equal(batch_init(&b, 1), OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kit_publish_one(s->queue, "a"), OK);
        kit_take(s->consumer, &b, 1);
        assert_int_equal(deliver(&parts, &b), OK);
        assert_int_equal(b.item[0].state, i == 0 ? EVENT_PROCESSED : EVENT_DUPLICATE);
        batch_reset(&b);
        jump(s, -24 * HOUR_MS);
    }
    batch_fini(&b);
}

static void
a_clock_that_jumps_all_the_time_loses_and_doubles_nothing(void **state)
{
    struct sim *s = *state;
    uint64_t random = s->plan.seed;
    for (unsigned i = 0; i < 10; i++) {
        jump(s, (int64_t)(sim_random(&random) % (uint64_t)(2 * HOUR_MS)) - HOUR_MS);
        sim_work(s);
    }
    sim_close(s);
    struct sim_verdict v = sim_finish_and_count(s);
    assert_true(v.acknowledged > 50);
    sim_check(s, &v, 0, "jumping clock");
    sim_open(s); /* for the tear-down */
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(after_a_jump_back_events_still_come_in_accept_order),
        TEST(after_a_jump_back_over_a_restart_events_still_come_in_accept_order),
        TEST(a_jump_back_makes_no_age_negative),
        TEST(an_id_from_before_the_jump_is_a_duplicate_after_it),
        TEST(a_clock_that_jumps_all_the_time_loses_and_doubles_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
