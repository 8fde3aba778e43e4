#include "cmd/bench_link.h"

#include <assert.h>
#include <stdlib.h>

#define CARRY_MAX ((size_t)256 * 1024)
#define BODY_LOOK 64 /* bytes of a batch answer in which its count stands */

#define BIT(state) (1u << (state))
static const unsigned link_may_go[] = {
    [LINK_CLOSED] = BIT(LINK_CONNECTING),
    [LINK_CONNECTING] = BIT(LINK_IDLE) | BIT(LINK_CLOSING),
    [LINK_IDLE] = BIT(LINK_BUSY) | BIT(LINK_CLOSING),
    [LINK_BUSY] = BIT(LINK_IDLE) | BIT(LINK_CLOSING),
    [LINK_CLOSING] = BIT(LINK_CLOSED),
};

static void
go(struct link *l, enum link_state to)
{
    assert(link_may_go[l->state] & BIT(to));
    l->state = to;
}

void
link_init(struct link *l, struct link_shared *shared, void *owner)
{
    *l = (struct link){.shared = shared, .owner = owner};
    buf_init(&l->carry, CARRY_MAX);
}

void
link_fini(struct link *l)
{
    assert(l->state == LINK_CLOSED);
    buf_fini(&l->carry);
}

static void
on_closed(uv_handle_t *handle)
{
    struct link *l = handle->data;
    go(l, LINK_CLOSED);
}

void
link_close(struct link *l)
{
    if (l->state != LINK_CLOSED && l->state != LINK_CLOSING) {
        go(l, LINK_CLOSING);
        buf_fini(&l->carry);
        uv_close(&l->io.handle, on_closed);
    }
}

static void
lose(struct link *l)
{
    bool busy = l->state == LINK_BUSY;
    link_close(l);
    l->shared->events->on_lost(l, busy);
}

/* The answer is read to its end. */
static void
finish(struct link *l)
{
    struct link_answer a = {l->answer.status, l->due_ns, l->accepted};
    bool closes = l->answer.close;
    go(l, LINK_IDLE);
    l->shared->events->on_answer(l, &a);
    if (closes && (l->state == LINK_IDLE || l->state == LINK_BUSY)) {
        lose(l);
    }
}

/* Takes the head of an answer from *in, and looks into its body. */
static enum answer_result
take_head(struct link *l, struct span *in)
{
    enum answer_result r = answer_read(&l->answer, *in);
    if (r != ANSWER_OK) {
        return r;
    }
    struct span body = {in->at + l->answer.head_len, in->len - l->answer.head_len};
    uint64_t look = l->answer.body_len < BODY_LOOK ? l->answer.body_len : BODY_LOOK;
    l->accepted = -1;
    if (l->shared->request.events > 1) {
        if (body.len < look) {
            return ANSWER_MORE;
        }
        l->accepted = answer_count((struct span){body.at, look}, "\"accepted\":");
    }
    l->body_left = l->answer.body_len;
    *in = body;
    return ANSWER_OK;
}

static void
skip_body(struct link *l, struct span *in)
{
    size_t n = l->body_left < in->len ? (size_t)l->body_left : in->len;
    *in = (struct span){in->at + n, in->len - n};
    l->body_left -= n;
    if (l->body_left == 0) {
        finish(l);
    }
}

/* Reads what it can; *in is what is left for later. */
static enum answer_result
take_answers(struct link *l, struct span *in)
{
    while (in->len > 0 && l->state == LINK_BUSY) {
        if (l->body_left == 0) {
            enum answer_result r = take_head(l, in);
            if (r != ANSWER_OK) {
                return r;
            }
        }
        skip_body(l, in);
    }
    bool unasked = in->len > 0 && l->state == LINK_IDLE;
    return unasked ? ANSWER_BAD : ANSWER_OK;
}

