/* amqp_topology.c - what stands on the broker: events.ingest, and events.dlq behind events.dlx.
 * RabbitMQ compares each declaration with what is there and answers 406 to a difference; that
 * closes the channel, so all of this happens on a channel of its own, opened anew when it was
 * closed.
 * New queues: RabbitMQ before 3.13.3 writes the name of a new quorum queue to disk up to a second
 * later (rabbitmq/ra#443). Killed before that, it comes up with the queue empty and without a
 * leader, whatever it had confirmed. So whoever makes the queues waits, and makes the exchange only
 * then: whoever finds no exchange waits too. */
#include "amqp/amqp_link_parts.h"

#include "config.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define CHANNEL 2
#define SETTLE_MS 1500
#define DELIVERY_LIMIT 20 /* then RabbitMQ dead-letters it: workers that die of an event */

static amqp_table_entry_t
text_argument(const char *key, const char *value)
{
    amqp_table_entry_t e = {.key = amqp_cstring_bytes(key)};
    e.value.kind = AMQP_FIELD_KIND_UTF8;
    e.value.value.bytes = amqp_cstring_bytes(value);
    return e;
}

static amqp_table_entry_t
number_argument(const char *key, int32_t value)
{
    amqp_table_entry_t e = {.key = amqp_cstring_bytes(key)};
    e.value.kind = AMQP_FIELD_KIND_I32;
    e.value.value.i32 = value;
    return e;
}

/* What is declared, and what a refusal means to people. */
struct want {
    const char *queue;
    amqp_table_entry_t *argument;
    int arguments;
};

static enum err
open_channel(struct amqp_link *l)
{
    amqp_channel_open(l->conn, CHANNEL);
    return amqp_link_check(l, "open a channel", amqp_get_rpc_reply(l->conn));
}

/* OK, with *other: the broker closed the channel with `code`, which the caller can live with; it is
 * open again. */
static enum err
check(struct amqp_link *l, bool *other, const char *doing, uint16_t code)
{
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(l->conn);
    enum err e = amqp_link_check(l, doing, reply);
    *other = e == ERR_CONFIG && reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD &&
             ((amqp_channel_close_t *)reply.reply.decoded)->reply_code == code;
    if (!*other) {
        return e;
    }
    amqp_channel_close_ok_t done = {0};
    int status = amqp_send_method(l->conn, CHANNEL, AMQP_CHANNEL_CLOSE_OK_METHOD, &done);
    if (status != AMQP_STATUS_OK) {
        return amqp_link_fail_status(l, doing, status);
    }
    l->broken = false;
    return open_channel(l);
}

/* *differs: the queue is there with other arguments. */
static enum err
declare(struct amqp_link *l, bool *differs, const struct want *w)
{
    char doing[64];
    snprintf(doing, sizeof doing, "declare %s", w->queue);
    const amqp_table_t arguments = {w->arguments, w->argument};
    amqp_queue_declare(l->conn, CHANNEL, amqp_cstring_bytes(w->queue), 0, 1, 0, 0, arguments);
    return check(l, differs, doing, AMQP_PRECONDITION_FAILED);
}

/* Whether the queues and, made after them, the exchange are there. */
static enum err
look(struct amqp_link *l, bool *missing)
{
    const char *const queues[] = {AMQP_QUEUE, AMQP_DEAD_QUEUE};
    enum err e = OK;
    *missing = false;
    for (size_t i = 0; i < 2 && e == OK && !*missing; i++) {
        amqp_queue_declare(l->conn, CHANNEL, amqp_cstring_bytes(queues[i]), 1, 0, 0, 0,
                           amqp_empty_table);
        e = check(l, missing, "look for the queues", AMQP_NOT_FOUND);
    }
    if (e != OK || *missing) {
        return e;
    }
    amqp_exchange_declare(l->conn, CHANNEL, amqp_cstring_bytes(AMQP_DEAD_EXCHANGE),
                          amqp_cstring_bytes("fanout"), 1, 0, 0, 0, amqp_empty_table);
    return check(l, missing, "look for " AMQP_DEAD_EXCHANGE, AMQP_NOT_FOUND);
}

