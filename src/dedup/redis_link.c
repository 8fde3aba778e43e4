#include "dedup/redis_link.h"

#include "dedup/redis_url.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

struct redis_link {
    struct env *env; /* borrowed */
    struct redis_url url;
    size_t at;         /* the address in use */
    redisContext *ctx; /* NULL: not connected. Not blocking: all waiting is ours, in await() */
    redisReply *reply;
    struct buf login; /* what each new connection says first */
    size_t login_replies;
    bool elsewhere; /* this address said that another one should be asked */
    int64_t until_ms;
    size_t received; /* bytes, in this call */
    enum redis_outcome outcome;
    char why[256];
};

/* ---- commands ---- */

/* "*12\r\n": by hand, since a batch has thousands of them. */
static void
add_header(struct buf *out, char kind, size_t n)
{
    char text[24];
    char *at = text + sizeof text;
    *--at = '\n';
    *--at = '\r';
    do {
        *--at = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    *--at = kind;
    buf_add(out, at, (size_t)(text + sizeof text - at));
}

void
redis_command(struct buf *out, size_t args)
{
    add_header(out, '*', args);
}

void
redis_argument(struct buf *out, struct span arg)
{
    add_header(out, '$', arg.len);
    buf_add_span(out, arg);
    buf_add(out, "\r\n", 2);
}

/* ---- what an error means ---- */

static const struct {
    const char *code;
    enum redis_outcome outcome;
    bool elsewhere;
} errors[] = {
    {"OOM", REDIS_READS, false},
    {"MISCONF", REDIS_READS, false},
    {"NOREPLICAS", REDIS_READS, false},
    {"READONLY", REDIS_READS, true},
    {"LOADING", REDIS_AWAY, true},
    {"MASTERDOWN", REDIS_AWAY, true},
    {"NOAUTH", REDIS_DENIED, false},
    {"WRONGPASS", REDIS_DENIED, false},
    {"NOPERM", REDIS_DENIED, false},
    {"ERR AUTH", REDIS_DENIED, false},
    {"ERR DB index", REDIS_DENIED, false},
    {"ERR The user executing the script", REDIS_DENIED, false},
};

/* Redis 6 wraps what a script met: "ERR Error running script …: -OOM command not allowed". */
static bool
has_code(const char *text, const char *code)
{
    size_t len = strlen(code);
    if (strncmp(text, code, len) == 0) {
        return true;
    }
    const char *inner = strstr(text, ": -");
    return inner != NULL && strncmp(inner + 3, code, len) == 0;
}

/* The gravest is kept, and of equal ones the first. */
static void
note(struct redis_link *l, enum redis_outcome outcome, const char *text)
{
    if (outcome <= l->outcome) {
        return;
    }
    l->outcome = outcome;
    const struct redis_address *a = &l->url.address[l->at];
    if (a->port == 0) {
        snprintf(l->why, sizeof l->why, "%s: %s", a->host, text);
    } else {
        snprintf(l->why, sizeof l->why, "%s:%d: %s", a->host, a->port, text);
    }
}

static void
note_error(struct redis_link *l, const char *text)
{
    enum redis_outcome outcome = REDIS_AWAY;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        if (has_code(text, errors[i].code)) {
            outcome = errors[i].outcome;
            l->elsewhere |= errors[i].elsewhere && l->url.n > 1;
            break;
        }
    }
    note(l, outcome, text);
}

/* ---- the connection ---- */

static void
drop_reply(struct redis_link *l)
{
    if (l->reply != NULL) {
        freeReplyObject(l->reply);
        l->reply = NULL;
    }
}

static void
drop(struct redis_link *l)
{
    if (l->ctx != NULL) {
        redisFree(l->ctx);
        l->ctx = NULL;
    }
}

/* False: not before the deadline. */
static bool
await(struct redis_link *l, short events)
{
    struct pollfd p = {.fd = l->ctx->fd, .events = events};
    int n = -1;
    do {
        int64_t left_ms = l->until_ms - l->env->mono_ms(l->env);
        n = left_ms > 0 ? poll(&p, 1, (int)left_ms) : 0;
    } while (n < 0 && errno == EINTR);
    if (n == 0) {
        note(l, REDIS_AWAY, "no answer in time");
    } else if (n < 0) {
        note(l, REDIS_AWAY, strerror(errno));
    }
    return n > 0;
}

static bool
connected(struct redis_link *l)
{
    if (l->ctx->err != 0) {
        note(l, REDIS_AWAY, l->ctx->errstr);
        return false;
    }
    if (!await(l, POLLOUT)) {
        return false;
    }
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(l->ctx->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
    }
    if (error != 0) {
        note(l, REDIS_AWAY, strerror(error));
    }
    return error == 0;
}

static bool
append(struct redis_link *l, struct span commands)
{
    if (redisAppendFormattedCommand(l->ctx, commands.at, commands.len) != REDIS_OK) {
        note(l, REDIS_AWAY, l->ctx->errstr);
        return false;
    }
    return true;
}

/* The login travels with the first commands, in one write: a new connection costs no round trip
 * more than its handshake. */
static bool
connect_anew(struct redis_link *l)
{
    const struct redis_address *a = &l->url.address[l->at];
    l->ctx =
        a->port == 0 ? redisConnectUnixNonBlock(a->host) : redisConnectNonBlock(a->host, a->port);
    if (l->ctx == NULL) {
        note(l, REDIS_AWAY, "out of memory");
        return false;
    }
    return connected(l) && (l->login_replies == 0 || append(l, buf_span(&l->login)));
}

