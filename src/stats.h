/* stats.h - what the process counts since its start: one table, read by /stats (and later
 * /metrics).
 * Threads:  any; every counter is atomic and only grows. */
#ifndef WEIR_STATS_H
#define WEIR_STATS_H

#include <stdatomic.h>
#include <stdint.h>

/* field, name in /stats, what it counts */
/* clang-format off */
#define STATS_MAP(X) \
    X(accepted, "accepted", "events answered as durable") \
    X(rejected, "rejected", "events refused as invalid") \
    X(refused, "refused", "events answered 503: try again") \
    X(processed, "processed", "events that had their effect") \
    X(duplicate, "duplicate", "events whose id had its effect before") \
    X(conflict, "conflict", "duplicates with another payload than the one kept") \
    X(dead, "dead", "events that can never be processed") \
    X(batches, "batches", "batches settled by the workers") \
    X(pauses, "pauses", "times a worker paused because the sink, dedup or store did not answer") \
    X(commits, "commits", "transactions committed by the local store") \
    X(http_requests, "http_requests", "requests answered") \
    X(http_errors, "http_errors", "requests answered with 4xx or 5xx") \
    X(connections_opened, "connections_opened", "connections accepted") \
    X(connections_closed, "connections_closed", "connections closed") \
    X(connections_refused, "connections_refused", "connections closed at once because of the cap")
/* clang-format on */

struct stats {
#define X(field, name, help) _Atomic uint64_t field;
    STATS_MAP(X)
#undef X
};

static inline void
stats_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline uint64_t
stats_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
