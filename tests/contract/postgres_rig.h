/* postgres_rig.h - what the tests on a real PostgreSQL share: one server a program, a migrated database
 * a test, a sink on it.
 * Threads:  the test's.
 * Fails:    by failing the test. */
#ifndef WEIR_TEST_POSTGRES_RIG_H
#define WEIR_TEST_POSTGRES_RIG_H

#include "config.h"
#include "kit.h"
#include "postgres_server.h"
#include "sink/sink.h"

#define POSTGRES_PATIENT_MS 30000 /* for a machine that is busy */

struct postgres_rig {
    struct postgres_server *server; /* the program's */
    struct kit kit;
    char database[32];
    char url[160];
    struct config cfg; /* sink and its timeout; a test may change them */
    struct sink *sink; /* NULL until postgres_rig_open_sink */
    struct batch batch;
    char why[512];
};

/* Starts the server and makes the database that the others are copies of. */
void postgres_rig_begin(struct postgres_server *s);
void postgres_rig_init(struct postgres_rig *r, struct postgres_server *s);
void postgres_rig_fini(struct postgres_rig *r);
/* For cmocka: *state is a struct postgres_server * before, and a struct postgres_rig * between. */
int postgres_rig_set_up(void **state);
int postgres_rig_tear_down(void **state);

struct sink *postgres_rig_sink(struct postgres_rig *r); /* one more; must open */
void postgres_rig_open_sink(struct postgres_rig *r);    /* r->sink */
enum err postgres_rig_try_open(struct postgres_rig *r); /* opens and closes one; r->why */

/* A new batch; and one more event in it. */
void postgres_rig_hold(struct postgres_rig *r, size_t cap);
void postgres_rig_add(struct postgres_rig *r, const char *id, const char *payload);
/* "<prefix>0" … with the payload {"n":1}, and room for a few more */
#define POSTGRES_ROOM 4
void postgres_rig_hold_run(struct postgres_rig *r, const char *prefix, size_t n);
enum err postgres_rig_write(struct postgres_rig *r);
int64_t postgres_rig_number(struct postgres_rig *r, const char *sql);
void postgres_rig_do(struct postgres_rig *r, const char *sql);
void postgres_rig_expect_text(struct postgres_rig *r, const char *sql, const char *expected);
/* One row for each id, and no id without a row: how many. */
int64_t postgres_rig_events(struct postgres_rig *r);

#define POSTGRES_TEST(test)                                                                        \
    {                                                                                              \
#test, test, postgres_rig_set_up, postgres_rig_tear_down, NULL                             \
    }

#endif
