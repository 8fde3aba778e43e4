#include "amqp/inbox.h"

#include "config.h"
#include "env.h"
#include "log.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define LISTEN_MS 100          /* inbox_stop is noticed that soon */
#define SILENT_MS 1000         /* a link is listened to that often, if its owner comes by */
#define BUSY_MESSAGES 8        /* read at once: then more are on their way, and */
#define LINGER_MS 1            /* waiting for them saves commits (a third more events a second) */
#define RECONNECT_FIRST_MS 100 /* pauses between attempts to connect, doubling */
#define RECONNECT_MAX_MS 500
#define RECONNECT_CONFIG_MS 10000 /* when only a person can mend it */

struct inbox {
    const struct config *cfg; /* borrowed, as env */
    struct env *env;
    struct event_parser *parser;
    struct mailbox *pause; /* never holds mail: a wait that inbox_stop ends */
    atomic_bool stopping;
    size_t prefetch;

    struct amqp_link *link; /* NULL: not connected */
    bool cancelled;         /* nothing more is delivered on it */
    int64_t linked_ms;      /* since when */
    int64_t heard_ms;       /* listened last */
    int pause_ms;           /* of the next pause before connecting */
    int64_t connect_ms;     /* not before */

    struct delivered *first; /* read ahead, in order of their tags */
    struct delivered *last;
    bool busy;    /* the last time there were BUSY_MESSAGES: a lone one never waits */
    size_t ahead; /* how many */
    size_t ahead_events;
    size_t ahead_foreign;

    struct letters letters;
    uint64_t foreign; /* messages buried, since the start */
};

static int64_t
now(const struct inbox *in)
{
    return in->env->mono_ms(in->env);
}

/* ---- what was read ahead ---- */

static void
add_ahead(struct inbox *in, struct delivered *d)
{
    if (in->last != NULL) {
        in->last->next = d;
    } else {
        in->first = d;
    }
    in->last = d;
    in->ahead++;
    in->ahead_events += d->events.count;
    in->ahead_foreign += d->foreign != NULL;
}

/* `before` stands before d; NULL: d is the first. */
static void
unlink_ahead(struct inbox *in, struct delivered *before, struct delivered *d)
{
    *(before == NULL ? &in->first : &before->next) = d->next;
    in->last = in->last == d ? before : in->last;
    d->next = NULL;
    in->ahead--;
    in->ahead_events -= d->events.count;
    in->ahead_foreign -= d->foreign != NULL;
}

const struct delivered *
inbox_peek(const struct inbox *in)
{
    return in->first;
}

struct delivered *
inbox_pop(struct inbox *in)
{
    struct delivered *d = in->first;
    assert(d != NULL && d->foreign == NULL);
    unlink_ahead(in, NULL, d);
    return d;
}

/* ---- the link ---- */

bool
inbox_is_linked(const struct inbox *in)
{
    return in->link != NULL;
}

bool
inbox_is_cancelled(const struct inbox *in)
{
    return in->cancelled;
}

static void
drop_link(struct inbox *in)
{
    letters_forget(&in->letters);
    for (struct delivered *d; (d = in->first) != NULL;) {
        unlink_ahead(in, NULL, d);
        delivered_free(d);
    }
    amqp_link_close(in->link);
    in->link = NULL;
    in->cancelled = false;
}

/* Half of it, and up to the other half: workers that were cut off together come back one by one. */
static int
jittered(struct inbox *in, int ms)
{
    return ms / 2 + (int)(in->env->random(in->env) % (uint64_t)(ms / 2 + 1));
}

static void
pause_longer(struct inbox *in)
{
    in->connect_ms = now(in) + jittered(in, in->pause_ms);
    in->pause_ms = in->pause_ms * 2 > RECONNECT_MAX_MS ? RECONNECT_MAX_MS : in->pause_ms * 2;
}

static void
drop_and_pause(struct inbox *in)
{
    drop_link(in);
    if (now(in) - in->linked_ms > RECONNECT_MAX_MS) {
        in->pause_ms = RECONNECT_FIRST_MS; /* it was a good one: not one that breaks at once */
    }
    pause_longer(in);
}

static enum err
lose_link(struct inbox *in)
{
    log_warn(in->env->log, "amqp.consumer.lost", "read_ahead=%zu why=\"%s\"", in->ahead,
             amqp_link_failure(in->link));
    drop_and_pause(in);
    return ERR_LOST;
}

void
inbox_leave(struct inbox *in)
{
    drop_and_pause(in);
}

static enum err
not_linked(struct inbox *in, enum err e, const char *why)
{
    if (e == ERR_CONFIG) {
        log_error(in->env->log, "amqp.consumer.refused", "retry_ms=%d why=\"%s\"",
                  RECONNECT_CONFIG_MS, why);
        in->connect_ms = now(in) + jittered(in, RECONNECT_CONFIG_MS);
    } else {
        log_warn(in->env->log, "amqp.consumer.away", "err=%s why=\"%s\"", err_name(e), why);
        pause_longer(in);
    }
    return e == ERR_NOMEM ? e : ERR_UNAVAILABLE;
}

