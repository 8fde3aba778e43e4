#include "amqp/amqp_link_parts.h"

#include <amqp_tcp_socket.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define SEND_BUFFER_BYTES (1024 * 1024)
#define DEAD_PEER_MS 30000 /* unacknowledged data, or an unanswered probe of a closed window */
#define FRAME_MAX 131072
#define CHANNEL_MAX 16

static amqp_table_entry_t
entry(const char *key, uint8_t kind)
{
    amqp_table_entry_t e = {.key = amqp_cstring_bytes(key)};
    e.value.kind = kind;
    return e;
}

static amqp_table_entry_t
text_entry(const char *key, const char *value)
{
    amqp_table_entry_t e = entry(key, AMQP_FIELD_KIND_UTF8);
    e.value.value.bytes = amqp_cstring_bytes(value);
    return e;
}

static amqp_table_entry_t
true_entry(const char *key)
{
    amqp_table_entry_t e = entry(key, AMQP_FIELD_KIND_BOOLEAN);
    e.value.value.boolean = 1;
    return e;
}

/* Without connection.blocked and consumer_cancel_notify the broker would not tell us. */
static amqp_rpc_reply_t
log_in(struct amqp_link *l, const struct amqp_url *u, int heartbeat_s)
{
    amqp_table_entry_t capable[] = {
        true_entry("authentication_failure_close"),
        true_entry("connection.blocked"),
        true_entry("consumer_cancel_notify"),
        true_entry("publisher_confirms"),
        true_entry("basic.nack"),
    };
    amqp_table_entry_t about[] = {
        text_entry("product", "weir"),
        text_entry("version", WEIR_VERSION),
        text_entry("information", ""),
        entry("capabilities", AMQP_FIELD_KIND_TABLE),
    };
    about[3].value.value.table = (amqp_table_t){sizeof capable / sizeof *capable, capable};
    const amqp_table_t properties = {sizeof about / sizeof *about, about};
    return amqp_login_with_properties(l->conn, u->vhost, CHANNEL_MAX, FRAME_MAX, heartbeat_s,
                                      &properties, AMQP_SASL_METHOD_PLAIN, u->user, u->password);
}

/* How many bytes may be unconfirmed so that a write never waits: half of what the kernel says it
 * holds, since it counts its own overhead in it. */
static void
read_window(struct amqp_link *l, int fd)
{
    int bytes = 0;
    socklen_t size = sizeof bytes;
    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &size) != 0 || bytes < 0) {
        bytes = 0;
    }
    l->window = (size_t)bytes / 2;
}

static enum err
set_options(struct amqp_link *l)
{
    const struct {
        int level, name, value;
    } options[] = {
        {SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 15},
        {IPPROTO_TCP, TCP_KEEPINTVL, 5},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, DEAD_PEER_MS},
    };
    int fd = amqp_get_sockfd(l->conn);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                       sizeof options[i].value) != 0) {
            return amqp_link_fail(l, ERR_UNAVAILABLE, "a socket option cannot be set: %s",
                                  strerrordesc_np(errno));
        }
    }
    read_window(l, fd);
    return OK;
}

static enum err
fail_connect(struct amqp_link *l, const struct amqp_host *h, int status)
{
    char why[256];
    int error = errno;
    if (status <= AMQP_STATUS_SSL_ERROR && status > _AMQP_STATUS_SSL_NEXT_VALUE) {
        bool refused = amqp_tls_refused(why, sizeof why, status);
        return amqp_link_fail(l, refused ? ERR_CONFIG : ERR_UNAVAILABLE,
                              "RabbitMQ at %s:%d cannot be trusted: %s", h->name, h->port, why);
    }
    const char *text = amqp_error_string2(status);
    if (status == AMQP_STATUS_TIMEOUT) {
        text = "no answer in time";
    } else if (status == AMQP_STATUS_SOCKET_ERROR) {
        bool told = error != 0 && error != EINPROGRESS;
        text = told ? strerrordesc_np(error) : "connection refused, or no route";
    }
    return amqp_link_fail(l, ERR_UNAVAILABLE, "RabbitMQ at %s:%d cannot be reached: %s", h->name,
                          h->port, text);
}

static enum err
open_socket(struct amqp_link *l, const struct amqp_url *u, const struct amqp_host *h)
{
    const struct timeval limit = {.tv_sec = AMQP_CONNECT_S};
    amqp_socket_t *s = u->tls ? amqp_tls_socket(l, u) : amqp_tcp_socket_new(l->conn);
    if (s == NULL) {
        l->broken = true;
        return u->tls ? ERR_CONFIG : ERR_NOMEM;
    }
    errno = 0;
    int status = amqp_socket_open_noblock(s, h->name, h->port, &limit);
    if (status != AMQP_STATUS_OK) {
        return fail_connect(l, h, status);
    }
    l->watch = amqp_watch_open(l->env, amqp_get_sockfd(l->conn));
    return l->watch == NULL ? ERR_NOMEM : set_options(l);
}

static enum err
speak(struct amqp_link *l, const struct amqp_url *u, int heartbeat_s)
{
    enum err e = amqp_link_check(l, "log in", log_in(l, u, heartbeat_s));
    if (e != OK) {
        return e;
    }
    l->heartbeat_s = amqp_get_heartbeat(l->conn);
    e = amqp_topology(l, u);
    if (e != OK) {
        return e;
    }
    amqp_channel_open(l->conn, AMQP_CHANNEL);
    e = amqp_link_check(l, "open a channel", amqp_get_rpc_reply(l->conn));
    if (e != OK) {
        return e;
    }
    amqp_confirm_select(l->conn, AMQP_CHANNEL);
    return amqp_link_check(l, "turn confirms on", amqp_get_rpc_reply(l->conn));
}

/* Which of the hosts it was. */
static void
name_host(struct amqp_link *l, const struct amqp_host *h)
{
    char said[sizeof l->failure];
    memcpy(said, l->failure, sizeof said);
    snprintf(l->failure, sizeof l->failure, "RabbitMQ at %.120s:%d does not answer: %.250s",
             h->name, h->port, said);
}

enum err
amqp_connect(struct amqp_link *l, const struct amqp_url *u, const struct amqp_host *h,
             int heartbeat_s)
{
    const struct timeval hello = {.tv_sec = AMQP_CONNECT_S};
    const struct timeval rpc = {.tv_sec = AMQP_RPC_S};
    l->conn = amqp_new_connection();
    if (l->conn == NULL || amqp_set_handshake_timeout(l->conn, &hello) != AMQP_STATUS_OK ||
        amqp_set_rpc_timeout(l->conn, &rpc) != AMQP_STATUS_OK) {
        return ERR_NOMEM;
    }
    enum err e = open_socket(l, u, h);
    if (e != OK) {
        return e;
    }
    amqp_watch_begin(l->watch, AMQP_WATCHDOG_MS);
    e = speak(l, u, heartbeat_s);
    if (e == ERR_UNAVAILABLE) {
        name_host(l, h);
    }
    amqp_watch_end(l->watch);
    amqp_maybe_release_buffers(l->conn);
    return e;
}
