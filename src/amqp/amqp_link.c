/* amqp_link.c - one connection to RabbitMQ.
 *
 * Traps of librabbitmq 0.11 and their guards:
 * 1. Writes have no deadline, and amqp_basic_publish may read without one (its "now" is for ever).
 *    → the watchdog (amqp_watch.c); publishers keep what is unconfirmed below the send buffer; a
 *    publish on a connection that was silent for two heartbeats is refused here, unsent.
 * 2. Heartbeats live only inside library calls. → amqp_link_next, every second.
 * 3. Frames wait in its own buffers, where poll(2) does not see them. → amqp_link_has_input.
 * 4. It closes its socket by itself on a timeout; the number may be reused. → the watchdog owns a
 *    duplicate.
 * 5. The last frame of a body of n × (frame_max - 8) bytes is sent as if more followed, and the
 *    kernel may keep it back (not where TCP_NODELAY is on and segments are underway). → push().
 * 6. Memory of frames is kept until it is released. → release(), after every frame.
 * 7. A deleted queue is not noticed. → consumer_cancel_notify (amqp_connect.c), and CANCELLED.
 * 8. TLS trusts nobody by default, and writes raise SIGPIPE. → amqp_tls.c; the process ignores it.
 * 9. Closing waits for an answer. → only in a limit, and not when something failed before. */
#include "amqp/amqp_link.h"

#include "amqp/amqp_link_parts.h"
#include "config.h"
#include "env.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CONSUMER_HEARTBEAT_S 60 /* a worker may be busy with its sink */
#define GOODBYE_MS 500
#define HEADERS_MAX 4
#define CALL_LEAST_MS 1000

static int64_t
now(const struct amqp_link *l)
{
    return l->env->mono_ms(l->env);
}

/* ---- failures ---- */

enum err
amqp_link_fail(struct amqp_link *l, enum err e, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(l->failure, sizeof l->failure, fmt, args);
    va_end(args);
    l->broken = true;
    return e;
}

enum err
amqp_link_fail_status(struct amqp_link *l, const char *doing, int status)
{
    if (amqp_watch_fired(l->watch)) {
        return amqp_link_fail(l, ERR_UNAVAILABLE, "%s: RabbitMQ did not react in time", doing);
    }
    return amqp_link_fail(l, ERR_UNAVAILABLE, "%s: %s", doing, amqp_error_string2(status));
}

const char *
amqp_clean(char *out, size_t size, amqp_bytes_t text)
{
    size_t len = text.len < size - 1 ? text.len : size - 1;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = ((const unsigned char *)text.bytes)[i];
        out[i] = (char)(c == '"' || c == '\\' ? '\'' : c < 0x20 || c > 0x7e ? '?' : c);
    }
    out[len] = '\0';
    return out;
}

static bool
is_for_good(uint16_t code)
{
    return code == AMQP_ACCESS_REFUSED || code == AMQP_NOT_FOUND ||
           code == AMQP_PRECONDITION_FAILED || code == AMQP_INVALID_PATH ||
           code == AMQP_NOT_ALLOWED || code == AMQP_NOT_IMPLEMENTED;
}

enum err
amqp_link_check(struct amqp_link *l, const char *doing, amqp_rpc_reply_t reply)
{
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
        return OK;
    }
    if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION || reply.reply.decoded == NULL) {
        return amqp_link_fail_status(l, doing, reply.library_error);
    }
    uint16_t code = 0;
    char words[300] = "";
    if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *c = reply.reply.decoded;
        code = c->reply_code;
        amqp_clean(words, sizeof words, c->reply_text);
    } else if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *c = reply.reply.decoded;
        code = c->reply_code;
        amqp_clean(words, sizeof words, c->reply_text);
    }
    return amqp_link_fail(l, is_for_good(code) ? ERR_CONFIG : ERR_UNAVAILABLE,
                          "RabbitMQ refuses to %s: %u %s", doing, code, words);
}

const char *
amqp_link_failure(const struct amqp_link *l)
{
    return l->failure;
}

/* ---- open and close ---- */

