/* amqp_link_parts.h - the inside of a link, for the files of src/amqp alone; the only header that
 * includes librabbitmq's. */
#ifndef WEIR_AMQP_LINK_PARTS_H
#define WEIR_AMQP_LINK_PARTS_H

#include "amqp/amqp_link.h"
#include "amqp/amqp_url.h"
#include "amqp/amqp_watch.h"
#include "buf.h"

#include <amqp.h>

#define AMQP_CHANNEL 1
#define AMQP_CONNECT_S 5
#define AMQP_RPC_S 10
#define AMQP_NAME_MAX 255 /* a short string's bytes */
#define AMQP_BODY_MAX ((size_t)64 * 1024 * 1024)

/* A message that is being read: its frames may come with others between them. */
struct amqp_content {
    struct amqp_event event; /* NOTHING: none */
    bool has_header;
    uint64_t left; /* bytes of its body */
    char content_type[AMQP_NAME_MAX + 1];
    char message_id[AMQP_NAME_MAX + 1];
};

struct amqp_link {
    struct env *env;
    const struct config *cfg;
    amqp_connection_state_t conn;
    struct amqp_watch *watch;
    int heartbeat_s;
    int64_t call_ms;   /* limit of a publish */
    int64_t looked_ms; /* when amqp_link_next was called last; monotonic */
    uint64_t tag;      /* of the last message published */
    size_t window;
    bool broken;           /* nothing works any more */
    bool has_dead_letters; /* what is rejected goes to AMQP_DEAD_QUEUE */
    uint64_t depth;
    bool asked_depth;
    struct amqp_content content;
    struct buf body;
    char failure[512];
};

static inline amqp_bytes_t
amqp_bytes_of(struct span s)
{
    return (amqp_bytes_t){s.len, (void *)(uintptr_t)s.at};
}

/* Marks the link broken, keeps why, and returns e. */
enum err amqp_link_fail(struct amqp_link *l, enum err e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, for a status of the library. */
enum err amqp_link_fail_status(struct amqp_link *l, const char *doing, int status);
/* OK, or what an RPC's answer means: refusals by the broker are ERR_CONFIG where the same call
 * would be refused again. */
enum err amqp_link_check(struct amqp_link *l, const char *doing, amqp_rpc_reply_t reply) MUST_CHECK;
/* The broker's words as they may stand between quotes in a log line; returns out. */
const char *amqp_clean(char *out, size_t size, amqp_bytes_t text);

/* A socket with TLS, ready to be opened. NULL: failed, and l->failure says why. */
amqp_socket_t *amqp_tls_socket(struct amqp_link *l, const struct amqp_url *u);
/* After a failed handshake: whether the peer was at fault in a way that will not change. Adds
 * OpenSSL's reason to `out`. */
bool amqp_tls_refused(char *out, size_t size, int status);

/* Connects to one host, logs in, opens the channel. */
enum err amqp_connect(struct amqp_link *l, const struct amqp_url *u, const struct amqp_host *h,
                      int heartbeat_s) MUST_CHECK;
/* Declares the exchange and the queues, or says what stands in the way. */
enum err amqp_topology(struct amqp_link *l, const struct amqp_url *u) MUST_CHECK;

/* One frame; out->said stays NOTHING when it was no news or only part of a message. */
enum err amqp_take_frame(struct amqp_link *l, struct amqp_event *out,
                         const amqp_frame_t *frame) MUST_CHECK;

#endif
