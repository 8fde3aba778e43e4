#include "queue/queue_amqp_flight.h"

#include <assert.h>
#include <stdlib.h>

enum err
flight_init(struct flight *f, size_t cap)
{
    *f = (struct flight){.cap = cap, .oldest = 1, .next = 1};
    f->message = calloc(cap, sizeof *f->message);
    return f->message == NULL ? ERR_NOMEM : OK;
}

void
flight_fini(struct flight *f)
{
    free(f->message);
    f->message = NULL;
}

static struct flight_message *
at(const struct flight *f, uint64_t tag)
{
    return &f->message[tag % f->cap];
}

struct flight_message *
flight_add(struct flight *f, size_t bytes, int64_t now_ms)
{
    assert(flight_has_room(f));
    struct flight_message *m = at(f, f->next++);
    *m = (struct flight_message){.bytes = bytes, .sent_ms = now_ms, .undecided = true};
    f->undecided++;
    f->bytes += bytes;
    return m;
}

const struct flight_message *
flight_oldest(const struct flight *f)
{
    return f->oldest == f->next ? NULL : at(f, f->oldest);
}

int64_t
flight_oldest_ms(const struct flight *f)
{
    for (uint64_t t = f->oldest; t < f->next; t++) {
        if (at(f, t)->oldest_ms != 0) { /* else decided, or given up */
            return at(f, t)->oldest_ms;
        }
    }
    return 0;
}

void
flight_part_done(struct publish *p, struct mail_list *answered, enum err result)
{
    assert(p->parts > 0);
    if (p->result == OK) {
        p->result = result;
    }
    if (--p->parts == 0) {
        mail_list_add(answered, &p->reply.mail);
    }
}

/* The publishes of a message hear of it. */
static void
tell(struct flight_message *m, struct mail_list *answered, enum err result)
{
    struct publish *p;
    while ((p = (struct publish *)mail_list_pop(&m->ends)) != NULL) {
        flight_part_done(p, answered, result);
    }
    if (m->goes_on != NULL) {
        flight_part_done(m->goes_on, answered, result);
        m->goes_on = NULL;
    }
    m->oldest_ms = 0;
}

static void
decide(struct flight *f, struct flight_message *m, struct mail_list *answered, enum err result)
{
    if (!m->undecided) {
        return;
    }
    m->undecided = false;
    f->undecided--;
    f->bytes -= m->bytes;
    tell(m, answered, m->returned && result == OK ? ERR_UNAVAILABLE : result);
}

static void
drop_decided(struct flight *f)
{
    while (f->oldest < f->next && !at(f, f->oldest)->undecided) {
        f->oldest++;
    }
}

static bool
is_on_its_way(const struct flight *f, uint64_t tag)
{
    return tag >= f->oldest && tag < f->next && at(f, tag)->undecided;
}

enum err
flight_decide(struct flight *f, struct mail_list *answered, uint64_t tag, bool multiple,
              enum err result)
{
    uint64_t last = multiple && tag == 0 ? f->next - 1 : tag;
    if (last >= f->next || (!multiple && !is_on_its_way(f, last))) {
        return ERR_INVALID;
    }
    for (uint64_t t = multiple ? f->oldest : last; t <= last; t++) {
        decide(f, at(f, t), answered, result);
    }
    drop_decided(f);
    return OK;
}

enum err
flight_return(struct flight *f, uint64_t tag)
{
    if (!is_on_its_way(f, tag)) {
        return ERR_INVALID;
    }
    at(f, tag)->returned = true;
    return OK;
}

void
flight_give_up(struct flight *f, struct mail_list *answered, enum err result)
{
    for (uint64_t t = f->oldest; t < f->next; t++) {
        tell(at(f, t), answered, result);
    }
}

void
flight_reset(struct flight *f, struct mail_list *answered, enum err result)
{
    flight_give_up(f, answered, result);
    f->oldest = 1;
    f->next = 1;
    f->undecided = 0;
    f->bytes = 0;
}
