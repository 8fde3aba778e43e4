/* bench.c - weir bench: puts load on an API and measures it.
 * With --end-to-end it also asks /stats before and after, and waits until every event that was
 * accepted has been processed (or found a duplicate, or dead). */
#include "cmd/cmd.h"

#include "clock.h"
#include "cmd/args.h"
#include "cmd/bench_load.h"
#include "cmd/bench_report.h"
#include "cmd/client.h"
#include "cmd/print.h"
#include "cmd/scan.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 5
#define SETTLE_MAX_NS 120000000000 /* without any progress */

static const char usage[] =
    "weir bench URL [--connections C] [--batch B] [--rate R] [--duration TIME] ...\n"
    "\n"
    "Sends events to an API (http://host:port or unix:/path) and measures its answers.\n"
    "\n"
    "  --connections C   kept connections (64)\n"
    "  --batch B         events a request; more than one travel as NDJSON (1)\n"
    "  --rate R          requests a second, sent at fixed times whatever the API does, latency\n"
    "                    counted from those times; without it each connection sends again as\n"
    "                    soon as it was answered\n"
    "  --duration TIME   how long to send (10s)\n"
    "  --warmup TIME     send for this long before, without measuring (0s)\n"
    "  --payload BYTES   size of an event's payload (25)\n"
    "  --ids random|sequential  ids spread like UUIDs, or growing (random)\n"
    "  --end-to-end      wait until what was accepted is stored, and count that time\n"
    "  --get PATH        GET this path instead of posting events\n"
    "  --idle            only hold the connections open\n"
    "  --json            print one JSON object\n"
    "  --allow-remote    load another machine than this one\n";

struct bench_flags {
    int64_t connections;
    int64_t batch;
    int64_t rate;
    int64_t duration_ms;
    int64_t warmup_ms;
    int64_t payload;
    const char *ids;
    const char *get;
    bool end_to_end;
    bool idle;
    bool json;
    bool allow_remote;
};

static bool
is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)a;
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
    const struct sockaddr_in6 *v6 = (const void *)a;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* Splits "host:port" and "[v6]:port"; port 80 where there is none. */
static bool
split_host(const char *text, char host[256], char port[8])
{
    size_t len = strcspn(text, "/");
    const char *colon = NULL;
    bool bracket = text[0] == '[';
    const char *close = bracket ? memchr(text, ']', len) : NULL;
    if (bracket && close == NULL) {
        return false;
    }
    colon = memchr(bracket ? close : text, ':', len - (size_t)(bracket ? close - text : 0));
    size_t name = colon != NULL ? (size_t)(colon - text) : len;
    size_t digits = colon != NULL ? len - name - 1 : 0;
    if (name >= 256 || name < 1 || digits >= 8 || (text[len] == '/' && text[len + 1] != '\0')) {
        return false;
    }
    snprintf(host, 256, "%.*s", (int)name - 2 * bracket, text + bracket);
    snprintf(port, 8, "%.*s", digits > 0 ? (int)digits : 2, digits > 0 ? colon + 1 : "80");
    return true;
}

static bool
answers(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected = fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return connected;
}

/* A name such as localhost has several addresses: the first where somebody listens. */
static const struct addrinfo *
choose(const struct addrinfo *found, bool allow_remote)
{
    const struct addrinfo *first = NULL;
    for (const struct addrinfo *a = found; a != NULL; a = a->ai_next) {
        if (!allow_remote && !is_loopback(a->ai_addr)) {
            continue;
        }
        if (answers(a)) {
            return a;
        }
        first = first == NULL ? a : first;
    }
    return first;
}

