/* bench_load.h - puts load on an HTTP server over kept connections and measures its answers.
 * Contract: closed loop (rate 0): every connection sends again as soon as it was answered. Open
 *           loop: requests are due at fixed times, whatever the server does, and latency counts
 *           from when a request was due, not from when a connection was free to send it. Every
 *           event has an id of its own. A request is sent once: failures are counted.
 * Threads:  runs in the caller's thread until it is over.
 * Bounds:   LOAD_CONNECTIONS_MAX; 64 KiB to read for all of them together. */
#ifndef WEIR_BENCH_LOAD_H
#define WEIR_BENCH_LOAD_H

#include "buf.h"
#include "cmd/histogram.h"
#include "err.h"

#include <stdbool.h>
#include <sys/socket.h>

#define LOAD_CONNECTIONS_MAX 100000
#define LOAD_STATUS_MAX 600
#define LOAD_WHY_MAX 256

struct load_target {
    struct sockaddr_storage address; /* AF_UNIX: only `path` counts */
    char path[108];
    char host[300]; /* for the Host field */
};

struct load_plan {
    struct load_target target;
    const char *get;  /* GET this path instead of posting events; or NULL */
    const char *post; /* the path that takes events */
    unsigned connections;
    unsigned batch; /* events a request */
    uint64_t rate;  /* requests a second; 0: closed loop */
    int64_t duration_ms;
    uint64_t payload_bytes;
    uint64_t seed;   /* another seed, other ids */
    bool sequential; /* ids that grow, instead of ids that are spread like UUIDs */
    bool idle;       /* only hold the connections open */
};

struct load_result {
    uint64_t answers;  /* requests that were answered, with whatever status */
    uint64_t accepted; /* events in answers of 2xx, as the server counted them */
    uint64_t rejected;
    uint64_t unsent;     /* open loop: due, but not sent before the end */
    uint64_t unanswered; /* still open when we stopped waiting */
    uint64_t connect_errors;
    uint64_t broken; /* connections lost with a request on them, or answers not understood */
    uint64_t closed; /* connections that the server closed while they were idle */
    uint64_t status[LOAD_STATUS_MAX];
    int64_t began_ns;         /* clock_mono_ns */
    int64_t ended_ns;         /* of the last answer */
    int64_t cpu_ns;           /* that the load itself cost, in user and kernel */
    struct histogram latency; /* of answers with 2xx */
};

/* ERR_UNAVAILABLE: not one connection could be made, and *why says why. */
enum err load_run(struct load_result *out, const struct load_plan *plan,
                  char why[LOAD_WHY_MAX]) MUST_CHECK;

#endif