static enum err
connect_now(struct inbox *in)
{
    char why[512] = "";
    enum err e = amqp_link_open(&in->link, in->cfg, in->env, AMQP_CONSUMER, why, sizeof why);
    if (e != OK) {
        in->link = NULL;
        return not_linked(in, e, why);
    }
    in->linked_ms = in->heard_ms = now(in);
    e = amqp_link_consume(in->link, (uint16_t)in->prefetch);
    if (e != OK) {
        snprintf(why, sizeof why, "%s", amqp_link_failure(in->link));
        drop_link(in);
        return not_linked(in, e, why);
    }
    log_info(in->env->log, "amqp.consumer.linked", "queue=" AMQP_QUEUE " prefetch=%zu",
             in->prefetch);
    return OK;
}

enum err
inbox_connect(struct inbox *in, int64_t until_ms)
{
    if (in->link != NULL) {
        return OK;
    }
    int64_t wait_ms = (in->connect_ms < until_ms ? in->connect_ms : until_ms) - now(in);
    if (wait_ms > 0) {
        (void)mailbox_take(in->pause, 0, 0, (int)wait_ms);
    }
    if (atomic_load(&in->stopping)) {
        return ERR_STOPPING;
    }
    return now(in) < in->connect_ms ? ERR_UNAVAILABLE : connect_now(in);
}

/* ---- what the broker says ---- */

static enum err
read_ahead(struct inbox *in, const struct amqp_event *said)
{
    struct delivered *d;
    enum err e = delivered_read(&d, in->parser, said, in->env->wall_ms(in->env));
    if (e == OK) {
        add_ahead(in, d);
    }
    return e;
}

static enum err
heed(struct inbox *in, const struct amqp_event *said)
{
    letters_hear(&in->letters, said);
    if (said->said == AMQP_SAID_DELIVERY) {
        return read_ahead(in, said);
    }
    if (said->said == AMQP_SAID_CANCELLED) {
        log_error(in->env->log, "amqp.consumer.cancelled",
                  "queue=" AMQP_QUEUE " why=\"the queue was deleted, or its node went away\"");
        in->cancelled = true;
    }
    return OK;
}

/* One thing the broker says, if it comes within the time. Not OK: the link is gone. */
static enum err
listen(struct inbox *in, bool *heard, int wait_ms)
{
    struct amqp_event said;
    enum err e = amqp_link_next(in->link, &said, wait_ms);
    in->heard_ms = now(in);
    if (e != OK) {
        return lose_link(in);
    }
    *heard = said.said != AMQP_SAID_NOTHING;
    e = heed(in, &said);
    if (e != OK) { /* no memory for a message: the broker shall keep it */
        log_warn(in->env->log, "amqp.consumer.no_memory", "bytes=%zu", said.body.len);
        drop_and_pause(in);
    }
    return e == OK ? OK : ERR_LOST;
}

static int
slice(struct inbox *in, int64_t until_ms)
{
    int64_t left = until_ms - now(in);
    return left <= 0 ? 0 : left < LISTEN_MS ? (int)left : LISTEN_MS;
}

static bool
wants_more(const struct inbox *in, size_t enough)
{
    return !in->cancelled && in->ahead_events < enough && in->ahead < in->prefetch;
}

enum err
inbox_fill(struct inbox *in, size_t enough, int64_t until_ms)
{
    const int linger_ms = in->busy ? LINGER_MS : 0;
    bool heard = true;
    while (wants_more(in, enough)) {
        int wait_ms = in->ahead > 0 ? linger_ms : slice(in, until_ms);
        if (!heard && (in->ahead > 0 || wait_ms == 0)) {
            break;
        }
        enum err e = listen(in, &heard, wait_ms);
        if (e != OK) {
            return e;
        }
        if (atomic_load(&in->stopping)) {
            return ERR_STOPPING;
        }
    }
    in->busy = in->ahead >= BUSY_MESSAGES;
    return OK;
}

enum err
inbox_hear(struct inbox *in)
{
    bool heard = true;
    enum err e = OK;
    while (heard && e == OK) {
        e = listen(in, &heard, 0);
    }
    return e;
}

enum err
inbox_hear_if_silent(struct inbox *in)
{
    return now(in) - in->heard_ms > SILENT_MS ? inbox_hear(in) : OK;
}

enum err
inbox_ack(struct inbox *in, uint64_t tag, bool multiple)
{
    return amqp_link_ack(in->link, tag, multiple) == OK ? OK : lose_link(in);
}

/* ---- dead letters ---- */

enum err
inbox_send(struct inbox *in, struct letter *l, const struct amqp_message *m)
{
    if (l->state == LETTER_SENT || l->state == LETTER_RETURNED || l->state == LETTER_CONFIRMED) {
        return OK;
    }
    if (in->letters.blocked) {
        return ERR_UNAVAILABLE;
    }
    return letter_send(&in->letters, l, in->link, m) == OK ? OK : lose_link(in);
}