static int64_t
call_limit(const struct config *cfg)
{
    int64_t ms =
        cfg->amqp_confirm_timeout < AMQP_WATCHDOG_MS ? cfg->amqp_confirm_timeout : AMQP_WATCHDOG_MS;
    return ms > CALL_LEAST_MS ? ms : CALL_LEAST_MS;
}

static enum err
link_new(struct amqp_link **out, const struct config *cfg, struct env *env)
{
    struct amqp_link *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return ERR_NOMEM;
    }
    l->env = env;
    l->cfg = cfg;
    l->call_ms = call_limit(cfg);
    l->looked_ms = env->mono_ms(env);
    buf_init(&l->body, AMQP_BODY_MAX);
    *out = l;
    return OK;
}

struct opening {
    const struct config *cfg;
    struct env *env;
    int heartbeat_s;
    struct amqp_url url;
};

/* One host. On failure `why` says why. */
static enum err
open_host(struct amqp_link **out, const struct opening *o, size_t host, char why[512])
{
    struct amqp_link *l = NULL;
    enum err e = link_new(&l, o->cfg, o->env);
    if (e == OK) {
        e = amqp_connect(l, &o->url, &o->url.host[host], o->heartbeat_s);
    }
    if (e == OK) {
        *out = l;
        return OK;
    }
    bool told = l != NULL && l->failure[0] != '\0';
    snprintf(why, sizeof l->failure, "%s", told ? l->failure : err_text(e));
    if (l != NULL) {
        l->broken = true; /* no goodbye */
    }
    amqp_link_close(l);
    return e;
}

/* In turn until one answers. What cannot be mended by waiting is said before what can. */
static enum err
open_any(struct amqp_link **out, const struct opening *o, char *why, size_t why_size)
{
    enum err worst = OK;
    for (size_t i = 0; i < o->url.hosts; i++) {
        char text[512];
        enum err e = open_host(out, o, i, text);
        if (e == OK) {
            return OK;
        }
        if (worst == OK || (e == ERR_CONFIG && worst != ERR_CONFIG)) {
            worst = e;
            snprintf(why, why_size, "%s", text);
        }
    }
    return worst;
}

enum err
amqp_link_open(struct amqp_link **out, const struct config *cfg, struct env *env,
               enum amqp_role role, char *why, size_t why_size)
{
    struct opening o = {
        .cfg = cfg,
        .env = env,
        .heartbeat_s = role == AMQP_CONSUMER ? CONSUMER_HEARTBEAT_S : AMQP_HEARTBEAT_S,
    };
    const char *wrong = amqp_url_parse(&o.url, cfg->queue);
    if (wrong != NULL) {
        snprintf(why, why_size, "queue %s", wrong);
        return ERR_CONFIG;
    }
    return open_any(out, &o, why, why_size);
}

static void
say_goodbye(struct amqp_link *l)
{
    const struct timeval limit = {.tv_usec = GOODBYE_MS * 1000};
    if (amqp_set_rpc_timeout(l->conn, &limit) == AMQP_STATUS_OK) {
        amqp_connection_close(l->conn, AMQP_REPLY_SUCCESS); /* whatever it answers */
    }
}

void
amqp_link_close(struct amqp_link *l)
{
    if (l == NULL) {
        return;
    }
    if (l->watch != NULL) {
        amqp_watch_begin(l->watch, GOODBYE_MS);
        if (!l->broken) {
            say_goodbye(l);
        }
    }
    if (l->conn != NULL) {
        amqp_destroy_connection(l->conn);
    }
    amqp_watch_close(l->watch);
    buf_fini(&l->body);
    free(l);
}

int
amqp_link_fd(const struct amqp_link *l)
{
    return amqp_get_sockfd(l->conn);
}

size_t
amqp_link_window(const struct amqp_link *l)
{
    return l->window;
}

/* ---- out ---- */

static void
add_number(amqp_table_t *headers, const char *name, int64_t value)
{
    if (value <= 0) {
        return;
    }
    amqp_table_entry_t *e = &headers->entries[headers->num_entries++];
    e->key = amqp_cstring_bytes(name);
    e->value.kind = AMQP_FIELD_KIND_I64;
    e->value.value.i64 = value;
}

