/* The id index with a hash of 6 bits, so that nearly every id collides, against a plain list. */
#include "store/store_ids.h"

#include "env.h"
#include "log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDS 400

struct fixture {
    char folder[64];
    struct env env;
    struct log *log;
    struct store_db *db;
    struct store_ids *ids;
};

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char why[256];
    strcpy(f->folder, "/tmp/weir-ids-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    f->log = log_open(2, LOG_ERROR, false);
    env_init_system(&f->env, f->log);
    assert_int_equal(store_db_open(&f->db, f->folder, STORE_DB_WRITER, &f->env, why, sizeof why),
                     OK);
    assert_int_equal(store_ids_open(&f->ids, f->db), OK);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;
    char command[128];
    store_ids_close(f->ids);
    store_db_close(f->db, true);
    log_close(f->log);
    snprintf(command, sizeof command, "rm -r %s", f->folder);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* Adds an id with the row that verifies it, as the writer does. */
static uint64_t
add(struct fixture *f, const char *id, uint64_t seq)
{
    struct store_first first;
    assert_int_equal(store_ids_add(f->ids, &first, span_of(id), seq), OK);
    if (first.seq == 0) {
        struct event *ev =
            event_new(span_of(id), SPAN("T"), SPAN("2026-02-03T12:30:00Z"), SPAN("{}"));
        ev->seq = seq;
        assert_int_equal(store_db_event_add(f->db, ev, 1), OK);
        event_free(ev);
    }
    store_ids_release(f->ids);
    return first.seq;
}

static uint64_t
find(struct fixture *f, const char *id)
{
    struct store_first first;
    assert_int_equal(store_ids_find(f->ids, &first, span_of(id)), OK);
    store_ids_release(f->ids);
    return first.seq;
}

static void
colliding_ids_are_told_apart(void **state)
{
    struct fixture *f = *state;
    char id[32];
    for (uint64_t i = 1; i <= IDS; i++) {
        snprintf(id, sizeof id, "evt_%llu", (unsigned long long)i);
        assert_int_equal(find(f, id), 0);
        assert_int_equal(add(f, id, i), 0);
        assert_int_equal(find(f, id), i);
    }
    for (uint64_t i = 1; i <= IDS; i++) {
        snprintf(id, sizeof id, "evt_%llu", (unsigned long long)i);
        assert_int_equal(find(f, id), i);
        assert_int_equal(add(f, id, IDS + i),
                         i); /* known: the first one is named, nothing is added */
    }
    assert_int_equal(find(f, "evt_0"), 0);
    assert_int_equal(find(f, ""), 0);
}

static void
ids_of_a_transaction_that_rolled_back_are_new_again(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(store_db_begin(f->db), OK);
    assert_int_equal(add(f, "evt_a", 1), 0);
    assert_int_equal(add(f, "evt_a", 2), 1);
    store_db_rollback(f->db);
    assert_int_equal(find(f, "evt_a"), 0);
    assert_int_equal(add(f, "evt_a", 3), 0);
    assert_int_equal(find(f, "evt_a"), 3);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(colliding_ids_are_told_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ids_of_a_transaction_that_rolled_back_are_new_again, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
