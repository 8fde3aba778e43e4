/* A process that dies, or a step that fails, at every point there is: nothing that was acknowledged
 * is lost, and nothing has its effect twice. The countdown goes on until a run comes to its end
 * without meeting it, so there is no list of points to maintain. */
#include "sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define REQUESTS 7
#define POINTS_MAX 2000
#define BATCH_MAX 5

struct fault {
    enum fault_kind kind;
    enum err error;
    const char *only;
    int countdown;
};

static void
arm(struct sim *s, void *data)
{
    const struct fault *f = data;
    kit_arm(&s->kit, f->kind, f->error, f->only, f->countdown);
}

/* One run with one fault. *exit_code: how the child ended. */
static struct sim_verdict
run(const struct sim_plan *plan, struct fault *f, int *exit_code)
{
    struct sim s;
    sim_init(&s, plan);
    *exit_code = sim_run_child(&s, arm, f);
    struct sim_verdict v = sim_finish_and_count(&s);
    char what[64];
    snprintf(what, sizeof what, "%s at point %d",
             f->kind == FAULT_CRASH ? "crash" : err_name(f->error), f->countdown);
    if (!plan->acks_early && !plan->settles_first) {
        /* without a unique key, the batch in hand at the crash can be written again */
        sim_check(&s, &v, plan->mode == SIM_LOG ? BATCH_MAX : 0, what);
    }
    sim_fini(&s);
    return v;
}

static struct sim_plan
plan_of(enum sim_mode mode)
{
    return (struct sim_plan){.seed = sim_seed(), .mode = mode, .requests = REQUESTS};
}

static void
crash_at_every_point(enum sim_mode mode)
{
    struct sim_plan plan = plan_of(mode);
    struct fault f = {.kind = FAULT_CRASH};
    int code = FAULT_CRASH_CODE;
    while (code == FAULT_CRASH_CODE && f.countdown < POINTS_MAX) {
        (void)run(&plan, &f, &code);
        f.countdown++;
    }
    assert_int_equal(code, 0);
    assert_in_range(f.countdown, 50, POINTS_MAX - 1); /* or the points are gone */
}

static void
a_crash_anywhere_loses_and_doubles_nothing_in_one_transaction(void **state)
{
    (void)state;
    crash_at_every_point(SIM_JOINED);
}

static void
a_crash_anywhere_loses_and_doubles_nothing_with_a_unique_key_in_the_sink(void **state)
{
    (void)state;
    crash_at_every_point(SIM_APART);
}

static void
a_crash_anywhere_loses_nothing_with_the_log_sink(void **state)
{
    (void)state;
    crash_at_every_point(SIM_LOG);
}

/* Every mode, each point once; the error is one that is tried again. */
static void
a_step_that_fails_anywhere_loses_and_settles_nothing_wrongly(void **state)
{
    (void)state;
    for (enum sim_mode mode = SIM_JOINED; mode <= SIM_LOG; mode++) {
        struct sim_plan plan = plan_of(mode);
        struct fault f = {.kind = FAULT_ERROR, .error = ERR_NOMEM};
        for (; f.countdown < POINTS_MAX; f.countdown++) {
            struct sim s;
            sim_init(&s, &plan);
            kit_arm(&s.kit, f.kind, f.error, f.only, f.countdown);
            sim_open(&s);
            sim_work(&s);
            sim_close(&s);
            bool fired = s.kit.fault_fired;
            struct sim_verdict v = sim_finish_and_count(&s);
            sim_check(&s, &v, mode == SIM_LOG ? BATCH_MAX : 0, s.kit.fault_point);
            assert_int_equal(s.kit.fatals, 0);
            sim_fini(&s);
            if (!fired) {
                break;
            }
        }
        assert_in_range(f.countdown, 50, POINTS_MAX - 1);
    }
}

static void
an_error_that_the_disk_cannot_be_trusted_after_ends_the_process_and_loses_nothing(void **state)
{
    (void)state;
    struct sim_plan plan = plan_of(SIM_JOINED);
    struct fault f = {.kind = FAULT_ERROR, .error = ERR_IO, .only = "store."};
    unsigned stopped = 0;
    int code = -1;
    while (code != 0 && f.countdown < POINTS_MAX) {
        (void)run(&plan, &f, &code);
        assert_true(code == 74 || code == 0 || code == SIM_SURVIVED); /* a fault after the commit */
        stopped += code == 74;
        f.countdown += 5; /* at every point there is a crash above */
    }
    assert_true(stopped > 5);
}

/* --- the checker must be able to fail --- */

static void
planted_an_ack_before_the_commit_is_caught(void **state)
{
    (void)state;
    struct sim_plan plan = plan_of(SIM_JOINED);
    plan.acks_early = true;
    struct fault f = {.kind = FAULT_CRASH};
    int code = FAULT_CRASH_CODE;
    unsigned lost = 0;
    while (code == FAULT_CRASH_CODE && lost == 0) {
        lost += run(&plan, &f, &code).lost;
        f.countdown++;
    }
    assert_true(lost > 0);
}

static void
planted_a_settle_before_the_write_is_caught(void **state)
{
    (void)state;
    struct sim_plan plan = plan_of(SIM_APART);
    plan.settles_first = true;
    struct fault f = {.kind = FAULT_CRASH, .only = "deliver.wrongly"};
    int code = FAULT_CRASH_CODE;
    unsigned lost = 0;
    while (code == FAULT_CRASH_CODE && lost == 0) {
        lost += run(&plan, &f, &code).lost; /* a batch of duplicates only would hide it */
        f.countdown++;
    }
    assert_true(lost > 0);
}

static void
planted_a_sink_without_a_key_is_seen_to_double(void **state)
{
    (void)state;
    struct sim_plan plan = plan_of(SIM_LOG);
    struct fault f = {.kind = FAULT_CRASH, .only = "deliver.written"};
    int code = 0;
    assert_true(run(&plan, &f, &code).doubled > 0);
    assert_int_equal(code, FAULT_CRASH_CODE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_anywhere_loses_and_doubles_nothing_in_one_transaction),
        cmocka_unit_test(a_crash_anywhere_loses_and_doubles_nothing_with_a_unique_key_in_the_sink),
        cmocka_unit_test(a_crash_anywhere_loses_nothing_with_the_log_sink),
        cmocka_unit_test(a_step_that_fails_anywhere_loses_and_settles_nothing_wrongly),
        cmocka_unit_test(
            an_error_that_the_disk_cannot_be_trusted_after_ends_the_process_and_loses_nothing),
        cmocka_unit_test(planted_an_ack_before_the_commit_is_caught),
        cmocka_unit_test(planted_a_settle_before_the_write_is_caught),
        cmocka_unit_test(planted_a_sink_without_a_key_is_seen_to_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