static void
add_headers(amqp_table_t *headers, const struct amqp_message *m)
{
    add_number(headers, "x-weir-accepted", m->accepted_ms);
    add_number(headers, "x-weir-attempt", m->attempt);
    add_number(headers, "x-weir-first-failed", m->first_failed_ms);
    if (m->error != NULL) {
        amqp_table_entry_t *e = &headers->entries[headers->num_entries++];
        e->key = amqp_cstring_bytes("x-weir-error");
        e->value.kind = AMQP_FIELD_KIND_UTF8;
        e->value.value.bytes = amqp_cstring_bytes(m->error);
    }
}

/* `tag` is our own: a returned message has nothing else by which it could be known again. */
static void
fill_properties(amqp_basic_properties_t *p, const struct amqp_message *m, struct span tag)
{
    p->_flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG;
    p->delivery_mode = AMQP_DELIVERY_PERSISTENT;
    p->correlation_id = amqp_bytes_of(tag);
    if (m->content_type != NULL) {
        p->_flags |= AMQP_BASIC_CONTENT_TYPE_FLAG;
        p->content_type = amqp_cstring_bytes(m->content_type);
    }
    if (m->message_id.len > 0 && m->message_id.len <= AMQP_NAME_MAX) {
        p->_flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
        p->message_id = amqp_bytes_of(m->message_id);
    }
    add_headers(&p->headers, m);
    if (p->headers.num_entries > 0) {
        p->_flags |= AMQP_BASIC_HEADERS_FLAG;
    }
}

/* True: so long silent that amqp_basic_publish would read, and nothing is there to be read. */
static bool
is_silent(struct amqp_link *l)
{
    int64_t silent_ms = now(l) - l->looked_ms;
    if (l->heartbeat_s == 0 || silent_ms < (int64_t)l->heartbeat_s * 1000) {
        return false;
    }
    struct pollfd p = {.fd = amqp_link_fd(l), .events = POLLIN};
    return !amqp_link_has_input(l) && poll(&p, 1, 0) == 0;
}

