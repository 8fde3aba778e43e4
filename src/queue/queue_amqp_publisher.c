/* queue_amqp_publisher.c - one connection to RabbitMQ and the thread that publishes on it.
 *
 * Happy path, one turn: hear what the broker said (confirms) → answer → take what waits in the
 * inbox → send as many messages as may be on their way → sleep until mail or a frame comes.
 *
 * Failure modes: nack → those publishes are ERR_UNAVAILABLE, the connection stays.
 *                returned (the queue is gone) → they are ERR_UNAVAILABLE; nothing more is sent;
 *                when the rest is decided the connection is made anew, which declares the queue.
 *                blocked by an alarm → everything is answered ERR_UNAVAILABLE; the connection
 *                stays, and late confirms are taken without telling anyone.
 *                lost, or a confirm later than amqp.confirm_timeout → all are ERR_UNAVAILABLE,
 *                since nobody knows; the connection is made anew after 0.1 s, doubled to 10 s.
 * Invariants: 1. OK is answered only after the ack of each message with a part of the publish.
 *             2. Frames are read before anything is sent. 3. What waits is answered while there is
 *             no connection. */
#include "queue/queue_amqp_parts.h"

#include "config.h"
#include "env.h"
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define TURN_MS 500 /* the longest sleep: heartbeats, timeouts */
#define DEPTH_MS 5000
#define PAUSE_FIRST_MS 100
#define PAUSE_MAX_MS 10000
#define STEADY_MS 10000 /* a connection that lasted so long was a good one */

static int64_t
now(const struct publisher *p)
{
    return p->env->mono_ms(p->env);
}

static enum publisher_state
state(const struct publisher *p)
{
    return (enum publisher_state)atomic_load(&p->state);
}

