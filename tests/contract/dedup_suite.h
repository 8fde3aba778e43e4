/* dedup_suite.h - what dedup.h promises, as tests for any backend. A backend's test names its maker, a
 * rig that knows how to open it, and runs the suites that the backend obeys. */
#ifndef WEIR_TEST_DEDUP_SUITE_H
#define WEIR_TEST_DEDUP_SUITE_H

#include "dedup/dedup.h"
#include "kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

struct rig {
    void (*open)(struct rig *r); /* sets dedup */
    void *data;                  /* the maker's */
    struct kit kit;
    struct dedup *dedup;
    struct batch batch;
};

int dedup_set_up(void **state);
int dedup_tear_down(void **state);

void dedup_hold(struct rig *r, const char *letters); /* a new batch with one event a letter */
void dedup_mark(struct rig *r);
/* One letter an event: P for PROCESSING, D for DUPLICATE, x for DEAD. */
void dedup_assert_states(const struct rig *r, const char *expected);
void dedup_assert_seen(struct rig *r, const char *expected); /* seen() is OK and leaves these */

#define DEDUP_TEST(test)                                                                           \
    {                                                                                              \
#test, test, dedup_set_up, dedup_tear_down, NULL                                           \
    }
#define DEDUP_RUN(name, suite, rig) kit_run(name, suite, sizeof suite / sizeof *suite, rig)

extern const struct CMUnitTest dedup_every[4];
extern const struct CMUnitTest dedup_exact[4];     /* of those that remember */
extern const struct CMUnitTest dedup_conflicts[2]; /* of those that remember the payload, too */

#endif
