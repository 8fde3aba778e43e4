#include "amqp/amqp_watch.h"

#include "env.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct amqp_watch {
    struct env *env;
    int fd;      /* a duplicate of the socket */
    int stop_fd; /* an eventfd: the end of the watching */
    struct thread thread;
    _Atomic int64_t until_ms; /* monotonic; 0: nothing to watch */
    atomic_bool fired;
};

static void
look(struct amqp_watch *w)
{
    int64_t until_ms = atomic_load(&w->until_ms);
    if (until_ms != 0 && w->env->mono_ms(w->env) > until_ms) {
        atomic_store(&w->fired, true);
        shutdown(w->fd, SHUT_RDWR);
    }
}

static void
run(void *data)
{
    struct amqp_watch *w = data;
    struct pollfd stop = {.fd = w->stop_fd, .events = POLLIN};
    for (;;) {
        int n = poll(&stop, 1, AMQP_WATCH_EVERY_MS);
        if (n > 0 || (n < 0 && errno != EINTR)) {
            return;
        }
        look(w);
    }
}

struct amqp_watch *
amqp_watch_open(struct env *env, int fd)
{
    struct amqp_watch *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return NULL;
    }
    w->env = env;
    w->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    w->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (w->fd < 0 || w->stop_fd < 0 || thread_start(&w->thread, "amqp-watch", run, w) != OK) {
        amqp_watch_close(w);
        return NULL;
    }
    return w;
}

void
amqp_watch_begin(struct amqp_watch *w, int64_t limit_ms)
{
    atomic_store_explicit(&w->until_ms, w->env->mono_ms(w->env) + limit_ms, memory_order_relaxed);
}

void
amqp_watch_end(struct amqp_watch *w)
{
    atomic_store_explicit(&w->until_ms, 0, memory_order_relaxed);
}

bool
amqp_watch_fired(const struct amqp_watch *w)
{
    return atomic_load(&w->fired);
}

void
amqp_watch_close(struct amqp_watch *w)
{
    if (w == NULL) {
        return;
    }
    const uint64_t one = 1;
    if (w->stop_fd >= 0 && write(w->stop_fd, &one, sizeof one) == (ssize_t)sizeof one) {
        thread_join(&w->thread);
    }
    if (w->stop_fd >= 0) {
        close(w->stop_fd);
    }
    if (w->fd >= 0) {
        close(w->fd);
    }
    free(w);
}
