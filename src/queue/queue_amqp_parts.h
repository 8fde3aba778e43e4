/* queue_amqp_parts.h - the inside of the RabbitMQ queue, for queue_amqp*.c alone. */
#ifndef WEIR_QUEUE_AMQP_PARTS_H
#define WEIR_QUEUE_AMQP_PARTS_H

#include "amqp/amqp_link.h"
#include "buf.h"
#include "queue/queue.h"
#include "queue/queue_amqp_flight.h"
#include "thread.h"

#include <stdatomic.h>

#define FLIGHT_CAP 256          /* unconfirmed messages */
#define GATHER_FROM 2           /* with so many on their way, events wait to fill an envelope */
#define MESSAGE_EXTRA_BYTES 512 /* around a body: properties, frames, the kernel's share */
#define WHY_MAX 512

enum publisher_state {
    PUBLISHER_AWAY,    /* RabbitMQ cannot be reached */
    PUBLISHER_REFUSED, /* it can, and does not want us: password, vhost, queue */
    PUBLISHER_BLOCKED, /* an alarm of its own */
    PUBLISHER_UP,
};

/* One connection and its thread. */
struct publisher {
    const struct config *cfg;
    struct env *env;
    unsigned number; /* from 1; for the log */
    struct mailbox *inbox;
    int wake_fd; /* an eventfd: mail came, or the end */
    struct thread thread;
    atomic_bool stopping;
    /* What others read. */
    _Atomic int state;           /* enum publisher_state */
    _Atomic int64_t oldest_ms;   /* when the oldest unanswered publish came; 0: none */
    _Atomic int64_t next_try_ms; /* when it connects anew */
    _Atomic uint64_t depth;      /* messages that wait in RabbitMQ */
    /* The thread's own. */
    struct amqp_link *link; /* NULL: not connected */
    struct flight flight;
    struct mail_list waiting;  /* of struct publish: taken, not sent as a whole; the events of all
                                  of them hang together as one chain */
    const struct mail *cursor; /* the first event not sent; NULL: none */
    size_t left;               /* events of the first in `waiting` not sent */
    size_t waiting_events;     /* not sent, of all in `waiting` */
    size_t waiting_bytes;
    struct mail_list answered;
    struct buf body;
    unsigned failures;    /* connections in a row that came to nothing */
    int64_t since_ms;     /* when the link was opened */
    int64_t asked_ms;     /* for the depth */
    int64_t heard_ms;     /* when frames were looked for */
    int64_t unblocked_ms; /* when an alarm ended */
    int64_t stop_by_ms;
    bool readable;     /* the socket has something */
    bool unroutable;   /* the queue is gone: send nothing, connect anew */
    char why[WHY_MAX]; /* of the last failure, as logged */
};

enum err publisher_open(struct publisher *p, const struct config *cfg, struct env *env,
                        unsigned number) MUST_CHECK;
/* Before the thread runs. */
enum err publisher_connect(struct publisher *p, char *why, size_t why_size) MUST_CHECK;
enum err publisher_start(struct publisher *p) MUST_CHECK;
void publisher_stop(struct publisher *p);  /* begins; close waits */
void publisher_close(struct publisher *p); /* of a zeroed one too */

/* ---- sending (queue_amqp_send.c): publishes into messages ---- */

void send_take(struct publisher *p); /* from the inbox, as much as is needed next */
/* As many messages as may be on their way. */
enum err send_messages(struct publisher *p) MUST_CHECK;
void send_expire(struct publisher *p); /* what waited for longer than a confirm may take */
void send_fail_all(struct publisher *p, enum err e); /* what was not sent: taken, or in the inbox */
void send_answers(struct publisher *p);
int64_t send_oldest_ms(const struct publisher *p); /* of the publishes not answered; 0: none */

#endif