static void
take_bytes(struct link *l, struct span in)
{
    bool carried = l->carry.len > 0;
    if (carried) {
        buf_add_span(&l->carry, in);
        in = buf_span(&l->carry);
    }
    enum answer_result r = buf_ok(&l->carry) ? take_answers(l, &in) : ANSWER_BAD;
    if (l->state != LINK_IDLE && l->state != LINK_BUSY) {
        return;
    }
    if (carried) {
        buf_consume(&l->carry, l->carry.len - in.len);
    } else {
        buf_add_span(&l->carry, in);
    }
    if (r == ANSWER_BAD || !buf_ok(&l->carry)) {
        lose(l);
    }
}

static void
on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
    (void)hint;
    struct link *l = handle->data;
    *buf = uv_buf_init(l->shared->read, LINK_READ_BYTES);
}

static void
on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct link *l = stream->data;
    if (n < 0) {
        lose(l);
    } else if (n > 0) {
        take_bytes(l, (struct span){buf->base, (size_t)n});
    }
}

static void
on_connect(uv_connect_t *connect, int status)
{
    struct link *l = connect->data;
    if (status == 0 && l->state == LINK_CONNECTING) {
        status = uv_read_start(&l->io.stream, on_alloc, on_read);
    }
    if (l->state != LINK_CONNECTING) {
        return; /* closed meanwhile */
    }
    if (status != 0) {
        link_close(l);
        l->shared->events->on_refused(l, status);
        return;
    }
    go(l, LINK_IDLE);
    l->shared->events->on_open(l);
}

static int
begin_connect(struct link *l)
{
    const struct load_target *t = l->shared->target;
    if (t->address.ss_family == AF_UNIX) {
        uv_pipe_connect(&l->connect, &l->io.pipe, t->path, on_connect);
        return 0;
    }
    int error = uv_tcp_nodelay(&l->io.tcp, 1);
    return error != 0 ? error
                      : uv_tcp_connect(&l->connect, &l->io.tcp,
                                       (const struct sockaddr *)&t->address, on_connect);
}

void
link_open(struct link *l)
{
    bool local = l->shared->target->address.ss_family == AF_UNIX;
    int error = local ? uv_pipe_init(&l->shared->loop, &l->io.pipe, 0)
                      : uv_tcp_init(&l->shared->loop, &l->io.tcp);
    assert(error == 0); /* neither makes a socket yet */
    (void)error;
    l->io.handle.data = l;
    l->connect.data = l;
    l->body_left = 0;
    go(l, LINK_CONNECTING);
    error = begin_connect(l);
    if (error != 0) {
        link_close(l);
        l->shared->events->on_refused(l, error);
    }
}

static void
on_written(uv_write_t *write, int status)
{
    (void)status; /* a failed connection shows up in on_read, too */
    free(write);
}

/* What did not fit into the socket at once; the shared request will have changed by then. */
static int
write_rest(struct link *l, struct span rest)
{
    uv_write_t *write = malloc(sizeof *write + rest.len);
    if (write == NULL) {
        return UV_ENOMEM;
    }
    char *copy = (char *)(write + 1);
    memcpy(copy, rest.at, rest.len);
    uv_buf_t buf = uv_buf_init(copy, (unsigned)rest.len);
    int error = uv_write(write, &l->io.stream, &buf, 1, on_written);
    if (error != 0) {
        free(write);
    }
    return error;
}

void
link_send(struct link *l, int64_t due_ns)
{
    struct request *r = &l->shared->request;
    request_renew(r);
    go(l, LINK_BUSY);
    l->due_ns = due_ns;
    uv_buf_t buf = uv_buf_init(r->bytes.at, (unsigned)r->bytes.len);
    int n = uv_try_write(&l->io.stream, &buf, 1);
    size_t done = n > 0 ? (size_t)n : 0;
    /* Other errors of the socket are reported by on_read, in a turn of their own. */
    if ((n >= 0 || n == UV_EAGAIN) && done < r->bytes.len &&
        write_rest(l, (struct span){r->bytes.at + done, r->bytes.len - done}) != 0) {
        lose(l);
    }
}