static bool
send_all(struct redis_link *l)
{
    int done = 0;
    while (!done) {
        if (redisBufferWrite(l->ctx, &done) != REDIS_OK) {
            note(l, REDIS_AWAY, l->ctx->errstr);
            return false;
        }
        if (!done && !await(l, POLLOUT)) {
            return false;
        }
    }
    return true;
}

static bool
receive_more(struct redis_link *l)
{
    if (!await(l, POLLIN)) {
        return false;
    }
    size_t before = l->ctx->reader->len;
    if (redisBufferRead(l->ctx) != REDIS_OK) {
        note(l, REDIS_AWAY, l->ctx->errstr);
        return false;
    }
    l->received += l->ctx->reader->len - before;
    if (l->received > REDIS_REPLY_MAX) {
        note(l, REDIS_AWAY, "the replies are too large");
        return false;
    }
    return true;
}

static bool
receive(struct redis_link *l)
{
    drop_reply(l);
    void *reply = NULL;
    do {
        if (redisGetReplyFromReader(l->ctx, &reply) != REDIS_OK) {
            note(l, REDIS_AWAY, l->ctx->errstr);
            return false;
        }
    } while (reply == NULL && receive_more(l));
    l->reply = reply;
    if (l->reply != NULL && l->reply->type == REDIS_REPLY_ERROR) {
        note_error(l, l->reply->str);
    }
    return l->reply != NULL;
}

/* True: all replies were read, whatever they say. */
static bool
exchange(struct redis_link *l, struct span commands, size_t replies)
{
    l->outcome = REDIS_ANSWERED;
    l->elsewhere = false;
    l->received = 0;
    if (l->ctx == NULL) {
        if (!connect_anew(l)) {
            return false;
        }
        replies += l->login_replies;
    }
    if (!append(l, commands) || !send_all(l)) {
        return false;
    }
    while (replies > 0 && receive(l)) {
        replies--;
    }
    return replies == 0;
}

/* ---- the calls ---- */

/* A connection that was there before may have been closed meanwhile: that says nothing of the
 * address, which is asked again. Sending commands again is harmless: they set what they set before. */
enum redis_outcome
redis_link_call(struct redis_link *l, struct span commands, size_t replies, int64_t timeout_ms)
{
    l->until_ms = l->env->mono_ms(l->env) + timeout_ms;
    for (size_t left = l->url.n; left > 0;) {
        bool fresh = l->ctx == NULL;
        bool whole = exchange(l, commands, replies);
        if (whole && !l->elsewhere) {
            break;
        }
        drop(l);
        if (fresh || l->elsewhere) {
            l->at = (l->at + 1) % l->url.n;
        }
        left -= fresh;
        if (l->env->mono_ms(l->env) >= l->until_ms) {
            break;
        }
    }
    if (l->outcome >= REDIS_AWAY) {
        drop(l); /* whatever it was, a new connection is a new beginning */
    }
    return l->outcome;
}

const char *
redis_link_why(const struct redis_link *l)
{
    return l->why;
}

size_t
redis_link_items(const struct redis_link *l)
{
    bool is_list = l->reply != NULL && l->reply->type == REDIS_REPLY_ARRAY;
    return is_list ? l->reply->elements : 0;
}

struct span
redis_link_item(const struct redis_link *l, size_t i)
{
    const redisReply *item = l->reply->element[i];
    bool is_text = item->type == REDIS_REPLY_STRING || item->type == REDIS_REPLY_STATUS;
    return is_text ? (struct span){item->str, item->len} : (struct span){NULL, 0};
}

/* ---- open and close ---- */

static void
make_login(struct redis_link *l)
{
    const struct redis_url *u = &l->url;
    if (u->password != NULL) {
        redis_command(&l->login, u->user == NULL ? 2 : 3);
        redis_argument(&l->login, SPAN("AUTH"));
        if (u->user != NULL) {
            redis_argument(&l->login, span_of(u->user));
        }
        redis_argument(&l->login, span_of(u->password));
        l->login_replies++;
    }
    if (u->db != 0) {
        char db[16];
        snprintf(db, sizeof db, "%d", u->db);
        redis_command(&l->login, 2);
        redis_argument(&l->login, SPAN("SELECT"));
        redis_argument(&l->login, span_of(db));
        l->login_replies++;
    }
}

enum err
redis_link_open(struct redis_link **out, const char *url, struct env *env, char *why,
                size_t why_size)
{
    struct redis_link *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return ERR_NOMEM;
    }
    l->env = env;
    buf_init(&l->login, 0);
    const char *wrong = NULL;
    enum err e = redis_url_parse(&l->url, url, &wrong);
    if (e == OK) {
        make_login(l);
        e = buf_ok(&l->login) ? OK : ERR_NOMEM;
    } else {
        snprintf(why, why_size, "dedup %s", wrong);
    }
    if (e != OK) {
        redis_link_close(l);
        return e;
    }
    *out = l;
    return OK;
}

void
redis_link_close(struct redis_link *l)
{
    if (l == NULL) {
        return;
    }
    drop_reply(l);
    drop(l);
    buf_fini(&l->login);
    redis_url_fini(&l->url);
    free(l);
}