static enum err
give_up_link(struct inbox *in, const char *why)
{
    log_error(in->env->log, "amqp.dead_letter.lost", "queue=" AMQP_DEAD_QUEUE " why=\"%s\"", why);
    drop_and_pause(in);
    return ERR_LOST;
}

enum err
inbox_await(struct inbox *in)
{
    int64_t until_ms = now(in) + in->cfg->amqp_confirm_timeout;
    while (in->letters.first != NULL) {
        if (in->letters.blocked) {
            return ERR_UNAVAILABLE;
        }
        if (now(in) >= until_ms) {
            return give_up_link(in, "no confirm came within amqp.confirm_timeout");
        }
        bool heard;
        enum err e = listen(in, &heard, slice(in, until_ms));
        if (e != OK) {
            return e;
        }
    }
    return in->letters.returned ? give_up_link(in, "the queue is not there: it is declared anew")
                                : OK;
}

enum err
inbox_not_confirmed(struct inbox *in)
{
    log_error(in->env->log, "amqp.dead_letter.refused",
              "queue=" AMQP_DEAD_QUEUE " blocked=%d why=\"RabbitMQ does not take it now; is there "
              "room?\"",
              in->letters.blocked);
    return ERR_UNAVAILABLE;
}

/* ---- messages that are not ours ---- */

static void
report_foreign(struct inbox *in, const struct foreign *f)
{
    char why[LOG_VALUE_MAX], id[LOG_VALUE_MAX];
    in->foreign++;
    log_error(in->env->log, "amqp.foreign",
              "message_id=\"%s\" bytes=%zu count=%llu moved_to=" AMQP_DEAD_QUEUE " why=\"%s\"",
              log_value(id, span_of(f->message_id)), f->len, (unsigned long long)in->foreign,
              log_value(why, span_of(f->why)));
}

static enum err
send_foreign(struct inbox *in)
{
    enum err e = OK;
    for (struct delivered *d = in->first; d != NULL && e == OK; d = d->next) {
        if (d->foreign != NULL && !d->foreign->too_large) {
            const struct amqp_message m = foreign_message(d, in->env->wall_ms(in->env));
            e = inbox_send(in, &d->foreign->letter, &m);
        }
    }
    return e;
}

/* Each by itself: those around it are not settled. */
static enum err
let_go(struct inbox *in, struct delivered *before, struct delivered *d)
{
    uint64_t tag = d->tag;
    bool too_large = d->foreign->too_large;
    report_foreign(in, d->foreign);
    unlink_ahead(in, before, d);
    delivered_free(d);
    if (!too_large) {
        return inbox_ack(in, tag, false);
    }
    return amqp_link_reject(in->link, tag) == OK ? OK : lose_link(in);
}

/* Its bytes are safe; those of one that is too large the broker itself moves. */
static bool
may_go(const struct delivered *d)
{
    return d->foreign != NULL &&
           (d->foreign->too_large || d->foreign->letter.state == LETTER_CONFIRMED);
}

/* *refused: the broker does not take one of them. */
static enum err
release_foreign(struct inbox *in, bool *refused)
{
    struct delivered *before = NULL;
    for (struct delivered *d = in->first, *next; d != NULL; d = next) {
        next = d->next;
        if (!may_go(d)) {
            *refused = *refused || (d->foreign != NULL && d->foreign->letter.state != LETTER_NONE);
            before = d;
            continue;
        }
        enum err e = let_go(in, before, d);
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

enum err
inbox_bury_foreign(struct inbox *in)
{
    if (in->ahead_foreign == 0) {
        return OK;
    }
    enum err e = send_foreign(in);
    if (e == OK) {
        e = inbox_await(in);
    }
    if (in->link == NULL) {
        return ERR_LOST;
    }
    bool refused = e != OK;
    e = release_foreign(in, &refused);
    return e == OK && refused ? inbox_not_confirmed(in) : e;
}

/* ---- from open to close ---- */

void
inbox_stop(struct inbox *in)
{
    atomic_store(&in->stopping, true);
    mailbox_shut(in->pause);
}

void
inbox_close(struct inbox *in)
{
    if (in == NULL) {
        return;
    }
    drop_link(in);
    mailbox_close(in->pause);
    event_parser_close(in->parser);
    free(in);
}

enum err
inbox_open(struct inbox **out, const struct config *cfg, struct env *env)
{
    struct inbox *in = calloc(1, sizeof *in);
    if (in == NULL) {
        return ERR_NOMEM;
    }
    in->cfg = cfg;
    in->env = env;
    in->prefetch = (size_t)cfg->amqp_prefetch;
    in->pause_ms = RECONNECT_FIRST_MS;
    in->parser = event_parser_open((size_t)cfg->event_max_bytes);
    in->pause = mailbox_open(0, 0, NULL, NULL);
    if (in->parser == NULL || in->pause == NULL) {
        inbox_close(in);
        return ERR_NOMEM;
    }
    *out = in;
    return OK;
}
