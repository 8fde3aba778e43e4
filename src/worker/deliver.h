/* deliver.h - what: one batch from taken to settled, the whole promise in order.
 * Contract: OK: every event of the batch has its final state and the queue has let go of it.
 *           Otherwise nothing is settled, and delivering the same batch again is safe: repeated
 *           work is absorbed by the unique id.
 * Threads:  the worker's. May block. */
#ifndef WEIR_DELIVER_H
#define WEIR_DELIVER_H

#include "dedup/dedup.h"
#include "queue/consumer.h"
#include "sink/sink.h"
#include "env.h"

struct deliver_parts {
    struct env *env;
    struct consumer *consumer;
    struct dedup *dedup;
    struct sink *sink;
};

enum err deliver(const struct deliver_parts *parts, struct batch *b) MUST_CHECK;

#endif
