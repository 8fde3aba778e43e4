/* The power fails at some operation of the disk: what was not synced is gone, or half there. What
 * was acknowledged must be there all the same. A killed process cannot show a missing sync, because
 * the page cache outlives it; this can. */
#include "sim.h"

#include "lossy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cmocka.h>

#define POWER_CODE 86

static void
install(struct sim *s, void *data)
{
    (void)s;
    assert_true(lossy_install(data));
}

/* Memory that the child writes and the parent reads. */
static struct lossy_counts *
shared_counts(void)
{
    struct lossy_counts *c =
        mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(c != MAP_FAILED);
    return c;
}

static struct sim_verdict
run(const struct sim_plan *plan, struct lossy_plan *lossy, bool must_hold, bool *failed)
{
    struct sim s;
    *lossy->counts = (struct lossy_counts){0};
    lossy->end = kit_end_process;
    lossy->exit_code = POWER_CODE;
    lossy->seed = plan->seed + (uint64_t)lossy->countdown * 1000003;
    sim_init(&s, plan);
    int code = sim_run_child(&s, install, lossy);
    assert_true(code == 0 || code == POWER_CODE);
    *failed = code == POWER_CODE;
    struct sim_verdict v = sim_finish_and_count(&s);
    if (must_hold) {
        char what[64];
        snprintf(what, sizeof what, "power lost at operation %d", lossy->countdown);
        sim_check(&s, &v, 0, what);
    }
    sim_fini(&s);
    return v;
}

/* How many operations a whole run has. */
static struct lossy_counts
measure(const struct sim_plan *plan)
{
    struct lossy_plan lossy = {.countdown = -1, .counts = shared_counts()};
    bool failed = false;
    (void)run(plan, &lossy, true, &failed);
    assert_false(failed);
    return *lossy.counts;
}

/* Loses the power `times` times, spread over the whole run. Runs differ a little, because commits
 * are shared as it happens: a few end before their turn. */
static void
lose_power_all_along(const struct sim_plan *plan, int times)
{
    struct lossy_plan lossy = {.counts = shared_counts()};
    int span = measure(plan).operations / times + 1;
    uint64_t random = plan->seed;
    unsigned acknowledged = 0;
    int failures = 0;
    for (int i = 0; i < times; i++) {
        bool failed = false;
        lossy.countdown = i * span + (int)(sim_random(&random) % (uint64_t)span);
        acknowledged += run(plan, &lossy, true, &failed).acknowledged;
        failures += failed;
    }
    assert_true(acknowledged > 0);
    assert_true(failures > times / 2);
}

static void
what_was_acknowledged_survives_a_power_loss(void **state)
{
    (void)state;
    const struct sim_plan plan = {.seed = sim_seed(), .mode = SIM_JOINED, .requests = 10};
    lose_power_all_along(&plan, 100);
}

static void
what_was_acknowledged_survives_a_power_loss_when_write_and_settle_are_apart(void **state)
{
    (void)state;
    const struct sim_plan plan = {.seed = sim_seed() + 1, .mode = SIM_APART, .requests = 10};
    lose_power_all_along(&plan, 40);
}

/* Large events fill the WAL, so that it is checkpointed and begun anew several times. */
static void
what_was_acknowledged_survives_a_power_loss_around_checkpoints(void **state)
{
    (void)state;
    const struct sim_plan plan = {
        .seed = sim_seed(), .mode = SIM_JOINED, .requests = 40, .payload_bytes = 200000};
    assert_true(measure(&plan).wal_restarts >= 3);
    lose_power_all_along(&plan, 30);
}

/* --- the checker must be able to fail --- */

static void
planted_a_forgotten_sync_is_caught(void **state)
{
    (void)state;
    const struct sim_plan plan = {.seed = sim_seed(), .mode = SIM_JOINED, .requests = 10};
    struct lossy_plan lossy = {.forgets_wal = true, .counts = shared_counts()};
    int operations = measure(&plan).operations;
    unsigned lost = 0;
    for (int i = 1; i <= 10 && lost == 0; i++) {
        lossy.countdown = operations * 8 / 10 * i / 10;
        bool failed = false;
        lost += run(&plan, &lossy, false, &failed).lost;
    }
    assert_true(lost > 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_acknowledged_survives_a_power_loss),
        cmocka_unit_test(
            what_was_acknowledged_survives_a_power_loss_when_write_and_settle_are_apart),
        cmocka_unit_test(what_was_acknowledged_survives_a_power_loss_around_checkpoints),
        cmocka_unit_test(planted_a_forgotten_sync_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
