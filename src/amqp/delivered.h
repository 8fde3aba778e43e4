/* delivered.h - a message as RabbitMQ delivered it: the events in it, or, where it cannot be
 * understood, its bytes and what is wrong with them.
 * Threads:  the link's.
 * Owns:     its events and bytes; delivered_free ends it.
 * Bounds:   about the size of the message. */
#ifndef WEIR_DELIVERED_H
#define WEIR_DELIVERED_H

#include "amqp/letter.h"
#include "event.h"

#define DELIVERED_WHY_MAX 256
#define AMQP_SHORT_MAX 255 /* bytes of a content type or message id */

/* A message that is not ours to understand, kept as it came. */
struct foreign {
    struct letter letter;
    char why[DELIVERED_WHY_MAX];
    bool too_large; /* to hold: it has no body here */
    char content_type[AMQP_SHORT_MAX + 1];
    char message_id[AMQP_SHORT_MAX + 1];
    int64_t accepted_ms;
    uint32_t attempt;
    size_t len;
    char body[];
};

struct delivered {
    struct delivered *next;
    uint64_t tag;
    int64_t first_failed_ms; /* 0: never */
    struct mail_list events; /* none when foreign */
    struct foreign *foreign; /* NULL when it holds events */
};

/* What `said` delivered. ERR_NOMEM. */
enum err delivered_read(struct delivered **out, struct event_parser *p,
                        const struct amqp_event *said, int64_t now_ms) MUST_CHECK;
void delivered_free(struct delivered *d); /* NULL ok */

/* The dead letter that a foreign message becomes; borrows from it. */
struct amqp_message foreign_message(const struct delivered *d, int64_t now_ms);

#endif
