#include "cmd/bench_report.h"

#include <inttypes.h>
#include <stdio.h>

static const struct {
    const char *name;
    double share;
} shares[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1.0}};
#define N_SHARES (sizeof shares / sizeof shares[0])

static double
seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

static double
per_second(uint64_t n, int64_t ns)
{
    return ns > 0 ? (double)n / seconds(ns) : 0.0;
}

static double
cpu_us(const struct load_result *r)
{
    return r->answers > 0 ? (double)r->cpu_ns / 1e3 / (double)r->answers : 0.0;
}

static int64_t
run_ns(const struct load_result *r)
{
    return r->ended_ns - r->began_ns;
}

static void
print_plan(const struct load_plan *plan, const char *url)
{
    printf("%s  %u connections", url, plan->connections);
    if (plan->idle) {
        printf(", idle\n");
        return;
    }
    if (plan->get != NULL) {
        printf(", GET %s", plan->get);
    } else {
        printf(", %u event%s a request", plan->batch, plan->batch == 1 ? "" : "s");
    }
    if (plan->rate > 0) {
        printf(", open loop at %" PRIu64 " requests/s\n", plan->rate);
    } else {
        printf(", closed loop\n");
    }
}

static void
print_latency(const struct histogram *h)
{
    printf("latency ms  ");
    for (size_t i = 0; i < N_SHARES; i++) {
        printf("%s %.3f  ", shares[i].name, (double)histogram_at(h, shares[i].share) / 1e6);
    }
    printf("\n");
}

static void
print_statuses(const struct load_result *r)
{
    printf("status      ");
    for (int i = 0; i < LOAD_STATUS_MAX; i++) {
        if (r->status[i] > 0) {
            printf("%d: %" PRIu64 "  ", i, r->status[i]);
        }
    }
    printf("\n");
}

static void
print_errors(const struct load_result *r)
{
    printf("errors      connect %" PRIu64 ", broken %" PRIu64 ", closed while idle %" PRIu64
           ", unanswered %" PRIu64 ", unsent %" PRIu64 "\n",
           r->connect_errors, r->broken, r->closed, r->unanswered, r->unsent);
}

static void
print_stored(const struct load_result *r, const struct bench_stored *s)
{
    if (!s->asked) {
        return;
    }
    if (!s->complete) {
        printf("stored      only %" PRIu64 " of %" PRIu64 " before the deadline\n", s->settled,
               r->accepted);
        return;
    }
    printf("stored      %" PRIu64 " in %.3f s  %.0f/s end to end; the rest took %.3f s after the "
           "last answer\n",
           s->settled, seconds(s->total_ns), per_second(r->accepted, s->total_ns),
           seconds(s->rest_ns));
}

static void
print_text(const struct load_plan *plan, const struct load_result *r,
           const struct bench_stored *stored, const char *url)
{
    print_plan(plan, url);
    if (!plan->idle) {
        printf("requests    %" PRIu64 " in %.3f s  %.0f/s  (%.1f us of the bench's own CPU each)\n",
               r->answers, seconds(run_ns(r)), per_second(r->answers, run_ns(r)), cpu_us(r));
        if (plan->get == NULL) {
            printf("events      %" PRIu64 " accepted  %.0f/s, %" PRIu64 " rejected\n", r->accepted,
                   per_second(r->accepted, run_ns(r)), r->rejected);
        }
        print_latency(&r->latency);
        print_statuses(r);
    }
    print_errors(r);
    print_stored(r, stored);
}

static void
print_json(const struct load_plan *plan, const struct load_result *r,
           const struct bench_stored *stored)
{
    const char *comma = "";
    printf("{\"connections\":%u,\"batch\":%u,\"rate\":%" PRIu64 ",\"seconds\":%.6f",
           plan->connections, plan->batch, plan->rate, seconds(run_ns(r)));
    printf(",\"requests\":%" PRIu64 ",\"requests_per_s\":%.1f", r->answers,
           per_second(r->answers, run_ns(r)));
    printf(",\"accepted\":%" PRIu64 ",\"rejected\":%" PRIu64 ",\"events_per_s\":%.1f", r->accepted,
           r->rejected, per_second(r->accepted, run_ns(r)));
    printf(",\"cpu_us_per_request\":%.2f,\"latency_ms\":{", cpu_us(r));
    for (size_t i = 0; i < N_SHARES; i++) {
        printf("%s\"%s\":%.4f", comma, shares[i].name,
               (double)histogram_at(&r->latency, shares[i].share) / 1e6);
        comma = ",";
    }
    printf("},\"status\":{");
    comma = "";
    for (int i = 0; i < LOAD_STATUS_MAX; i++) {
        if (r->status[i] > 0) {
            printf("%s\"%d\":%" PRIu64, comma, i, r->status[i]);
            comma = ",";
        }
    }
    printf("},\"errors\":{\"connect\":%" PRIu64 ",\"broken\":%" PRIu64 ",\"closed\":%" PRIu64
           ",\"unanswered\":%" PRIu64 ",\"unsent\":%" PRIu64 "}",
           r->connect_errors, r->broken, r->closed, r->unanswered, r->unsent);
    if (stored->asked) {
        printf(",\"stored\":{\"complete\":%s,\"events\":%" PRIu64
               ",\"seconds\":%.6f,\"rest_seconds\":%.6f,\"events_per_s\":%.1f}",
               stored->complete ? "true" : "false", stored->settled, seconds(stored->total_ns),
               seconds(stored->rest_ns), per_second(r->accepted, stored->total_ns));
    }
    printf("}\n");
}

void
bench_report(const struct load_plan *plan, const struct load_result *r,
             const struct bench_stored *stored, const char *url, bool json)
{
    if (json) {
        print_json(plan, r, stored);
    } else {
        print_text(plan, r, stored, url);
    }
}
