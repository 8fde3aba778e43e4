/* sink_log.c - JSON lines, one an event, to a file or to standard output.
 *
 * A line is written before write() answers OK, and synced where there is something to sync (a
 * regular file). There is no unique key: a batch that is given again is written again.
 *
 * 1. A file holds whole lines only. What a failed write left behind is cut off again; what a crash
 *    left behind is ended by a newline at the next open.
 * 2. Workers, each with its own sink on the same file, take turns: the file is locked (flock, on
 *    the open file) from the first byte of a batch to the last, so that cutting off the tail
 *    never takes another's lines.
 * 3. A failed sync is ERR_IO: what the disk holds is unknown, and only a restart reads it anew. */
#include "sink/sink.h"

#include "buf.h"
#include "clock.h"
#include "env.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_BYTES ((size_t)64 * 1024) /* lines are gathered to about this before a write(2) */
#define STALL_MS 5000                   /* a reader that takes nothing for so long is away */

struct sink_log {
    struct sink base;
    struct env *env;
    struct buf lines;
    int fd;
    bool regular; /* can be synced and cut */
    bool shared;  /* other workers' descriptors are this one: no lock can tell us apart */
    bool torn;    /* half a line stands at the end and could not be cut off */
};

static enum err
err_of(int code)
{
    switch (code) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return ERR_DISK_FULL;
    case EPIPE:
    case ECONNRESET:
        return ERR_UNAVAILABLE;
    case ENOMEM:
    case ENOBUFS:
        return ERR_NOMEM;
    default:
        return ERR_IO;
    }
}

static enum err
lock(struct sink_log *s)
{
    int rc = s->shared ? 0 : flock(s->fd, LOCK_EX);
    while (rc != 0 && errno == EINTR) {
        rc = flock(s->fd, LOCK_EX);
    }
    return rc == 0 ? OK : ERR_IO;
}

static void
unlock(struct sink_log *s)
{
    if (!s->shared) {
        (void)flock(s->fd, LOCK_UN); /* cannot fail on a descriptor that holds the lock */
    }
}

/* A pipe or terminal whose reader is slow. */
static enum err
wait_writable(struct sink_log *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLOUT};
    int rc = poll(&p, 1, STALL_MS);
    if (rc == 0) {
        return ERR_UNAVAILABLE;
    }
    return rc > 0 || errno == EINTR ? OK : ERR_IO;
}

/* All bytes, or an error and then any part of them. *written counts. */
static enum err
write_all(struct sink_log *s, struct span bytes, size_t *written)
{
    *written = 0;
    while (*written < bytes.len) {
        ssize_t n = write(s->fd, bytes.at + *written, bytes.len - *written);
        if (n > 0) {
            *written += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            enum err e = wait_writable(s);
            if (e != OK) {
                return e;
            }
        } else if (n == 0 || errno != EINTR) {
            return n == 0 ? ERR_IO : err_of(errno);
        }
    }
    return OK;
}

static void
add_line(struct sink_log *s, const struct event *ev)
{
    char at[CLOCK_RFC3339_MAX];
    char extra[CLOCK_RFC3339_MAX + 32];
    clock_format_rfc3339(at, ev->accepted_ms);
    snprintf(extra, sizeof extra, ",\"accepted_at\":\"%s\"", at);
    event_write_json_line(&s->lines, ev, span_of(extra));
}

/* Writes what was gathered. A line that a pipe took half of is ended before anything else. */
static enum err
flush_lines(struct sink_log *s)
{
    if (!buf_ok(&s->lines)) {
        return ERR_NOMEM;
    }
    size_t written = 0;
    if (s->torn) {
        enum err e = write_all(s, SPAN("\n"), &written);
        if (e != OK) {
            return e;
        }
        s->torn = false;
    }
    struct span bytes = buf_span(&s->lines);
    enum err e = write_all(s, bytes, &written);
    s->torn = written > 0 && bytes.at[written - 1] != '\n';
    buf_reset(&s->lines);
    return e;
}

static enum err
write_batch(struct sink_log *s, const struct batch *b)
{
    buf_reset(&s->lines);
    enum err e = s->env->fault(s->env, "sink_log.write");
    for (size_t i = 0; e == OK && i < b->n; i++) {
        if (b->item[i].state != EVENT_PROCESSING) {
            continue;
        }
        add_line(s, b->item[i].ev);
        if (s->lines.len >= CHUNK_BYTES || !buf_ok(&s->lines)) {
            e = flush_lines(s);
        }
    }
    return e != OK || s->lines.len == 0 ? e : flush_lines(s);
}

