#include "memory.h"

#include "memory_ids.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

struct memory_sink {
    struct sink base;
    pthread_mutex_t lock; /* of rows: a test looks at them while the worker writes */
    struct memory_id *rows;
    _Atomic enum err error;
    atomic_uint error_times;
    atomic_uint writes;
    char refused_id[64];
    enum err refused_result;
    unsigned refused_times;
};

static bool
refused(struct memory_sink *s, struct delivery *d)
{
    if (s->refused_times == 0 || !span_eq(event_id(d->ev), span_of(s->refused_id))) {
        return false;
    }
    s->refused_times--;
    d->result = s->refused_result;
    snprintf(d->reason, sizeof d->reason, "refused by the test");
    return true;
}

static enum err
write_one(struct memory_sink *s, struct delivery *d)
{
    struct memory_id *row = memory_ids_find(s->rows, event_id(d->ev));
    if (row != NULL) {
        struct span kept = {row->bytes + row->id_len, row->payload_len};
        d->state = EVENT_DUPLICATE;
        d->conflict = !span_eq(kept, event_payload(d->ev));
        return OK;
    }
    row = memory_ids_add(&s->rows, event_id(d->ev), event_payload(d->ev));
    if (row == NULL) {
        return ERR_NOMEM;
    }
    row->effects++;
    return OK;
}

static enum err
memory_write(struct sink *sink, struct batch *b)
{
    struct memory_sink *s = (struct memory_sink *)sink;
    enum err e = OK;
    atomic_fetch_add(&s->writes, 1);
    if (atomic_load(&s->error_times) > 0) {
        atomic_fetch_sub(&s->error_times, 1);
        return atomic_load(&s->error);
    }
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; e == OK && i < b->n; i++) {
        if (b->item[i].state == EVENT_PROCESSING && !refused(s, &b->item[i])) {
            e = write_one(s, &b->item[i]);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return e;
}

static void
memory_close(struct sink *sink)
{
    struct memory_sink *s = (struct memory_sink *)sink;
    if (s != NULL) {
        memory_ids_free(s->rows);
        pthread_mutex_destroy(&s->lock);
        free(s);
    }
}

void
memory_sink_fail(struct sink *sink, enum err error, unsigned times)
{
    struct memory_sink *s = (struct memory_sink *)sink;
    atomic_store(&s->error, error);
    atomic_store(&s->error_times, times);
}

void
memory_sink_refuse(struct sink *sink, const char *id, enum err result, unsigned times)
{
    struct memory_sink *s = (struct memory_sink *)sink;
    snprintf(s->refused_id, sizeof s->refused_id, "%s", id);
    s->refused_result = result;
    s->refused_times = times;
}

unsigned
memory_sink_writes(struct sink *sink)
{
    return atomic_load(&((struct memory_sink *)sink)->writes);
}

unsigned
memory_sink_effects(struct sink *sink, const char *id)
{
    struct memory_sink *s = (struct memory_sink *)sink;
    pthread_mutex_lock(&s->lock);
    struct memory_id *row = memory_ids_find(s->rows, span_of(id));
    unsigned effects = row == NULL ? 0 : row->effects;
    pthread_mutex_unlock(&s->lock);
    return effects;
}

enum err
memory_sink_open(struct sink **out)
{
    static const struct sink_ops ops = {"memory", memory_write, memory_close};
    struct memory_sink *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return ERR_NOMEM;
    }
    s->base.ops = &ops;
    pthread_mutex_init(&s->lock, NULL);
    *out = &s->base;
    return OK;
}