static void
wake(void *data)
{
    const struct publisher *p = data;
    const uint64_t one = 1;
    while (write(p->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

static void
clear_wake(const struct publisher *p)
{
    uint64_t count;
    while (read(p->wake_fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
}

/* Nothing that is not on its way can be sent now. */
static void
refuse_waiting(struct publisher *p)
{
    send_fail_all(p, ERR_UNAVAILABLE);
    send_answers(p);
    atomic_store(&p->oldest_ms, 0);
}

/* ---- connecting ---- */

static int64_t
pause_ms(struct publisher *p)
{
    int64_t most = PAUSE_FIRST_MS;
    for (unsigned i = 1; i < p->failures && most < PAUSE_MAX_MS; i++) {
        most *= 2;
    }
    most = most < PAUSE_MAX_MS ? most : PAUSE_MAX_MS;
    return most / 2 + (int64_t)(p->env->random(p->env) % (uint64_t)(most / 2 + 1));
}

/* Once for each reason, not for each attempt. */
static void
note_failure(struct publisher *p, enum err e, const char *why)
{
    p->failures++;
    atomic_store(&p->state, e == ERR_CONFIG ? PUBLISHER_REFUSED : PUBLISHER_AWAY);
    int64_t ms = pause_ms(p);
    atomic_store(&p->next_try_ms, now(p) + ms);
    bool ends_start = e == ERR_CONFIG && !p->thread.running; /* whoever started us is told */
    if (ends_start || strcmp(why, p->why) == 0) {
        return;
    }
    snprintf(p->why, sizeof p->why, "%s", why);
    log_write(p->env->log, e == ERR_CONFIG ? LOG_ERROR : LOG_WARN,
              e == ERR_CONFIG ? "amqp.refused" : "amqp.away",
              "publisher=%u why=\"%s\" retry_ms=%lld", p->number, why, (long long)ms);
}

enum err
publisher_connect(struct publisher *p, char *why, size_t why_size)
{
    enum err e = amqp_link_open(&p->link, p->cfg, p->env, AMQP_PUBLISHER, why, why_size);
    if (e != OK) {
        note_failure(p, e, why);
        return e;
    }
    p->since_ms = now(p);
    p->unroutable = false;
    p->why[0] = '\0';
    atomic_store(&p->state, PUBLISHER_UP);
    log_info(p->env->log, "amqp.connected", "publisher=%u window_bytes=%zu", p->number,
             amqp_link_window(p->link));
    return OK;
}

static void
disconnect(struct publisher *p)
{
    flight_reset(&p->flight, &p->answered, ERR_UNAVAILABLE);
    refuse_waiting(p);
    amqp_link_close(p->link);
    p->link = NULL;
}

/* The link is of no use any more. */
static void
lose(struct publisher *p, const char *why)
{
    size_t unconfirmed = p->flight.undecided;
    if (now(p) - p->since_ms > STEADY_MS) {
        p->failures = 0;
    }
    p->why[0] = '\0'; /* each loss is said */
    char line[WHY_MAX];
    snprintf(line, sizeof line, "%.400s; unconfirmed messages: %zu", why, unconfirmed);
    note_failure(p, ERR_UNAVAILABLE, line);
    disconnect(p);
}

/* While there is no connection: answers at once what still comes, until it is time to try. */
static void
stay_away(struct publisher *p)
{
    char why[WHY_MAX];
    int64_t left_ms;
    while ((left_ms = atomic_load(&p->next_try_ms) - now(p)) > 0 && !atomic_load(&p->stopping)) {
        struct pollfd mail = {.fd = p->wake_fd, .events = POLLIN};
        poll(&mail, 1, (int)left_ms);
        clear_wake(p);
        refuse_waiting(p);
    }
    if (!atomic_load(&p->stopping) && publisher_connect(p, why, sizeof why) != OK) {
        refuse_waiting(p);
    }
}

/* ---- hearing ---- */

static void
heed_blocked(struct publisher *p)
{
    log_warn(p->env->log, "amqp.blocked",
             "publisher=%u why=\"RabbitMQ has a memory or disk alarm\" unconfirmed=%zu", p->number,
             p->flight.undecided);
    atomic_store(&p->state, PUBLISHER_BLOCKED);
    flight_give_up(&p->flight, &p->answered, ERR_UNAVAILABLE);
    refuse_waiting(p);
}

static void
heed_unblocked(struct publisher *p)
{
    log_info(p->env->log, "amqp.unblocked", "publisher=%u", p->number);
    p->unblocked_ms = now(p);
    atomic_store(&p->state, PUBLISHER_UP);
}

static enum err
heed_nack(struct publisher *p, const struct amqp_event *ev)
{
    log_error(p->env->log, "amqp.nack",
              "publisher=%u why=\"RabbitMQ did not take it: is " AMQP_QUEUE
              " at its limit (max-length)?\"",
              p->number);
    return flight_decide(&p->flight, &p->answered, ev->tag, ev->multiple, ERR_UNAVAILABLE);
}

static enum err
heed_return(struct publisher *p, const struct amqp_event *ev)
{
    log_error(p->env->log, "amqp.returned",
              "publisher=%u why=\"" AMQP_QUEUE " is not there\" action=\"declare it anew\"",
              p->number);
    p->unroutable = true;
    return flight_return(&p->flight, ev->tag);
}

static enum err
heed(struct publisher *p, const struct amqp_event *ev)
{
    switch (ev->said) {
    case AMQP_SAID_ACK:
        p->failures = 0;
        return flight_decide(&p->flight, &p->answered, ev->tag, ev->multiple, OK);
    case AMQP_SAID_NACK:
        return heed_nack(p, ev);
    case AMQP_SAID_RETURN:
        return heed_return(p, ev);
    case AMQP_SAID_BLOCKED:
        heed_blocked(p);
        return OK;
    case AMQP_SAID_UNBLOCKED:
        heed_unblocked(p);
        return OK;
    default:
        return OK;
    }
}

static enum err
hear(struct publisher *p)
{
    enum err e = OK;
    if (!p->readable && !amqp_link_has_input(p->link) && now(p) - p->heard_ms < TURN_MS) {
        return OK;
    }
    p->heard_ms = now(p);
    do {
        struct amqp_event ev;
        e = amqp_link_next(p->link, &ev, 0);
        if (e == OK) {
            e = heed(p, &ev);
        }
    } while (e == OK && amqp_link_has_input(p->link));
    return e;
}

/* ---- one turn ---- */

static bool
is_late(const struct publisher *p)
{
    const struct flight_message *m = flight_oldest(&p->flight);
    if (m == NULL || state(p) == PUBLISHER_BLOCKED) {
        return false;
    }
    int64_t since_ms = m->sent_ms > p->unblocked_ms ? m->sent_ms : p->unblocked_ms;
    return now(p) - since_ms > p->cfg->amqp_confirm_timeout;
}

static enum err
ask_depth(struct publisher *p)
{
    atomic_store(&p->depth, amqp_link_depth(p->link));
    if (state(p) != PUBLISHER_UP || now(p) - p->asked_ms < DEPTH_MS) {
        return OK;
    }
    p->asked_ms = now(p);
    return amqp_link_ask_depth(p->link);
}

static enum err
speak(struct publisher *p)
{
    if (state(p) == PUBLISHER_BLOCKED) {
        refuse_waiting(p);
        return OK;
    }
    send_take(p);
    send_expire(p);
    atomic_store(&p->oldest_ms, send_oldest_ms(p));
    return p->unroutable ? OK : send_messages(p);
}

/* NULL: all is well. */
static const char *
turn(struct publisher *p)
{
    enum err e = hear(p);
    send_answers(p);
    if (e == OK) {
        e = speak(p);
    }
    if (e == OK) {
        e = ask_depth(p);
    }
    if (e == ERR_INVALID) {
        return "RabbitMQ confirmed a message that was never sent";
    }
    if (e != OK) {
        return amqp_link_failure(p->link);
    }
    if (is_late(p)) {
        return "RabbitMQ did not confirm within amqp.confirm_timeout";
    }
    if (p->unroutable && p->flight.undecided == 0) {
        return AMQP_QUEUE " was not there";
    }
    send_answers(p);
    atomic_store(&p->oldest_ms, send_oldest_ms(p));
    return NULL;
}

static void
rest(struct publisher *p)
{
    int64_t most = p->cfg->amqp_confirm_timeout < TURN_MS ? p->cfg->amqp_confirm_timeout : TURN_MS;
    struct pollfd fds[] = {
        {.fd = p->wake_fd, .events = POLLIN},
        {.fd = amqp_link_fd(p->link), .events = POLLIN},
    };
    int n = poll(fds, 2, amqp_link_has_input(p->link) ? 0 : (int)most);
    p->readable = n > 0 && fds[1].revents != 0;
    if (n > 0 && fds[0].revents != 0) {
        clear_wake(p);
    }
}

/* What was published before the end is answered before the end, by its confirm if that comes. */
static bool
is_done(struct publisher *p)
{
    if (!atomic_load(&p->stopping)) {
        return false;
    }
    if (p->stop_by_ms == 0) {
        p->stop_by_ms = now(p) + p->cfg->amqp_confirm_timeout;
    }
    bool idle = p->flight.undecided == 0 && p->cursor == NULL && mailbox_count(p->inbox) == 0;
    return p->link == NULL || idle || now(p) > p->stop_by_ms;
}

static void
run(void *data)
{
    struct publisher *p = data;
    while (!is_done(p)) {
        if (p->link == NULL) {
            stay_away(p);
            continue;
        }
        const char *why = turn(p);
        if (why != NULL) {
            lose(p, why);
        } else {
            rest(p);
        }
    }
    disconnect(p);
}

/* ---- its life ---- */

static size_t
inbox_bytes(const struct config *cfg)
{
    int64_t share = cfg->queue_mailbox_bytes / cfg->amqp_publishers;
    int64_t least = 2 * cfg->http_max_body; /* any request fits into an empty one */
    least = least < cfg->queue_mailbox_bytes ? least : cfg->queue_mailbox_bytes;
    return (size_t)(share > least ? share : least);
}

enum err
publisher_open(struct publisher *p, const struct config *cfg, struct env *env, unsigned number)
{
    p->cfg = cfg;
    p->env = env;
    p->number = number;
    buf_init(&p->body, 0);
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->inbox = mailbox_open(inbox_bytes(cfg), SIZE_MAX, wake, p);
    enum err e = flight_init(&p->flight, FLIGHT_CAP);
    return p->wake_fd < 0 || p->inbox == NULL ? ERR_NOMEM : e;
}

enum err
publisher_start(struct publisher *p)
{
    char name[16];
    snprintf(name, sizeof name, "amqp-%u", p->number);
    return thread_start(&p->thread, name, run, p);
}

void
publisher_stop(struct publisher *p)
{
    atomic_store(&p->stopping, true);
    if (p->wake_fd > 0) {
        wake(p);
    }
}

void
publisher_close(struct publisher *p)
{
    thread_join(&p->thread);
    if (p->link != NULL) { /* the thread was never started */
        amqp_link_close(p->link);
    }
    mailbox_close(p->inbox);
    flight_fini(&p->flight);
    buf_fini(&p->body);
    if (p->wake_fd > 0) {
        close(p->wake_fd);
    }
}
