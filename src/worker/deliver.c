/* deliver.c - the page to read: what happens to a batch, step by step, and why no crash breaks the
 * promise.
 *
 *   taken -> seen? -> write -> mark -> settle
 *
 * 1. Durable before: the events lie in the queue, which gives them again until they are settled.
 *    A crash before the settle therefore repeats work; it never loses any.
 * 2. One effect per id: the authority is a unique key that is committed with the effect. Work
 *    that is repeated after a crash meets that key and is a duplicate.
 * 3. Nothing vanishes: settle is last, and it ends exactly the events that were decided.
 *
 * A joined batch (queue, dedup and sink are the local store): write and mark only stage, and
 * settle commits the three as one transaction: there is no moment between them. Otherwise each
 * step is durable when it returns, and a crash between two of them is answered by 1 and 2. A sink
 * without a unique key (log) has only "seen?": it can write a batch twice if the crash falls
 * between write and settle, and an id twice if two workers hold it at the same moment.
 *
 * One event that the sink asks to be tried again holds up its whole batch: nothing is settled, and
 * the worker delivers all of it again. The batch is the unit of retry. */
#include "worker/deliver.h"

#include <stdio.h>

/* A batch may come here again after a failure: nothing that the failed attempt believed may stay. */
static void
start_afresh(struct batch *b)
{
    b->staged = 0;
    for (size_t i = 0; i < b->n; i++) {
        struct event *ev = b->item[i].ev;
        b->item[i] = (struct delivery){.ev = ev, .state = EVENT_PROCESSING};
    }
}

/* Between two steps: where a test may fail or crash. */
static enum err
then(const struct deliver_parts *parts, enum err e, const char *point)
{
    return e != OK ? e : parts->env->fault(parts->env, point);
}

/* What the sink said of single events: a rejected one is dead, its reason kept; one that cannot be
 * stored now stops the batch. The gravest answer goes up. */
static enum err
judge(struct batch *b)
{
    enum err gravest = OK;
    for (size_t i = 0; i < b->n; i++) {
        struct delivery *d = &b->item[i];
        if (d->state != EVENT_PROCESSING || d->result == OK) {
            continue;
        }
        enum fate fate = err_fate(d->result);
        if (fate == FATE_REJECT) {
            d->state = EVENT_DEAD;
            if (d->reason[0] == '\0') {
                snprintf(d->reason, sizeof d->reason, "%s", err_text(d->result));
            }
        } else if (fate > err_fate(gravest)) {
            gravest = d->result;
        }
    }
    return gravest;
}

/* What is staged is decided by the store's transaction; the rest has had its effect. */
static void
decide(struct batch *b)
{
    for (size_t i = 0; b->staged == 0 && i < b->n; i++) {
        if (b->item[i].state == EVENT_PROCESSING) {
            b->item[i].state = EVENT_PROCESSED;
        }
    }
}

enum err
deliver(const struct deliver_parts *parts, struct batch *b)
{
    start_afresh(b);
    enum err e = then(parts, OK, "deliver.taken");
    if (e != OK) {
        return e;
    }

    /* Seen? Saves the work for known ids. A miss is harmless where the sink has a unique key. */
    e = then(parts, parts->dedup->ops->seen(parts->dedup, b), "deliver.seen");
    if (e != OK) {
        return e;
    }

    /* Write: the effect. A crash after it: given again, and the unique key says duplicate. */
    e = parts->sink->ops->write(parts->sink, b);
    e = then(parts, e != OK ? e : judge(b), "deliver.written");
    if (e != OK) {
        return e;
    }

    /* Mark: the id is known from here. A crash after it: given again, and seen says duplicate. */
    e = then(parts, parts->dedup->ops->mark(parts->dedup, b), "deliver.marked");
    if (e != OK) {
        return e;
    }

    /* Settle: the queue lets go. Only now, because an event let go is never given again. */
    decide(b);
    e = parts->consumer->ops->settle(parts->consumer, b);
    if (e == OK) {
        (void)parts->env->fault(parts->env, "deliver.settled"); /* done, whatever it answers */
    }
    return e;
}
