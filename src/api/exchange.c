/* exchange.c - the sending side of a connection: answers in the order of their requests.
 * An answer is built in the memory of its exchange and sent from there: all that are due go out in
 * one write. What the socket does not take is uv's until it is written, and counted in
 * api->unsent. */
#include "api/exchange.h"

#include "api/http_conn.h"
#include "api/problem.h"

#include <assert.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define HEAD_BYTES 256 /* more than any status line with our own fields */

static struct answer *
answer_new(struct server_loop *loop)
{
    struct answer *a = loop->free_answers;
    if (a == NULL) {
        return calloc(1, sizeof *a);
    }
    loop->free_answers = a->next;
    loop->n_free_answers--;
    struct buf bytes = a->bytes;
    *a = (struct answer){.bytes = bytes};
    return a;
}

static void
answer_free(struct server_loop *loop, struct answer *a)
{
    buf_fini(&a->fields);
    if (loop->n_free_answers >= ANSWERS_KEPT) {
        buf_fini(&a->bytes);
        free(a);
        return;
    }
    if (a->bytes.cap > ANSWER_BYTES_KEPT) {
        buf_fini(&a->bytes);
    }
    buf_reset(&a->bytes);
    a->next = loop->free_answers;
    loop->free_answers = a;
    loop->n_free_answers++;
}

void
answers_free_kept(struct server_loop *loop)
{
    while (loop->free_answers != NULL) {
        struct answer *a = loop->free_answers;
        loop->free_answers = a->next;
        buf_fini(&a->bytes);
        free(a);
    }
    loop->n_free_answers = 0;
}

struct answer *
answer_add(struct conn *c, unsigned flags)
{
    struct answer *a = answer_new(c->loop);
    if (a == NULL) {
        return NULL;
    }
    a->x.loop = &c->loop->base;
    a->conn = c;
    a->flags = flags;
    if (c->last != NULL) {
        c->last->next = a;
    } else {
        c->first = a;
    }
    c->last = a;
    c->n_answers++;
    c->loop->in_flight++;
    return a;
}

static struct answer *
pop(struct conn *c)
{
    struct answer *a = c->first;
    c->first = a->next;
    if (c->first == NULL) {
        c->last = NULL;
    }
    a->next = NULL;
    c->n_answers--;
    return a;
}

static void
drop_first(struct conn *c)
{
    struct answer *a = pop(c);
    c->answer_bytes -= a->bytes.len;
    answer_free(c->loop, a);
    if (c->first == NULL) {
        c->since_ms = c->state == CONN_IDLE ? c->loop->now_ms : c->since_ms;
    }
}

/* Answers in uv's hands stay until uv gives them back; those that handlers still owe stay with
 * them. */
void
answers_drop(struct conn *c)
{
    struct answer *a = c->first;
    for (unsigned i = 0; i < c->n_writing; i++) {
        c->last = a;
        a = a->next;
    }
    if (c->n_writing > 0) {
        c->last->next = NULL;
    } else {
        c->first = c->last = NULL;
    }
    while (a != NULL) {
        struct answer *next = a->next;
        a->next = NULL;
        a->conn = NULL;
        if (a->flags & ANSWER_DONE) {
            answer_free(c->loop, a);
        }
        a = next;
    }
    c->n_answers = c->n_writing;
}

/* ---- building ---- */

void
exchange_header(struct exchange *x, const char *name, const char *value)
{
    struct answer *a = (struct answer *)x;
    buf_add_text(&a->fields, name);
    buf_add_text(&a->fields, ": ");
    buf_add_text(&a->fields, value);
    buf_add_text(&a->fields, "\r\n");
}

static void
add_number(struct buf *out, size_t n)
{
    char digits[24];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    buf_add(out, digits + at, sizeof digits - at);
}

static void
build(struct answer *a, int status, const char *content_type, struct span body)
{
    struct buf *out = &a->bytes;
    if (buf_reserve(out, HEAD_BYTES + a->fields.len + body.len) != OK) {
        return; /* out->failed says it */
    }
    buf_add_text(out, "HTTP/1.1 ");
    add_number(out, (size_t)status);
    buf_add_text(out, " ");
    buf_add_text(out, http_status_text(status));
    buf_add_text(out, "\r\nContent-Type: ");
    buf_add_text(out, content_type);
    buf_add_text(out, "\r\nContent-Length: ");
    add_number(out, body.len);
    buf_add_text(out, "\r\n");
    buf_add_span(out, buf_span(&a->fields));
    if (a->flags & ANSWER_CLOSE) {
        buf_add_text(out, "Connection: close\r\n");
    } else if (a->flags & ANSWER_KEEP_ALIVE) {
        buf_add_text(out, "Connection: keep-alive\r\n");
    }
    buf_add_text(out, "\r\n");
    if (!(a->flags & ANSWER_NO_BODY)) {
        buf_add_span(out, body);
    }
}

/* While the process stops, the answer to a connection's last request closes it. */
static bool
is_the_end(const struct answer *a)
{
    const struct conn *c = a->conn;
    return c->loop->draining && a == c->last && c->state == CONN_IDLE;
}