/* Back to the length before the batch. Where that fails, the torn line is ended later. */
static void
cut_off(struct sink_log *s, off_t length)
{
    if (ftruncate(s->fd, length) == 0) {
        s->torn = false;
    } else {
        log_warn(s->env->log, "sink.log.cut", "errno=%d", errno);
    }
}

static enum err
write_locked(struct sink_log *s, const struct batch *b)
{
    struct stat st = {0};
    if (s->regular && fstat(s->fd, &st) != 0) {
        return ERR_IO;
    }
    enum err e = write_batch(s, b);
    if (e != OK && s->regular) {
        cut_off(s, st.st_size);
    }
    return e;
}

static enum err
sync_file(struct sink_log *s)
{
    enum err e = s->env->fault(s->env, "sink_log.sync");
    if (e == OK && s->regular && fdatasync(s->fd) != 0) {
        log_error(s->env->log, "sink.log.sync", "errno=%d", errno);
        e = ERR_IO;
    }
    return e;
}

static enum err
log_sink_write(struct sink *sink, struct batch *b)
{
    struct sink_log *s = (struct sink_log *)sink;
    enum err e = lock(s);
    if (e != OK) {
        return e;
    }
    e = write_locked(s, b);
    unlock(s);
    return e != OK ? e : sync_file(s);
}

static void
log_sink_close(struct sink *sink)
{
    struct sink_log *s = (struct sink_log *)sink;
    if (s == NULL) {
        return;
    }
    if (s->fd >= 0) {
        close(s->fd);
    }
    buf_fini(&s->lines);
    free(s);
}

/* The name of a new file must survive a power loss as its lines do. */
static bool
sync_folder(const char *path)
{
    char *copy = strdup(path);
    int fd = copy == NULL ? -1 : open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    free(copy);
    return ok;
}

/* O_NONBLOCK: opening a pipe that nobody reads must fail, not wait; a regular file ignores it. */
static int
open_path(const char *path, int more)
{
    return open(path, more | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
}

/* A descriptor of our own for standard output can be locked against the other workers. It appends,
 * and so must whatever else this process prints there, or it would overwrite lines. A socket
 * cannot be opened anew: then lines of more than one worker may mix. */
static void
open_stdout(struct sink_log *s)
{
    s->fd = open_path("/proc/self/fd/1", O_WRONLY);
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    if (s->fd >= 0 && flags >= 0 && fcntl(STDOUT_FILENO, F_SETFL, flags | O_APPEND) == 0) {
        return;
    }
    if (s->fd >= 0) {
        close(s->fd);
    }
    s->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    s->shared = true;
    log_warn(s->env->log, "sink.log.shared",
             "why=\"standard output cannot be locked; use one worker thread\"");
}

/* A crash may have left half a line at the end. */
static enum err
end_torn_line(struct sink_log *s, const char *path)
{
    struct stat st;
    if (!s->regular || fstat(s->fd, &st) != 0 || st.st_size == 0) {
        return OK;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char last = 0;
    ssize_t n = fd < 0 ? -1 : pread(fd, &last, 1, st.st_size - 1);
    if (fd >= 0) {
        close(fd);
    }
    if (n != 1) {
        return ERR_IO;
    }
    s->torn = last != '\n';
    return s->torn ? flush_lines(s) : OK;
}

static enum err
open_file(struct sink_log *s, const char *path)
{
    if (path != NULL) {
        s->fd = open_path(path, O_WRONLY | O_CREAT);
    } else {
        open_stdout(s);
    }
    struct stat st;
    if (s->fd < 0 || fstat(s->fd, &st) != 0) {
        return err_of(errno);
    }
    s->regular = S_ISREG(st.st_mode);
    if (path != NULL && s->regular && !sync_folder(path)) {
        return err_of(errno);
    }
    enum err e = lock(s);
    if (e != OK) {
        return e;
    }
    e = end_torn_line(s, path != NULL ? path : "/proc/self/fd/1");
    unlock(s);
    return e;
}

enum err
sink_log_open(struct sink **out, const char *path, struct env *env, char *why, size_t why_size)
{
    static const struct sink_ops ops = {"log", log_sink_write, log_sink_close};
    struct sink_log *s = calloc(1, sizeof *s);
    if (s == NULL) {
        snprintf(why, why_size, "out of memory");
        return ERR_NOMEM;
    }
    *s = (struct sink_log){.base = {&ops}, .env = env, .fd = -1};
    buf_init(&s->lines, 0);
    enum err e = open_file(s, path);
    if (e != OK) {
        snprintf(why, why_size, "the log sink cannot use %s: %s",
                 path != NULL ? path : "standard output", strerror(errno));
        log_sink_close(&s->base);
        return e;
    }
    *out = &s->base;
    return OK;
}
