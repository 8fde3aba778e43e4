/* letter.h - messages on their way to the dead letters, until the broker has said what became of
 * each.
 * Contract: a letter is durable in AMQP_DEAD_QUEUE when, and only when, it is LETTER_CONFIRMED: the
 *           broker acked it and did not return it. Nobody lets go of what a letter holds before.
 * Threads:  the link's.
 * Owns:     nothing: a letter is its sender's and must outlive its stay in the list; letters_forget
 *           when the link is gone.
 * Fails:    letter_send as amqp_link_publish. */
#ifndef WEIR_LETTER_H
#define WEIR_LETTER_H

#include "amqp/amqp_link.h"

#include <stddef.h>

enum letter_state {
    LETTER_NONE,      /* not sent, or given up with its link */
    LETTER_SENT,      /* nothing heard of it yet */
    LETTER_RETURNED,  /* no queue took it; its ack is still to come and means nothing */
    LETTER_REFUSED,   /* nacked, or returned: it may be sent again */
    LETTER_CONFIRMED, /* durable */
};

struct letter {
    struct letter *next;
    uint64_t tag;
    enum letter_state state;
};

struct letters { /* sent on one link, in order of their tags */
    struct letter *first;
    struct letter *last;
    bool blocked;  /* the broker takes no publishes at present */
    bool returned; /* one of them, since the list was forgotten: there is no queue for them */
};

enum err letter_send(struct letters *ls, struct letter *l, struct amqp_link *link,
                     const struct amqp_message *m) MUST_CHECK;
/* Anything the broker said; what is not about letters is passed over. */
void letters_hear(struct letters *ls, const struct amqp_event *said);
void letters_forget(struct letters *ls); /* the link is gone: what was not confirmed never was */

#endif
