/* api.h - the front door: HTTP in, 202 when durable.
 * Contract: api_open binds (so that a taken port is an error before anything else starts) but
 *           serves nothing until api_start. api_drain: stop accepting, answer every request that
 *           was received, close, join. No 202 before the queue's OK.
 * Threads:  A loops, each with its own listener (SO_REUSEPORT), connections and reply mailbox;
 *           never block. The functions here: the composition root. */
#ifndef WEIR_API_H
#define WEIR_API_H

#include "config.h"
#include "history/history.h"
#include "queue/queue.h"
#include "stats.h"
#include "env.h"

struct api;

struct api_parts { /* all borrowed, outlive the loops; env and stats outlive the api */
    const struct config *cfg;
    struct env *env;
    struct stats *stats;
    struct queue *queue;
    struct history *history;
};

enum err api_open(struct api **out, const struct api_parts *parts, char *why,
                  size_t why_size) MUST_CHECK;
enum err api_start(struct api *a) MUST_CHECK;
const char *api_address(
    const struct api *a); /* what it listens on, port resolved: "127.0.0.1:3000", "unix:/path" */
void api_drain(struct api *a, int timeout_ms); /* after it every loop has ended */
/* NULL ok. Frees the replies that come after a drain whose time ran out: close it after what may
 * still post them. The queue and the history may be closed by then. */
void api_close(struct api *a);

#endif