static void
push(struct amqp_link *l, size_t body_len)
{
    size_t frame = (size_t)amqp_get_frame_max(l->conn) - 8;
    const int one = 1;
    if (body_len > 0 && body_len % frame == 0) { /* when it fails, 0.2 s are lost and no more */
        setsockopt(amqp_link_fd(l), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
}

enum err
amqp_link_publish(struct amqp_link *l, uint64_t *tag, const struct amqp_message *m)
{
    if (l->broken) {
        return ERR_UNAVAILABLE;
    }
    if (is_silent(l)) {
        return amqp_link_fail(l, ERR_UNAVAILABLE, "publish: RabbitMQ was silent for too long");
    }
    char number[24];
    int len = snprintf(number, sizeof number, "%" PRIu64, l->tag + 1);
    amqp_table_entry_t headers[HEADERS_MAX];
    amqp_basic_properties_t properties = {.headers = {0, headers}};
    fill_properties(&properties, m, (struct span){number, (size_t)len});
    amqp_watch_begin(l->watch, l->call_ms);
    int status = amqp_basic_publish(l->conn, AMQP_CHANNEL, amqp_cstring_bytes(m->exchange),
                                    amqp_cstring_bytes(m->routing_key),
                                    1 /* mandatory: an unroutable message comes back */, 0,
                                    &properties, amqp_bytes_of(m->body));
    push(l, m->body.len);
    amqp_watch_end(l->watch);
    if (status != AMQP_STATUS_OK) {
        return amqp_link_fail_status(l, "publish", status);
    }
    *tag = ++l->tag;
    return OK;
}

/* ---- in ---- */

static void
release(struct amqp_link *l)
{
    amqp_maybe_release_buffers_on_channel(l->conn, 0);
    amqp_maybe_release_buffers_on_channel(l->conn, AMQP_CHANNEL);
}

bool
amqp_link_has_input(struct amqp_link *l)
{
    return !l->broken && (amqp_frames_enqueued(l->conn) || amqp_data_in_buffer(l->conn));
}

/* *came false: the time ran out. */
static enum err
wait_frame(struct amqp_link *l, bool *came, amqp_frame_t *frame, int64_t wait_ms)
{
    const struct timeval tv = {wait_ms / 1000, wait_ms % 1000 * 1000};
    amqp_watch_begin(l->watch, wait_ms + AMQP_WATCHDOG_MS);
    int status = amqp_simple_wait_frame_noblock(l->conn, frame, &tv);
    amqp_watch_end(l->watch);
    l->looked_ms = now(l);
    *came = status == AMQP_STATUS_OK;
    return *came || status == AMQP_STATUS_TIMEOUT ? OK : amqp_link_fail_status(l, "read", status);
}

enum err
amqp_link_next(struct amqp_link *l, struct amqp_event *out, int wait_ms)
{
    *out = (struct amqp_event){.said = AMQP_SAID_NOTHING};
    if (l->broken) {
        return ERR_UNAVAILABLE;
    }
    int64_t until_ms = now(l) + wait_ms;
    bool came = true;
    enum err e = OK;
    while (e == OK && came && out->said == AMQP_SAID_NOTHING) {
        amqp_frame_t frame;
        int64_t left_ms = until_ms - now(l);
        e = wait_frame(l, &came, &frame, left_ms > 0 ? left_ms : 0);
        if (e == OK && came) {
            e = amqp_take_frame(l, out, &frame);
            release(l);
        }
    }
    return e;
}

/* ---- the queue ---- */

enum err
amqp_link_ask_depth(struct amqp_link *l)
{
    if (l->broken || l->asked_depth) {
        return l->broken ? ERR_UNAVAILABLE : OK;
    }
    amqp_queue_declare_t ask = {.queue = amqp_cstring_bytes(AMQP_QUEUE), .passive = 1};
    amqp_watch_begin(l->watch, l->call_ms);
    int status = amqp_send_method(l->conn, AMQP_CHANNEL, AMQP_QUEUE_DECLARE_METHOD, &ask);
    amqp_watch_end(l->watch);
    l->asked_depth = true;
    return status == AMQP_STATUS_OK ? OK : amqp_link_fail_status(l, "ask for the depth", status);
}

uint64_t
amqp_link_depth(const struct amqp_link *l)
{
    return l->depth;
}

enum err
amqp_link_consume(struct amqp_link *l, uint16_t prefetch)
{
    if (l->broken) {
        return ERR_UNAVAILABLE;
    }
    amqp_watch_begin(l->watch, AMQP_WATCHDOG_MS);
    amqp_basic_qos(l->conn, AMQP_CHANNEL, 0, prefetch, 0);
    enum err e = amqp_link_check(l, "set the prefetch", amqp_get_rpc_reply(l->conn));
    if (e == OK) {
        amqp_basic_consume(l->conn, AMQP_CHANNEL, amqp_cstring_bytes(AMQP_QUEUE), amqp_empty_bytes,
                           0, 0, 0, amqp_empty_table);
        e = amqp_link_check(l, "consume " AMQP_QUEUE, amqp_get_rpc_reply(l->conn));
    }
    amqp_watch_end(l->watch);
    return e;
}

enum err
amqp_link_ack(struct amqp_link *l, uint64_t tag, bool multiple)
{
    if (l->broken) {
        return ERR_UNAVAILABLE;
    }
    amqp_watch_begin(l->watch, l->call_ms);
    int status = amqp_basic_ack(l->conn, AMQP_CHANNEL, tag, multiple);
    amqp_watch_end(l->watch);
    return status == AMQP_STATUS_OK ? OK : amqp_link_fail_status(l, "ack", status);
}

enum err
amqp_link_reject(struct amqp_link *l, uint64_t tag)
{
    if (l->broken) {
        return ERR_UNAVAILABLE;
    }
    if (!l->has_dead_letters) {
        return amqp_link_fail(l, ERR_UNAVAILABLE,
                              "a message cannot be dead-lettered: " AMQP_QUEUE
                              " has no dead-letter exchange, and RabbitMQ would drop it");
    }
    amqp_watch_begin(l->watch, l->call_ms);
    int status = amqp_basic_reject(l->conn, AMQP_CHANNEL, tag, 0);
    amqp_watch_end(l->watch);
    return status == AMQP_STATUS_OK ? OK : amqp_link_fail_status(l, "reject", status);
}
