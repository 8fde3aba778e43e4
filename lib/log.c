#include "log.h"

#include "buf.h"
#include "clock.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct limit {
    const char *event; /* string literals: compared by content, kept by pointer */
    int64_t second;
    unsigned written;
    uint64_t suppressed;
};

struct log {
    pthread_mutex_t lock;
    int fd;
    enum log_level least;
    bool json;
    uint64_t suppressed;
    struct limit limits[LOG_NAMES];
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

struct log *
log_open(int fd, enum log_level least, bool json)
{
    struct log *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return NULL;
    }
    pthread_mutex_init(&l->lock, NULL);
    l->fd = fd;
    l->least = least;
    l->json = json;
    return l;
}

void
log_close(struct log *l)
{
    if (l == NULL) {
        return;
    }
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void
log_flush(struct log *l)
{
    (void)l; /* every line is written with one write(2) */
}

uint64_t
log_suppressed(struct log *l)
{
    pthread_mutex_lock(&l->lock);
    uint64_t n = l->suppressed;
    pthread_mutex_unlock(&l->lock);
    return n;
}

static struct limit *
limit_of(struct log *l, const char *event)
{
    for (size_t i = 0; i < LOG_NAMES - 1; i++) {
        struct limit *m = &l->limits[i];
        if (m->event == NULL) {
            m->event = event;
        }
        if (strcmp(m->event, event) == 0) {
            return m;
        }
    }
    return &l->limits[LOG_NAMES - 1];
}

/* False: over the limit. True: write, and say how many were held back before. Under the lock. */
static bool
may_write(struct log *l, const char *event, int64_t now_ms, uint64_t *held_back)
{
    struct limit *m = limit_of(l, event);
    if (m->second != now_ms / 1000) {
        m->second = now_ms / 1000;
        m->written = 0;
    }
    if (m->written >= LOG_BURST) {
        m->suppressed++;
        l->suppressed++;
        return false;
    }
    m->written++;
    *held_back = m->suppressed;
    m->suppressed = 0;
    return true;
}

/* One key=value of `rest` becomes one JSON member; a quoted value loses its quotes. Returns what
 * follows it. */
static const char *
add_member(struct buf *out, const char *rest)
{
    const char *eq = strchr(rest, '=');
    if (eq == NULL) {
        buf_add_text(out, ",\"text\":");
        buf_add_json_string(out, span_of(rest));
        return rest + strlen(rest);
    }
    buf_add_text(out, ",");
    buf_add_json_string(out, (struct span){rest, (size_t)(eq - rest)});
    buf_add_text(out, ":");
    const char *from = eq + 1;
    char stop = ' ';
    if (*from == '"') {
        from++;
        stop = '"';
    }
    const char *end = strchr(from, stop);
    if (end == NULL) {
        end = from + strlen(from);
    }
    buf_add_json_string(out, (struct span){from, (size_t)(end - from)});
    if (*end == '"') {
        end++;
    }
    return *end == ' ' ? end + 1 : end;
}

static void
format_line(struct buf *out, bool json, int64_t now_ms, enum log_level level, const char *event,
            const char *rest)
{
    char at[CLOCK_RFC3339_MAX];
    clock_format_rfc3339(at, now_ms);
    if (!json) {
        buf_addf(out, "ts=%s level=%s event=%s%s%s", at, level_names[level], event,
                 *rest != '\0' ? " " : "", rest);
        return;
    }
    buf_addf(out, "{\"ts\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", at, level_names[level],
             event);
    while (*rest != '\0') {
        rest = add_member(out, rest);
    }
    buf_add_text(out, "}");
}

const char *
log_value(char out[LOG_VALUE_MAX], struct span text)
{
    size_t n = text.len < LOG_VALUE_MAX - 1 ? text.len : LOG_VALUE_MAX - 1;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text.at[i];
        out[i] = c < 0x20 || c == 0x7f || c == '"' || c == '\\' ? '?' : text.at[i];
    }
    out[n] = '\0';
    return out;
}

/* A line stays one line whatever a client sent: controls become '?'. */
static void
make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) {
            *text = '?';
        }
    }
}

void
log_write(struct log *l, enum log_level level, const char *event, const char *fmt, ...)
{
    if (level < l->least) {
        return;
    }
    char rest[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(rest, sizeof rest, fmt, args);
    va_end(args);
    make_printable(rest);
    int64_t now_ms = clock_wall_ms();
    uint64_t held_back = 0;
    pthread_mutex_lock(&l->lock);
    bool write_it = may_write(l, event, now_ms, &held_back);
    pthread_mutex_unlock(&l->lock);
    if (!write_it) {
        return;
    }
    if (held_back > 0) {
        size_t n = strlen(rest);
        snprintf(rest + n, sizeof rest - n, "%ssuppressed=%llu", n > 0 ? " " : "",
                 (unsigned long long)held_back);
    }
    struct buf out;
    buf_init(&out, 8192);
    format_line(&out, l->json, now_ms, level, event, rest);
    buf_add(&out, "\n", 1);
    if (buf_ok(&out) && write(l->fd, out.at, out.len) < 0) {
        /* nowhere left to say it */
    }
    buf_fini(&out);
}
