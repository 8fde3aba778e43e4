/* worker.h - when: threads that take batches from the queue, deliver them, pause while a part
 * does not answer, and stop.
 * Threads:  each worker thread owns its batch, dedup and sink. worker_open, worker_stop,
 *           worker_close: the composition root. */
#ifndef WEIR_WORKER_H
#define WEIR_WORKER_H

#include "dedup/dedup.h"
#include "queue/consumer.h"
#include "sink/sink.h"
#include "stats.h"
#include "env.h"

/* Told of every settled event, on the worker's thread; must be quick. */
typedef void worker_watch(void *data, const struct delivery *d);

struct worker_parts {
    struct env *env;
    struct stats *stats;
    struct consumer *consumer; /* the worker's, as are dedup and sink: it closes them */
    struct dedup *dedup;
    struct sink *sink;
    size_t batch_max;
    worker_watch *watch; /* never NULL */
    void *watch_data;
};

struct worker;
enum err worker_open(struct worker **out, const struct worker_parts *parts)
    MUST_CHECK; /* on failure the parts are still the caller's */
enum err worker_start(struct worker *w, unsigned number) MUST_CHECK;
void worker_stop(struct worker *w);  /* finish the batch, take no other; does not wait */
void worker_close(struct worker *w); /* joins; NULL ok */

#endif
