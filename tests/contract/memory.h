/* memory.h - the four contracts kept in memory, for tests: small enough to be seen to be right,
 * and able to fail when told to.
 * Threads:  as the contracts say. */
#ifndef WEIR_TEST_MEMORY_H
#define WEIR_TEST_MEMORY_H

#include "dedup/dedup.h"
#include "queue/consumer.h"
#include "queue/queue.h"
#include "sink/sink.h"

struct env;

/* max_bytes: of what is not settled; beyond it ERR_QUEUE_FULL. */
enum err memory_queue_open(struct queue **out, struct env *env, uint64_t max_bytes) MUST_CHECK;
/* Takes from that queue, which outlives it; any number of them. stop() of one stops all. */
enum err memory_consumer_open(struct consumer **out, struct queue *q) MUST_CHECK;
enum err memory_dedup_open(struct dedup **out) MUST_CHECK;
enum err memory_sink_open(struct sink **out) MUST_CHECK;

/* The next `times` calls of settle (of any consumer), mark or write fail with this. A settle that
 * fails with ERR_LOST gives what the batch holds back to the queue. */
void memory_queue_fail(struct queue *q, enum err error, unsigned times);
void memory_dedup_fail(struct dedup *d, enum err error, unsigned times);
void memory_sink_fail(struct sink *s, enum err error, unsigned times);
/* Events of this id get this result from write, `times` times. One such id a sink. */
void memory_sink_refuse(struct sink *s, const char *id, enum err result, unsigned times);
/* How often idle() was called, of any consumer. */
unsigned memory_queue_idles(struct queue *q);
/* How often write() was called, and how often the id had its effect. */
unsigned memory_sink_writes(struct sink *s);
unsigned memory_sink_effects(struct sink *s, const char *id);

#endif