/* l->failure holds RabbitMQ's words; what can be done about them is added. */
static enum err
refuse(struct amqp_link *l, const struct amqp_url *u, const char *queue, const char *setting)
{
    size_t len = strlen(l->failure);
    snprintf(l->failure + len, sizeof l->failure - len,
             "; %sdelete it once it is empty: rabbitmqctl delete_queue -p '%s' %s", setting,
             u->vhost, queue);
    l->broken = true;
    return ERR_CONFIG;
}

static enum err
declare_dead(struct amqp_link *l, const struct amqp_url *u)
{
    amqp_table_entry_t quorum = text_argument("x-queue-type", "quorum");
    bool differs;
    enum err e = declare(l, &differs, &(struct want){AMQP_DEAD_QUEUE, &quorum, 1});
    return e == OK && differs ? refuse(l, u, AMQP_DEAD_QUEUE, "") : e;
}

static enum err
declare_exchange(struct amqp_link *l)
{
    amqp_exchange_declare(l->conn, CHANNEL, amqp_cstring_bytes(AMQP_DEAD_EXCHANGE),
                          amqp_cstring_bytes("fanout"), 0, 1, 0, 0, amqp_empty_table);
    enum err e = amqp_link_check(l, "declare " AMQP_DEAD_EXCHANGE, amqp_get_rpc_reply(l->conn));
    if (e != OK) {
        return e;
    }
    amqp_queue_bind(l->conn, CHANNEL, amqp_cstring_bytes(AMQP_DEAD_QUEUE),
                    amqp_cstring_bytes(AMQP_DEAD_EXCHANGE), amqp_empty_bytes, amqp_empty_table);
    return amqp_link_check(l, "bind " AMQP_DEAD_QUEUE, amqp_get_rpc_reply(l->conn));
}

/* At least once to the dead letters needs all of these together. */
static enum err
declare_quorum(struct amqp_link *l, const struct amqp_url *u)
{
    amqp_table_entry_t argument[] = {
        text_argument("x-queue-type", "quorum"),
        text_argument("x-dead-letter-exchange", AMQP_DEAD_EXCHANGE),
        text_argument("x-dead-letter-strategy", "at-least-once"),
        text_argument("x-overflow", "reject-publish"),
        number_argument("x-delivery-limit", DELIVERY_LIMIT),
    };
    bool differs;
    l->has_dead_letters = true;
    const struct want want = {AMQP_QUEUE, argument, sizeof argument / sizeof *argument};
    enum err e = declare(l, &differs, &want);
    return e == OK && differs
               ? refuse(l, u, AMQP_QUEUE, "set amqp.queue_type=classic to use a classic queue, or ")
               : e;
}

/* Ours, or the older service's: durable, without arguments. */
static enum err
declare_classic(struct amqp_link *l, const struct amqp_url *u)
{
    amqp_table_entry_t argument[] = {
        text_argument("x-queue-type", "classic"),
        text_argument("x-dead-letter-exchange", AMQP_DEAD_EXCHANGE),
    };
    const struct want wants[] = {{AMQP_QUEUE, argument, 2}, {AMQP_QUEUE, NULL, 0}};
    bool differs = true;
    enum err e = OK;
    for (size_t i = 0; i < 2 && e == OK && differs; i++) {
        e = declare(l, &differs, &wants[i]);
        l->has_dead_letters = i == 0;
    }
    return e == OK && differs
               ? refuse(l, u, AMQP_QUEUE, "leave amqp.queue_type away to use a quorum queue, or ")
               : e;
}

static enum err
declare_all(struct amqp_link *l, const struct amqp_url *u)
{
    bool missing = false;
    enum err e = look(l, &missing);
    if (e == OK) {
        bool classic = strcmp(l->cfg->amqp_queue_type, "classic") == 0;
        e = classic ? declare_classic(l, u) : declare_quorum(l, u);
    }
    if (e == OK) {
        e = declare_dead(l, u);
    }
    if (e == OK && missing) {
        poll(NULL, 0, SETTLE_MS);
    }
    return e == OK ? declare_exchange(l) : e;
}

enum err
amqp_topology(struct amqp_link *l, const struct amqp_url *u)
{
    enum err e = open_channel(l);
    if (e == OK) {
        e = declare_all(l, u);
    }
    if (e != OK) {
        return e;
    }
    l->failure[0] = '\0';
    return amqp_link_check(l, "close a channel",
                           amqp_channel_close(l->conn, CHANNEL, AMQP_REPLY_SUCCESS));
}
