/* amqp_link.h - one connection to RabbitMQ with one channel: connect, log in, declare, watch
 * over.
 * Contract: the rooms above (queue_amqp.c, consumer_amqp.c) speak to the broker through this link
 *           and never see <amqp.h>: only src/amqp includes it. Every call
 *           that talks to the broker runs under a watchdog: when it takes longer than its limit,
 *           the watchdog shuts the socket down and the call fails (librabbitmq 0.11 writes
 *           without a deadline, and may read without one).
 * Threads:  a link belongs to one thread at a time: whoever opened it, until it is handed over.
 *           Its watchdog is a thread of its own (amqp_watch.h).
 * Owns:     its socket and connection state.
 * Fails:    ERR_UNAVAILABLE: not reachable or lost; close the link and open another, after a
 *           pause with backoff. ERR_CONFIG: connecting again will not help (wrong password,
 *           vhost, queue of another type): `why` names the matter and the command or setting that
 *           mends it. Traps of librabbitmq 0.11 that are guarded here: notes in amqp_link.c, one
 *           by one. */
#ifndef WEIR_AMQP_LINK_H
#define WEIR_AMQP_LINK_H

#include "err.h"
#include "span.h"

#include <stdbool.h>
#include <stdint.h>

#define AMQP_QUEUE "events.ingest"
#define AMQP_DEAD_QUEUE "events.dlq"
#define AMQP_DEAD_EXCHANGE "events.dlx"
#define AMQP_HEARTBEAT_S 10
#define AMQP_WATCHDOG_MS 15000 /* no call to the broker may take longer */

struct env;
struct config;
struct amqp_link;

enum amqp_role {
    AMQP_PUBLISHER /* confirms on */,
    AMQP_CONSUMER /* confirms on too: for dead letters */
};

/* cfg->queue: amqp://user:password@host:port/vhost or amqps://…?cacertfile=…&certfile=…&keyfile=…
 * &verify=…; several hosts by commas are tried in turn (amqp_url.h). Connects, opens the channel,
 * turns confirms on, declares and verifies the topology; where it makes the queues, it waits 1.5 s
 * until they can survive a kill of RabbitMQ. */
enum err amqp_link_open(struct amqp_link **out, const struct config *cfg, struct env *env,
                        enum amqp_role role, char *why, size_t why_size) MUST_CHECK;
void amqp_link_close(struct amqp_link *l); /* NULL ok; never blocks longer than a second */

/* Checks a URL's form, without connecting: NULL, or what is wrong (static). */
const char *amqp_url_check(const char *url);

int amqp_link_fd(const struct amqp_link *l); /* for poll(2) */

/* One message out. Does not wait for its confirm: amqp_link_next tells it, for delivery tag *tag
 * (counted from 1 on this link). */
struct amqp_message {
    const char *exchange;    /* "" is the default exchange */
    const char *routing_key; /* the queue */
    struct span body;
    struct span message_id; /* empty: none */
    const char *content_type;
    int64_t accepted_ms;     /* header x-weir-accepted; 0: none */
    uint32_t attempt;        /* header x-weir-attempt; 0: none */
    const char *error;       /* header x-weir-error; NULL: none */
    int64_t first_failed_ms; /* header x-weir-first-failed; 0: none */
};
enum err amqp_link_publish(struct amqp_link *l, uint64_t *tag,
                           const struct amqp_message *m) MUST_CHECK;

/* What the broker said. */
enum amqp_said {
    AMQP_SAID_NOTHING, /* no frame came within the time */
    AMQP_SAID_ACK,     /* tag, multiple */
    AMQP_SAID_NACK,    /* tag, multiple: not accepted */
    AMQP_SAID_RETURN, /* unroutable: the message with this tag; its ACK follows and means nothing */
    AMQP_SAID_DELIVERY, /* a message for the consumer: fields below, valid until the next call */
    AMQP_SAID_BLOCKED,  /* an alarm: the broker takes no publishes */
    AMQP_SAID_UNBLOCKED,
    AMQP_SAID_CANCELLED, /* the queue under the consumer is gone */
};
struct amqp_event {
    enum amqp_said said;
    uint64_t tag;
    bool multiple;
    bool redelivered;
    bool too_large;   /* DELIVERY: longer than AMQP_BODY_MAX: the body was read and dropped */
    struct span body; /* BUF_SLACK readable bytes follow */
    struct span content_type;
    struct span message_id;
    int64_t accepted_ms; /* headers; 0 when absent */
    uint32_t attempt;
    int64_t first_failed_ms;
};
/* Waits up to wait_ms for the next thing the broker says; heartbeats are kept up by calling it at
 * least every second. A publish on a link that was not looked at, and is silent, for a heartbeat
 * fails. */
enum err amqp_link_next(struct amqp_link *l, struct amqp_event *out, int wait_ms) MUST_CHECK;
/* Something was read already and waits inside the library: do not poll, call next. */
bool amqp_link_has_input(struct amqp_link *l);

enum err amqp_link_consume(struct amqp_link *l, uint16_t prefetch) MUST_CHECK; /* AMQP_QUEUE */
enum err amqp_link_ack(struct amqp_link *l, uint64_t tag, bool multiple) MUST_CHECK;
/* The broker itself moves the message to the dead letters: for what is too large to hold. */
enum err amqp_link_reject(struct amqp_link *l, uint64_t tag) MUST_CHECK;
/* The messages in AMQP_QUEUE that wait: asks, without waiting; the answer is seen by a later
 * amqp_link_next, and is what amqp_link_depth says from then on. */
enum err amqp_link_ask_depth(struct amqp_link *l) MUST_CHECK;
uint64_t amqp_link_depth(const struct amqp_link *l);
/* Bytes that may be unconfirmed so that no write has to wait: below the socket's send buffer. */
size_t amqp_link_window(const struct amqp_link *l);
/* Why the last call failed, for people and logs. */
const char *amqp_link_failure(const struct amqp_link *l);

#endif
