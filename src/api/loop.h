/* loop.h - what handlers may use of the loop they run on.
 * Threads: the loop's thread only. Owns: nothing here is the handlers'. */
#ifndef WEIR_LOOP_H
#define WEIR_LOOP_H

#include "api/api.h"

#include <stdatomic.h>

/* The server embeds this first in its own struct. */
struct api_loop {
    const struct api_parts *parts;
    struct mailbox *replies;     /* reply_to of publishes and questions; the loop runs on_arrival */
    struct event_parser *parser; /* this loop's */
    int64_t started_ms;          /* of env's mono_ms: when the api was opened */
    const atomic_bool *draining; /* the process is stopping: not ready any more */
};

#endif
