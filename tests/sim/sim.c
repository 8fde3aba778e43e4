#include "sim.h"

#include "buf.h"
#include "dedup/dedup.h"
#include "sink/sink.h"
#include "worker/deliver.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DEFAULT_SEED 20260203

uint64_t
sim_seed(void)
{
    static bool said;
    const char *text = getenv("WEIR_SIM_SEED");
    uint64_t seed = text == NULL ? DEFAULT_SEED : strtoull(text, NULL, 10);
    if (!said) {
        print_message("WEIR_SIM_SEED=%llu\n", (unsigned long long)seed);
        said = true;
    }
    return seed;
}

uint64_t
sim_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static unsigned
below(struct sim *s, unsigned bound)
{
    return (unsigned)(sim_random(&s->random) % bound);
}

void
sim_init(struct sim *s, const struct sim_plan *plan)
{
    *s = (struct sim){.plan = *plan, .random = plan->seed};
    /* In memory where that is possible: a killed process leaves its page cache behind, so the disk
     * plays no part here, and a lost power is played by lossy.c. */
    kit_open_in(&s->kit, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
}

void
sim_fini(struct sim *s)
{
    kit_close(&s->kit);
}

void
sim_path(const struct sim *s, char *out, size_t size, const char *name)
{
    snprintf(out, size, "%s/%s", s->kit.folder, name);
}

/* --- the parts --- */

/* The local queue as if it were elsewhere: what it gives is not joined. */
struct apart_consumer {
    struct consumer base;
    struct consumer *inner;
};

static struct consumer *
inner(struct consumer *c)
{
    return ((struct apart_consumer *)c)->inner;
}

static enum err
apart_take(struct consumer *c, struct batch *b, int wait_ms)
{
    enum err e = inner(c)->ops->take(inner(c), b, wait_ms);
    b->joined = false;
    return e;
}

static enum err
apart_settle(struct consumer *c, struct batch *b)
{
    return inner(c)->ops->settle(inner(c), b);
}

static void
apart_idle(struct consumer *c)
{
    inner(c)->ops->idle(inner(c));
}

static void
apart_stop(struct consumer *c)
{
    inner(c)->ops->stop(inner(c));
}

static void
apart_close(struct consumer *c)
{
    inner(c)->ops->close(inner(c));
    free(c);
}

static struct consumer *
set_apart(struct consumer *local)
{
    static const struct consumer_ops ops = {
        .name = "apart",
        .take = apart_take,
        .settle = apart_settle,
        .idle = apart_idle,
        .stop = apart_stop,
        .close = apart_close,
    };
    struct apart_consumer *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->base.ops = &ops;
    c->inner = local;
    return &c->base;
}

void
sim_open(struct sim *s)
{
    char path[128];
    char why[256] = "";
    bool log_mode = s->plan.mode == SIM_LOG;
    kit_open_store(&s->kit);
    assert_int_equal(queue_local_open(&s->queue, s->kit.store), OK);
    assert_int_equal(consumer_local_open(&s->consumer, s->kit.store), OK);
    assert_int_equal(dedup_local_open(&s->dedup, s->kit.store, !log_mode), OK);
    if (log_mode) {
        sim_path(s, path, sizeof path, "effects");
        assert_int_equal(sink_log_open(&s->sink, path, &s->kit.env, why, sizeof why), OK);
    } else {
        assert_int_equal(sink_local_open(&s->sink, s->kit.store), OK);
    }
    if (s->plan.mode == SIM_APART) {
        s->consumer = set_apart(s->consumer);
    }
}

void
sim_close(struct sim *s)
{
    s->sink->ops->close(s->sink);
    s->dedup->ops->close(s->dedup);
    s->consumer->ops->close(s->consumer);
    s->queue->ops->close(s->queue);
    kit_close_store(&s->kit);
}

/* --- publishing --- */

/* One write(2) a line: what was noted outlives the process. */
static void
note(struct sim *s, char what, unsigned id, unsigned number)
{
    char path[128];
    char line[64];
    sim_path(s, path, sizeof path, "books");
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int len = snprintf(line, sizeof line, "%c %u %u\n", what, id, number);
    assert_int_equal(write(fd, line, (size_t)len), len);
    close(fd);
}

struct parcel {
    size_t n;
    unsigned id[4];
    unsigned number[4];
    unsigned padding[4];
};

static struct event *
parcel_event(const struct parcel *p, size_t i)
{
    char id[32];
    snprintf(id, sizeof id, "id-%u", p->id[i]);
    struct buf payload;
    buf_init(&payload, 0);
    buf_addf(&payload, "{\"n\":%u,\"pad\":\"%*s\"}", p->number[i], (int)p->padding[i], "");
    buf_add(&payload, "", 1);
    struct event *ev = kit_event(id, payload.at);
    buf_fini(&payload);
    return ev;
}

/* As a client does: the same request again until it is acknowledged. */
static void
publish_until_acknowledged(struct sim *s, const struct parcel *p)
{
    for (size_t i = 0; i < p->n; i++) {
        note(s, 'i', p->id[i], p->number[i]);
        if (s->plan.acks_early) {
            note(s, 'a', p->id[i], p->number[i]);
        }
    }
    enum err e = ERR_BUSY;
    int64_t until_ms = s->kit.env.mono_ms(&s->kit.env) + KIT_DEADLINE_MS;
    while (e != OK && s->kit.env.mono_ms(&s->kit.env) < until_ms) {
        struct mail_list list = {0};
        for (size_t i = 0; i < p->n; i++) {
            mail_list_add(&list, &parcel_event(p, i)->mail);
        }
        e = kit_publish_list(s->queue, &list);
    }
    assert_int_equal(e, OK);
    for (size_t i = 0; i < p->n; i++) {
        note(s, 'a', p->id[i], p->number[i]);
    }
}

/* One to three events; one in three has an id that was used before. */
static void
publish_some(struct sim *s)
{
    struct parcel p = {.n = 1 + below(s, 3)};
    for (size_t i = 0; i < p.n; i++) {
        bool again = s->ids > 0 && below(s, 3) == 0;
        p.id[i] = again ? below(s, s->ids) : s->ids++;
        p.number[i] = s->published++;
        p.padding[i] = s->plan.payload_bytes == 0 ? 0 : below(s, s->plan.payload_bytes);
    }
    publish_until_acknowledged(s, &p);
}

/* --- delivering --- */

static enum err
deliver_wrongly(const struct deliver_parts *parts, struct batch *b)
{
    kit_decide(b, EVENT_PROCESSED);
    enum err e = parts->consumer->ops->settle(parts->consumer, b);
    for (size_t i = 0; i < b->n; i++) {
        b->item[i].state = EVENT_PROCESSING;
    }
    if (e == OK) {
        e = parts->env->fault(parts->env, "deliver.wrongly");
    }
    return e != OK ? e : parts->sink->ops->write(parts->sink, b);
}

/* Takes a batch if one is there, and delivers it as the worker does: again after a failure. */
static void
deliver_one_batch(struct sim *s, int wait_ms)
{
    const struct deliver_parts parts = {&s->kit.env, s->consumer, s->dedup, s->sink};
    struct batch b;
    assert_int_equal(batch_init(&b, 1 + below(s, 5)), OK);
    assert_int_equal(s->consumer->ops->take(s->consumer, &b, wait_ms), OK);
    int64_t until_ms = s->kit.env.mono_ms(&s->kit.env) + KIT_DEADLINE_MS;
    enum err e = b.n == 0 ? OK : ERR_BUSY;
    while (e != OK && s->kit.env.mono_ms(&s->kit.env) < until_ms) {
        e = s->plan.settles_first ? deliver_wrongly(&parts, &b) : deliver(&parts, &b);
        assert_true(e == OK || err_fate(e) == FATE_RETRY);
    }
    assert_int_equal(e, OK);
    batch_fini(&b);
}

void
sim_deliver_all(struct sim *s)
{
    int64_t until_ms = s->kit.env.mono_ms(&s->kit.env) + KIT_DEADLINE_MS;
    while (kit_depth(s->queue) > 0 && s->kit.env.mono_ms(&s->kit.env) < until_ms) {
        deliver_one_batch(s, 20);
    }
}

void
sim_work(struct sim *s)
{
    for (unsigned i = 0; i < s->plan.requests; i++) {
        publish_some(s);
        if (below(s, 2) == 0) {
            deliver_one_batch(s, 20);
        }
    }
    sim_deliver_all(s);
}

int
sim_run_child(struct sim *s, void (*prepare)(struct sim *s, void *data), void *data)
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failed assertion must not go on as the parent */
        s->kit.fatal_exits = true;
        prepare(s, data);
        sim_open(s);
        sim_work(s);
        sim_close(s);
        kit_end_process(atomic_load(&s->kit.fault_fired) ? SIM_SURVIVED : 0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status)) {
        fail_msg("seed %llu: the child died of signal %d", (unsigned long long)s->plan.seed,
                 WTERMSIG(status));
    }
    return WEXITSTATUS(status);
}
