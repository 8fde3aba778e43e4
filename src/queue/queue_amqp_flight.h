/* queue_amqp_flight.h - the messages on their way to RabbitMQ, and the publishes whose events are
 * in them.
 * Contract: a message carries the ends of some publishes (`ends`), and may carry a part of one more
 *           that goes on in the next (`goes_on`). A publish is answered when each of its parts is
 *           decided, and is OK when each was acked and none was returned. Tags count from 1.
 * Threads:  one publisher's.
 * Owns:     the publishes in it, until they are moved to `answered`.
 * Bounds:   `cap` messages between the oldest undecided one and the newest. */
#ifndef WEIR_QUEUE_AMQP_FLIGHT_H
#define WEIR_QUEUE_AMQP_FLIGHT_H

#include "batch.h"

#include <stdbool.h>

struct flight_message {
    struct mail_list ends;   /* of struct publish */
    struct publish *goes_on; /* NULL: none */
    size_t bytes;
    int64_t sent_ms;   /* monotonic */
    int64_t oldest_ms; /* when the first of its publishes came; 0: all are answered */
    bool undecided;
    bool returned;
};

struct flight {
    struct flight_message *message; /* by tag % cap */
    size_t cap;
    uint64_t oldest;  /* tag; undecided, or == next */
    uint64_t next;    /* the tag of the next message */
    size_t undecided; /* messages */
    size_t bytes;     /* of those */
};

enum err flight_init(struct flight *f, size_t cap) MUST_CHECK;
void flight_fini(struct flight *f); /* of a zeroed one too; must hold no publish */

static inline bool
flight_has_room(const struct flight *f)
{
    return f->next - f->oldest < f->cap;
}
/* The message that was just sent; the caller fills in its publishes. */
struct flight_message *flight_add(struct flight *f, size_t bytes, int64_t now_ms);
/* The oldest undecided message; NULL: none. */
const struct flight_message *flight_oldest(const struct flight *f);
/* When the oldest publish in it came; 0: there is none. */
int64_t flight_oldest_ms(const struct flight *f);
/* An ack (OK) or nack: `multiple` is all up to tag; of tag 0, all. ERR_INVALID: no such message is
 * on its way. Publishes that are decided by it go to *answered, with their result. */
enum err flight_decide(struct flight *f, struct mail_list *answered, uint64_t tag, bool multiple,
                       enum err result) MUST_CHECK;
enum err flight_return(struct flight *f, uint64_t tag) MUST_CHECK; /* its ack will mean nothing */
/* Answers every publish with `result`; the messages stay: their confirms may still come. */
void flight_give_up(struct flight *f, struct mail_list *answered, enum err result);
/* The same, and forgets the messages: the connection is gone, the next one counts from 1. */
void flight_reset(struct flight *f, struct mail_list *answered, enum err result);

/* One part of a publish is decided, or will never be sent. */
void flight_part_done(struct publish *p, struct mail_list *answered, enum err result);

#endif
