/* admin.c - what the process says about itself: alive, ready, version, counters, its own routes. */
#include "api/loop.h"
#include "api/problem.h"
#include "api/route.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define STATS_BYTES 8192

static const char openapi[] =
#include "openapi_text.h" /* made from openapi.json at build time */
    ;

static void
reply_json(struct exchange *x, struct span body)
{
    exchange_reply(x, 200, "application/json", body);
}

void
admin_livez(struct exchange *x)
{
    reply_json(x, SPAN("{\"status\":\"ok\"}"));
}

void
admin_version(struct exchange *x)
{
    reply_json(x, SPAN("{\"name\":\"weir\",\"version\":\"" WEIR_VERSION "\"}"));
}

void
admin_openapi(struct exchange *x)
{
    reply_json(x, (struct span){openapi, sizeof openapi - 1});
}

static struct queue_status
ask_queue(const struct exchange *x)
{
    struct queue *queue = x->loop->parts->queue;
    struct queue_status status = {0};
    queue->ops->status(queue, &status);
    return status;
}

/* Ready, and in what way it is weaker than it should be, if it is. */
static void
reply_ready(struct exchange *x, const char *note)
{
    struct buf out;
    buf_init(&out, STATS_BYTES);
    buf_add_text(&out, "{\"status\":\"ready\"");
    if (note != NULL && note[0] != '\0') {
        buf_add_text(&out, ",\"note\":");
        buf_add_json_string(&out, span_of(note));
    }
    buf_add_text(&out, "}");
    if (buf_ok(&out)) {
        reply_json(x, buf_span(&out));
    } else {
        problem_reply_retry(x, "out of memory", 1);
    }
    buf_fini(&out);
}

void
admin_readyz(struct exchange *x)
{
    struct queue_status status = ask_queue(x);
    unsigned retry_after_s = status.retry_after_s > 0 ? status.retry_after_s : 1;
    if (atomic_load(x->loop->draining)) {
        problem_reply_retry(x, "the server is stopping", retry_after_s);
    } else if (!status.ready) {
        problem_reply_retry(x, status.why != NULL ? status.why : "the queue is not ready",
                            retry_after_s);
    } else {
        reply_ready(x, status.why);
    }
}

/* Resident memory; 0 where /proc does not say. */
static size_t
rss_bytes(void)
{
    size_t size = 0;
    size_t resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL) {
        return 0;
    }
    int n = fscanf(f, "%zu %zu", &size, &resident);
    fclose(f);
    return n == 2 ? resident * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

void
admin_stats(struct exchange *x)
{
    const struct api_parts *parts = x->loop->parts;
    struct queue_status status = ask_queue(x);
    struct buf out;
    buf_init(&out, STATS_BYTES);
    buf_add_text(&out, "{");
#define X(field, name, help)                                                                       \
    buf_addf(&out, "\"%s\":%" PRIu64 ",", name, stats_get(&parts->stats->field));
    STATS_MAP(X)
#undef X
    buf_addf(&out,
             "\"queue\":{\"depth\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"oldest_age_ms\":%" PRId64
             ",\"ready\":%s},",
             status.depth, status.bytes, status.oldest_age_ms, status.ready ? "true" : "false");
    buf_addf(&out,
             "\"spool\":{\"depth\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"oldest_age_ms\":%" PRId64
             "},",
             status.spool_depth, status.spool_bytes, status.spool_age_ms);
    buf_addf(&out, "\"uptime_ms\":%" PRId64 ",\"rss_bytes\":%zu}",
             parts->env->mono_ms(parts->env) - x->loop->started_ms, rss_bytes());
    if (buf_ok(&out)) {
        reply_json(x, buf_span(&out));
    } else {
        problem_reply_retry(x, "out of memory", 1);
    }
    buf_fini(&out);
}
