#include "cmd/bench_load.h"

#include "clock.h"
#include "cmd/bench_link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define CONNECTING_MAX 64 /* at once: more overflow the server's backlog, and wait a second */
#define TICK_MS 20
#define LINGER_NS 10000000000 /* wait for the last answers */
#define CONNECT_NS 20000000000

enum phase { PHASE_CONNECT, PHASE_RUN, PHASE_LINGER, PHASE_OVER };

struct load {
    struct link_shared shared;
    const struct load_plan *plan;
    struct load_result *out;
    enum phase phase;
    struct link *links;
    struct link idle; /* head of a ring */
    unsigned tried;   /* links that were told to connect */
    unsigned connecting;
    unsigned open;
    unsigned busy;
    int connect_error; /* the last, of libuv */
    int64_t phase_ns;  /* when the phase began */
    int64_t end_ns;    /* of sending */
    uint64_t sent;
    int64_t cpu_began_ns;
    uv_timer_t tick;
    uv_poll_t pacer; /* open loop: a timerfd, because libuv's timers count in milliseconds */
    int pacer_fd;
    bool pacer_armed;
};

static int64_t
cpu_ns(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0) {
        return 0;
    }
    return ((int64_t)u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 +
           ((int64_t)u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static void
idle_add(struct load *d, struct link *l)
{
    l->prev = d->idle.prev;
    l->next = &d->idle;
    l->prev->next = l;
    d->idle.prev = l;
}

static void
idle_remove(struct link *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->prev = l->next = l;
}

static void
send_on(struct load *d, struct link *l, int64_t due_ns)
{
    idle_remove(l);
    d->busy++;
    d->sent++;
    link_send(l, due_ns);
}

static int64_t
due_ns(const struct load *d, uint64_t n)
{
    return d->out->began_ns + (int64_t)((double)n * 1e9 / (double)d->plan->rate);
}

static void
arm_pacer(struct load *d, int64_t at_ns)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000}};
    if (timerfd_settime(d->pacer_fd, TFD_TIMER_ABSTIME, &when, NULL) == 0) {
        d->pacer_armed = true;
    }
}

/* Sends what is due, as far as connections are free, and sets the clock for the next. */
static void
pump_open_loop(struct load *d, int64_t now)
{
    int64_t due = due_ns(d, d->sent);
    while (due <= now && d->idle.next != &d->idle) {
        send_on(d, d->idle.next, due);
        due = due_ns(d, d->sent);
    }
    if (!d->pacer_armed && d->idle.next != &d->idle && due < d->end_ns) {
        arm_pacer(d, due);
    }
}

/* Puts idle connections to work. */
static void
pump(struct load *d, int64_t now)
{
    if (d->phase != PHASE_RUN || d->plan->idle || now >= d->end_ns) {
        return;
    }
    if (d->plan->rate > 0) {
        pump_open_loop(d, now);
        return;
    }
    while (d->idle.next != &d->idle) {
        send_on(d, d->idle.next, now);
    }
}

static void
on_pacer(uv_poll_t *poll, int status, int events)
{
    struct load *d = poll->data;
    uint64_t fired;
    (void)status;
    (void)events;
    if (read(d->pacer_fd, &fired, sizeof fired) == (ssize_t)sizeof fired) {
        d->pacer_armed = false;
        pump(d, clock_mono_ns());
    }
}

static void
begin_run(struct load *d)
{
    d->phase = PHASE_RUN;
    d->cpu_began_ns = cpu_ns();
    d->phase_ns = d->out->began_ns = d->out->ended_ns = clock_mono_ns();
    d->end_ns = d->phase_ns + d->plan->duration_ms * 1000000;
    pump(d, d->phase_ns);
}

static void
connect_more(struct load *d)
{
    while (d->tried < d->plan->connections && d->connecting < CONNECTING_MAX) {
        d->connecting++;
        link_open(&d->links[d->tried++]);
    }
    if (d->phase == PHASE_CONNECT && d->tried == d->plan->connections && d->connecting == 0) {
        if (d->open > 0) {
            begin_run(d);
        } else {
            d->phase = PHASE_OVER;
            uv_stop(&d->shared.loop);
        }
    }
}

static void
on_open(struct link *l)
{
    struct load *d = l->owner;
    d->open++;
    d->connecting--;
    idle_add(d, l);
    connect_more(d);
    pump(d, clock_mono_ns());
}

static void
on_refused(struct link *l, int uv_error)
{
    struct load *d = l->owner;
    d->connecting--;
    d->connect_error = uv_error;
    d->out->connect_errors++;
}

static void
count_answer(struct load *d, const struct link_answer *a, int64_t now)
{
    struct load_result *out = d->out;
    unsigned events = d->shared.request.events;
    out->answers++;
    out->status[a->status]++;
    out->ended_ns = now;
    if (a->status >= 300) {
        return;
    }
    uint64_t accepted = a->accepted < 0 ? events : (uint64_t)a->accepted;
    out->accepted += accepted;
    out->rejected += events - accepted;
    histogram_add(&out->latency, now - a->due_ns);
}