static bool
resolve(struct load_target *t, const char *url, bool allow_remote)
{
    char host[256], port[8];
    if (strncmp(url, "http://", 7) != 0 || !split_host(url + 7, host, port)) {
        fprintf(stderr, "weir: %s: expected http://host:port or unix:/path\n", url);
        return false;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0) {
        fprintf(stderr, "weir: %s: %s\n", url, gai_strerror(error));
        return false;
    }
    const struct addrinfo *chosen = choose(found, allow_remote);
    if (chosen != NULL) {
        memcpy(&t->address, chosen->ai_addr, chosen->ai_addrlen);
        snprintf(t->host, sizeof t->host, "%.*s", (int)strcspn(url + 7, "/"), url + 7);
    } else {
        fprintf(stderr, "weir: %s is another machine: loading it needs --allow-remote\n", url);
    }
    freeaddrinfo(found);
    return chosen != NULL;
}

static bool
find_target(struct load_target *t, const char *url, bool allow_remote)
{
    if (strncmp(url, "unix:/", 6) != 0) {
        return resolve(t, url, allow_remote);
    }
    if (strlen(url + 5) >= sizeof t->path) {
        fprintf(stderr, "weir: %s: a socket's path has at most %zu bytes\n", url,
                sizeof t->path - 1);
        return false;
    }
    t->address.ss_family = AF_UNIX;
    snprintf(t->path, sizeof t->path, "%s", url + 5);
    snprintf(t->host, sizeof t->host, "localhost");
    return true;
}

/* Each connection is an open file; the soft limit is often 1 024. */
static void
allow_files(unsigned wanted)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted + 64) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
            perror("weir: more open files");
        }
    }
}

static uint64_t
random_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        seed = (uint64_t)clock_wall_ms() << 20;
    }
    return seed;
}

/* processed + duplicate + dead, and what is on its way there, as /stats has it. */
static enum err
ask_settled(struct client *c, struct client_answer *a, uint64_t *settled, uint64_t *waiting)
{
    enum err e = client_get(c, a, "/stats");
    if (e != OK || a->status != 200) {
        client_print_problem("/stats", a);
        return e != OK ? e : ERR_UNAVAILABLE;
    }
    struct span stats = buf_span(&a->body);
    *settled = scan_count(scan_member(stats, "processed")) +
               scan_count(scan_member(stats, "duplicate")) + scan_count(scan_member(stats, "dead"));
    *waiting = scan_count(scan_member(scan_member(stats, "queue"), "depth"));
    return OK;
}

static enum err
wait_settled(struct client *c, struct client_answer *a, uint64_t before, uint64_t wanted,
             struct bench_stored *stored)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
    int64_t progress_ns = clock_mono_ns();
    for (;;) {
        uint64_t settled, waiting;
        enum err e = ask_settled(c, a, &settled, &waiting);
        if (e != OK) {
            return e;
        }
        int64_t now = clock_mono_ns();
        uint64_t ours = settled > before ? settled - before : 0;
        if (ours != stored->settled) {
            progress_ns = now;
            stored->settled = ours;
        }
        if (stored->settled >= wanted) {
            stored->complete = true;
            return OK;
        }
        if (now - progress_ns > SETTLE_MAX_NS) {
            return OK;
        }
        nanosleep(&pause, NULL);
    }
}

/* One load, and with end_to_end the wait for what it brought. */
static enum err
measure(const char *url, const struct load_plan *plan, bool end_to_end, struct load_result *result,
        struct bench_stored *stored)
{
    struct client *c = NULL;
    struct client_answer a = {0};
    char why[LOAD_WHY_MAX] = "";
    uint64_t before = 0, waiting = 0;
    *stored = (struct bench_stored){.asked = end_to_end};
    enum err e = client_open(&c, url, why);
    if (e == OK && end_to_end) {
        e = ask_settled(c, &a, &before, &waiting);
    }
    if (e == OK) {
        e = load_run(result, plan, why);
    }
    if (why[0] != '\0') {
        fprintf(stderr, "weir: %s: %s\n", url, why);
    }
    if (e == OK && end_to_end) {
        e = wait_settled(c, &a, before + waiting, result->accepted, stored);
        int64_t now = clock_mono_ns();
        stored->total_ns = now - result->began_ns;
        stored->rest_ns = now - result->ended_ns;
    }
    client_answer_fini(&a);
    client_close(c);
    return e;
}