void
exchange_reply(struct exchange *x, int status, const char *content_type, struct span body)
{
    struct answer *a = (struct answer *)x;
    struct server_loop *loop = (struct server_loop *)x->loop;
    assert(!(a->flags & ANSWER_DONE) && loop->in_flight > 0);
    loop->in_flight--;
    a->flags |= ANSWER_DONE;
    struct conn *c = a->conn;
    if (c == NULL) {
        answer_free(loop, a);
        return;
    }
    if (is_the_end(a)) {
        a->flags |= ANSWER_CLOSE;
        conn_go(c, CONN_LAST);
    }
    struct stats *stats = loop->base.parts->stats;
    stats_add(&stats->http_requests, 1);
    if (status >= 400) {
        stats_add(&stats->http_errors, 1);
    }
    build(a, status, content_type, body);
    if (!buf_ok(&a->fields) || !buf_ok(&a->bytes)) {
        conn_cut(c); /* no memory for the answer: the client cannot be told */
        return;
    }
    c->answer_bytes += a->bytes.len;
    conn_mark(c);
}

/* RFC 9110 section 10.1.1: the client waits for this before it sends the body. */
void
answer_continue(struct conn *c)
{
    struct answer *a = answer_add(c, ANSWER_DONE);
    if (a == NULL) {
        conn_cut(c);
        return;
    }
    c->loop->in_flight--; /* no handler owes it */
    buf_add_text(&a->bytes, "HTTP/1.1 100 Continue\r\n\r\n");
    if (!buf_ok(&a->bytes)) {
        conn_cut(c);
        return;
    }
    c->answer_bytes += a->bytes.len;
    conn_mark(c);
}

/* ---- sending ---- */

struct due {
    uv_buf_t bufs[PIPELINE_MAX];
    unsigned n;
    size_t bytes;
};

/* What is due: complete answers from the front of the line. */
static void
gather(const struct conn *c, struct due *due)
{
    due->n = 0;
    due->bytes = 0;
    for (struct answer *a = c->first; a != NULL && due->n < PIPELINE_MAX; a = a->next) {
        if (!(a->flags & ANSWER_DONE)) {
            return;
        }
        size_t left = a->bytes.len - a->sent;
        due->bufs[due->n++] = uv_buf_init(a->bytes.at + a->sent, (unsigned)left);
        due->bytes += left;
    }
}

static void
drop_sent(struct conn *c, size_t sent)
{
    while (sent > 0) {
        struct answer *a = c->first;
        size_t left = a->bytes.len - a->sent;
        if (sent < left) {
            a->sent += sent;
            return;
        }
        sent -= left;
        drop_first(c);
    }
}

static void
count_unsent(struct conn *c, size_t n)
{
    atomic_fetch_add(&c->loop->api->unsent, n - c->unsent); /* wraps when it shrinks */
    c->unsent = n;
}

static void
on_written(uv_write_t *req, int status)
{
    struct conn *c = req->handle->data;
    assert(c->magic == CONN_MAGIC);
    server_mark_time(c->loop);
    for (; c->n_writing > 0; c->n_writing--) {
        drop_first(c);
    }
    count_unsent(c, 0);
    if (c->state == CONN_CLOSED) {
        return;
    }
    if (status != 0) {
        conn_close(c);
        return;
    }
    conn_mark(c);
    server_run_dirty(c->loop);
}

/* What the client has not taken yet, with what lies in the kernel: a socket buffer of megabytes
 * takes nothing from us for seconds while a slow client empties it. */
static size_t
bytes_left(struct conn *c)
{
    int fd;
    int in_kernel = 0;
    if (uv_fileno(&c->io.handle, &fd) != 0 || ioctl(fd, SIOCOUTQ, &in_kernel) != 0) {
        in_kernel = 0;
    }
    return uv_stream_get_write_queue_size(&c->io.stream) + (size_t)in_kernel;
}

/* The socket is full: the rest is uv's to write. */
static void
write_rest(struct conn *c, struct due *due)
{
    gather(c, due);
    if (uv_write(&c->req.write, &c->io.stream, due->bufs, due->n, on_written) != 0) {
        conn_close(c);
        return;
    }
    c->n_writing = due->n;
    c->write_left = bytes_left(c);
    c->write_ms = c->loop->now_ms;
    count_unsent(c, due->bytes);
    const struct api *api = c->loop->api;
    if (atomic_load(&api->unsent) > api->unsent_cut) {
        conn_cut(c);
    }
}

void
answers_send(struct conn *c)
{
    while (c->n_writing == 0) {
        struct due due;
        gather(c, &due);
        if (due.n == 0) {
            return;
        }
        int rc = uv_try_write(&c->io.stream, due.bufs, due.n);
        if (rc < 0 && rc != UV_EAGAIN) {
            conn_close(c);
            return;
        }
        size_t sent = rc > 0 ? (size_t)rc : 0;
        drop_sent(c, sent);
        if (sent < due.bytes) {
            write_rest(c, &due);
            return;
        }
    }
}

bool
answers_stuck(struct conn *c)
{
    if (c->n_writing == 0) {
        return false;
    }
    size_t left = bytes_left(c);
    if (left != c->write_left) {
        c->write_left = left;
        c->write_ms = c->loop->now_ms;
    }
    return c->loop->now_ms - c->write_ms >= c->loop->base.parts->cfg->http_write_timeout;
}