static void
on_answer(struct link *l, const struct link_answer *a)
{
    struct load *d = l->owner;
    int64_t now = clock_mono_ns();
    d->busy--;
    count_answer(d, a, now);
    idle_add(d, l);
    pump(d, now);
}

static void
on_lost(struct link *l, bool busy)
{
    struct load *d = l->owner;
    d->open--;
    if (busy) {
        d->busy--;
        d->out->broken++;
    } else {
        idle_remove(l);
        d->out->closed++;
    }
}

static const struct link_events load_events = {on_open, on_refused, on_answer, on_lost};

static void
go_over(struct load *d)
{
    struct load_result *out = d->out;
    out->unanswered = d->busy;
    out->cpu_ns = cpu_ns() - d->cpu_began_ns;
    if (d->plan->rate > 0) {
        uint64_t wanted = d->plan->rate * (uint64_t)d->plan->duration_ms / 1000;
        out->unsent = wanted > d->sent ? wanted - d->sent : 0;
    }
    d->phase = PHASE_OVER;
    uv_stop(&d->shared.loop);
}

static void
open_again(struct load *d)
{
    for (unsigned i = 0; i < d->tried && d->connecting < CONNECTING_MAX; i++) {
        if (d->links[i].state == LINK_CLOSED) {
            d->connecting++;
            link_open(&d->links[i]);
        }
    }
}

static void
on_tick(uv_timer_t *tick)
{
    struct load *d = tick->data;
    int64_t now = clock_mono_ns();
    switch (d->phase) {
    case PHASE_CONNECT:
        connect_more(d);
        if (d->phase == PHASE_CONNECT && now - d->phase_ns > CONNECT_NS) {
            d->connect_error = d->connect_error != 0 ? d->connect_error : UV_ETIMEDOUT;
            d->open = 0;
            go_over(d);
        }
        break;
    case PHASE_RUN:
        if (now >= d->end_ns) {
            d->phase = PHASE_LINGER;
        } else if (!d->plan->idle) {
            open_again(d);
        }
        break;
    case PHASE_LINGER:
        if (d->busy == 0 || now - d->end_ns > LINGER_NS) {
            go_over(d);
        }
        break;
    case PHASE_OVER:
        break;
    }
}

static enum err
load_open(struct load *d)
{
    d->pacer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    d->links = calloc(d->plan->connections, sizeof *d->links);
    if (d->pacer_fd < 0 || d->links == NULL || request_init(&d->shared.request, d->plan) != OK) {
        return ERR_NOMEM;
    }
    for (unsigned i = 0; i < d->plan->connections; i++) {
        link_init(&d->links[i], &d->shared, d);
    }
    uv_timer_init(&d->shared.loop, &d->tick);
    d->tick.data = d;
    int error = uv_poll_init(&d->shared.loop, &d->pacer, d->pacer_fd);
    if (error == 0) {
        d->pacer.data = d;
        error = uv_poll_start(&d->pacer, UV_READABLE, on_pacer);
    }
    if (error == 0) {
        error = uv_timer_start(&d->tick, on_tick, 0, TICK_MS);
    }
    return error == 0 ? OK : ERR_NOMEM;
}

static void
close_handle(uv_handle_t *handle, void *data)
{
    (void)data;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void
load_close(struct load *d)
{
    for (unsigned i = 0; d->links != NULL && i < d->plan->connections; i++) {
        if (d->links[i].shared != NULL) {
            link_close(&d->links[i]);
        }
    }
    uv_walk(&d->shared.loop, close_handle, NULL);
    uv_run(&d->shared.loop, UV_RUN_DEFAULT);
    for (unsigned i = 0; d->links != NULL && i < d->plan->connections; i++) {
        if (d->links[i].shared != NULL) {
            link_fini(&d->links[i]);
        }
    }
    uv_loop_close(&d->shared.loop);
    if (d->pacer_fd >= 0) {
        close(d->pacer_fd);
    }
    request_fini(&d->shared.request);
    free(d->links);
    free(d);
}

enum err
load_run(struct load_result *out, const struct load_plan *plan, char why[LOAD_WHY_MAX])
{
    memset(out, 0, sizeof *out);
    struct load *d = calloc(1, sizeof *d);
    if (d == NULL || uv_loop_init(&d->shared.loop) != 0) {
        free(d);
        snprintf(why, LOAD_WHY_MAX, "%s", err_text(ERR_NOMEM));
        return ERR_NOMEM;
    }
    d->shared.target = &plan->target;
    d->shared.events = &load_events;
    d->plan = plan;
    d->out = out;
    d->pacer_fd = -1;
    d->idle.prev = d->idle.next = &d->idle;
    d->phase_ns = clock_mono_ns();
    enum err e = load_open(d);
    if (e == OK) {
        connect_more(d);
        uv_run(&d->shared.loop, UV_RUN_DEFAULT);
        if (out->began_ns == 0) {
            snprintf(why, LOAD_WHY_MAX, "%s", uv_strerror(d->connect_error));
            e = ERR_UNAVAILABLE;
        }
    } else {
        snprintf(why, LOAD_WHY_MAX, "%s", err_text(e));
    }
    load_close(d);
    return e;
}