static int
bench(const char *url, const struct bench_flags *flags, struct load_plan *plan)
{
    struct load_result *result = calloc(1, sizeof *result);
    struct bench_stored stored;
    if (result == NULL) {
        fprintf(stderr, "weir: %s\n", err_text(ERR_NOMEM));
        return 1;
    }
    enum err e = OK;
    if (flags->warmup_ms > 0) {
        plan->duration_ms = flags->warmup_ms;
        e = measure(url, plan, flags->end_to_end, result, &stored);
        plan->seed = random_seed();
    }
    if (e == OK) {
        plan->duration_ms = flags->duration_ms;
        e = measure(url, plan, flags->end_to_end, result, &stored);
    }
    if (e == OK) {
        bench_report(plan, result, &stored, url, flags->json);
    }
    bool good =
        e == OK && (!stored.asked || stored.complete) && (plan->idle || result->latency.total > 0);
    free(result);
    return print_end(good ? 0 : 1);
}

static bool
make_plan(struct load_plan *plan, const struct bench_flags *flags, const char *url)
{
    if (strcmp(flags->ids, "random") != 0 && strcmp(flags->ids, "sequential") != 0) {
        fprintf(stderr, "weir: --ids %s: expected random or sequential\n", flags->ids);
        return false;
    }
    if (flags->get != NULL && flags->get[0] != '/') {
        fprintf(stderr, "weir: --get %s: expected a path, such as /livez\n", flags->get);
        return false;
    }
    *plan = (struct load_plan){
        .get = flags->get,
        .post = "/events",
        .connections = (unsigned)flags->connections,
        .batch = (unsigned)flags->batch,
        .rate = (uint64_t)flags->rate,
        .payload_bytes = (uint64_t)flags->payload,
        .seed = random_seed(),
        .sequential = strcmp(flags->ids, "sequential") == 0,
        .idle = flags->idle,
    };
    return find_target(&plan->target, url, flags->allow_remote);
}

int
cmd_bench(int argc, char **argv, char *const *envp)
{
    (void)envp;
    struct bench_flags flags = {
        .connections = 64, .batch = 1, .duration_ms = 10000, .ids = "random"};
    const struct arg table[] = {
        {"--connections", ARG_COUNT, &flags.connections, 1, LOAD_CONNECTIONS_MAX},
        {"--batch", ARG_COUNT, &flags.batch, 1, 100000},
        {"--rate", ARG_COUNT, &flags.rate, 1, 10000000},
        {"--duration", ARG_TIME, &flags.duration_ms, 1, 86400000},
        {"--warmup", ARG_TIME, &flags.warmup_ms, 0, 86400000},
        {"--payload", ARG_COUNT, &flags.payload, 14, 16 * 1024 * 1024},
        {"--ids", ARG_TEXT, &flags.ids, 0, 0},
        {"--get", ARG_TEXT, &flags.get, 0, 0},
        {"--end-to-end", ARG_SWITCH, &flags.end_to_end, 0, 0},
        {"--idle", ARG_SWITCH, &flags.idle, 0, 0},
        {"--json", ARG_SWITCH, &flags.json, 0, 0},
        {"--allow-remote", ARG_SWITCH, &flags.allow_remote, 0, 0},
        {0},
    };
    enum args_result r = args_take(table, usage, &argc, argv);
    if (r != ARGS_OK) {
        return args_exit(r);
    }
    if (argc != 1) {
        fprintf(stderr, "weir: expected the URL of an API, such as " CLIENT_URL "\n");
        return 2;
    }
    struct load_plan plan;
    if (!make_plan(&plan, &flags, argv[0])) {
        return 2;
    }
    allow_files(plan.connections);
    return bench(argv[0], &flags, &plan);
}
