/* sink.h - where events end up: the effect.
 * Contract: write() stores each event that is still PROCESSING, or says why not in its `result`.
 *           Writing an id twice is success, and a sink that has a unique key says so by the state
 *           DUPLICATE (and `conflict` when the payload differs). OK means durable, not sent;
 *           where the batch is joined (batch.h) it means staged, and durable when settle()
 *           returns.
 * Threads:  a sink stays on the worker thread that opened it. May block: never call from an api
 *           loop.
 * Owns:     nothing it is given; the batch outlives the call only.
 * Fails:    not OK: nothing of the batch is known to be written; the fate of the code says what
 *           to do. A bad row is ERR_REJECTED in that row's result, with its reason, and write()
 *           is OK. */
#ifndef WEIR_SINK_H
#define WEIR_SINK_H

#include "batch.h"

struct env;
struct store;
struct sink;

struct sink_ops {
    const char *name;
    enum err (*write)(struct sink *s, struct batch *b);
    void (*close)(struct sink *s); /* NULL ok */
};

struct sink {
    const struct sink_ops *ops;
};

/* The backends. What they are given is borrowed. */
enum err sink_local_open(struct sink **out, struct store *store) MUST_CHECK;
/* sink_log_open: path NULL: standard output. Not OK: `why` says what to tell the user. */
struct config;
/* Connects and checks the schema: not OK, `why` says what to tell the user. */
enum err sink_postgres_open(struct sink **out, const struct config *cfg, struct env *env, char *why,
                            size_t why_size) MUST_CHECK;
enum err sink_log_open(struct sink **out, const char *path, struct env *env, char *why,
                       size_t why_size) MUST_CHECK;

#endif
