/* loop.h - what handlers may use of the loop they run on.
 * Threads: the loop's thread only. Owns: nothing here is the handlers'. */
#ifndef WEIR_LOOP_H
#define WEIR_LOOP_H

#include "api/api.h"

/* The server embeds this first in its own struct. */
struct api_loop {
    const struct api_parts *parts;
    struct mailbox *replies;     /* reply_to of publishes and questions; the loop runs on_arrival */
    struct event_parser *parser; /* this loop's */
};

#endif
