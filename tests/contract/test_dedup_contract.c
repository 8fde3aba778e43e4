/* What dedup.h promises, asked of every backend that needs no server. */
#include "dedup_suite.h"
#include "memory.h"

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

/* --- of the one that remembers nothing --- */

static void
none_never_sees_anything(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "ab");
    dedup_mark(r);
    dedup_hold(r, "abb");
    dedup_assert_seen(r, "PPP");
}

/* --- of the local one --- */

static void
an_id_is_seen_after_a_restart(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "ab");
    dedup_mark(r);
    r->dedup->ops->close(r->dedup);
    kit_close_store(&r->kit);
    r->open(r);
    dedup_hold(r, "abc");
    dedup_assert_seen(r, "DDP");
}

static void
a_joined_batch_only_stages_its_mark(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "a");
    r->batch.joined = true;
    dedup_mark(r);
    assert_int_equal(r->batch.staged, STAGE_MARK);
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
}

static const struct CMUnitTest none_only[] = {
    DEDUP_TEST(none_never_sees_anything),
};
static const struct CMUnitTest local_only[] = {
    DEDUP_TEST(an_id_is_seen_after_a_restart),
    DEDUP_TEST(a_joined_batch_only_stages_its_mark),
};

int
main(void)
{
    struct rig memory = {.open = open_memory};
    struct rig none = {.open = open_none};
    struct rig local = {.open = open_local};
    return DEDUP_RUN("dedup/memory", dedup_every, &memory) +
           DEDUP_RUN("dedup/memory, exact", dedup_exact, &memory) +
           DEDUP_RUN("dedup/none", dedup_every, &none) +
           DEDUP_RUN("dedup/none, itself", none_only, &none) +
           DEDUP_RUN("dedup/local", dedup_every, &local) +
           DEDUP_RUN("dedup/local, exact", dedup_exact, &local) +
           DEDUP_RUN("dedup/local, conflicts", dedup_conflicts, &local) +
           DEDUP_RUN("dedup/local, itself", local_only, &local);
}
