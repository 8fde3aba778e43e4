/* sink_suite.h - what sink.h promises, as tests for any backend. A backend's test names its maker and
 * runs the suites that the backend obeys. Batches are not joined: what write() says OK to is durable
 * when it returns. */
#ifndef WEIR_TEST_SINK_SUITE_H
#define WEIR_TEST_SINK_SUITE_H

#include "kit.h"
#include "sink/sink.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

struct sink_rig;
struct sink_maker {
    void (*open)(struct sink_rig *r); /* sets sink */
    /* How often the event with this id and payload had its effect. */
    unsigned (*effects)(struct sink_rig *r, const char *id, const char *payload);
    bool unique; /* the sink has a unique key */
    void *data;  /* the maker's own */
};
struct sink_rig {
    const struct sink_maker *maker;
    struct kit kit;
    struct sink *sink;
    struct batch batch;
    char path[128]; /* the maker's own */
};

int sink_set_up(void **state);
int sink_tear_down(void **state);

/* A new batch with one event a letter, all with this payload. */
void sink_hold(struct sink_rig *r, const char *letters, const char *payload);
void sink_write(struct sink_rig *r); /* must be OK */

#define SINK_TEST(test)                                                                            \
    {                                                                                              \
#test, test, sink_set_up, sink_tear_down, NULL                                             \
    }
#define SINK_RUN(name, suite, maker) kit_run(name, suite, sizeof suite / sizeof *suite, maker)

extern const struct CMUnitTest sink_every[5];
extern const struct CMUnitTest sink_unique[3]; /* of those with a unique key */

#endif
