/* The publishing side of the RabbitMQ queue; the test is the link, and as unkind as a broker can
 * be: it acks late, out of order and several at once, nacks, returns, blocks, and goes away. */
#include "queue/queue.h"

#include "amqp/amqp_link.h"
#include "buf.h"
#include "config.h"
#include "env.h"
#include "log.h"
#include "thread.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define EVENTS_MAX 200000
#define MESSAGES_MAX 100000
#define WINDOW 100000

enum fate_of { NOT_SENT, ON_ITS_WAY, GOOD, BAD };

/* ---- the broker ---- */

static struct {
    _Atomic uint64_t seed;
    int lose_in, block_in; /* one in so many; 0: never */
    int nack_in, return_in;
    bool silent; /* nothing is confirmed */
    atomic_uint opened;
    atomic_bool stuck;                /* after a block, until unblocked */
    _Atomic uint8_t fate[EVENTS_MAX]; /* of each event's last message */
    atomic_size_t largest_window;
    atomic_size_t messages;
} broker;

struct message {
    uint32_t *event;
    size_t n;
    size_t bytes;
    bool decided;
    bool returned;
};

struct amqp_link {
    int fd;
    struct message *message; /* by tag */
    uint64_t tag;
    uint64_t to_return; /* its ack follows at once */
    size_t unconfirmed_bytes;
    int blocked;
    bool broken;
};

static int
dice(int sides)
{
    uint64_t x = atomic_fetch_add(&broker.seed, 0x9e3779b97f4a7c15u);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (int)((x >> 33) % (uint64_t)sides);
}

static bool
one_in(int n)
{
    return n > 0 && dice(n) == 0;
}

enum err
amqp_link_open(struct amqp_link **out, const struct config *cfg, struct env *env,
               enum amqp_role role, char *why, size_t why_size)
{
    (void)cfg;
    (void)env;
    (void)role;
    if (atomic_load(&broker.opened) > 0 && dice(4) == 0) {
        snprintf(why, why_size, "away");
        return ERR_UNAVAILABLE;
    }
    struct amqp_link *l = calloc(1, sizeof *l);
    l->message = calloc(MESSAGES_MAX, sizeof *l->message);
    l->fd = eventfd(1, EFD_CLOEXEC); /* always readable */
    atomic_fetch_add(&broker.opened, 1);
    *out = l;
    return OK;
}

void
amqp_link_close(struct amqp_link *l)
{
    if (l == NULL) {
        return;
    }
    for (uint64_t t = 1; t <= l->tag; t++) {
        free(l->message[t].event);
    }
    close(l->fd);
    free(l->message);
    free(l);
}

int
amqp_link_fd(const struct amqp_link *l)
{
    return l->fd;
}

size_t
amqp_link_window(const struct amqp_link *l)
{
    (void)l;
    return WINDOW;
}

const char *
amqp_link_failure(const struct amqp_link *l)
{
    (void)l;
    return "lost";
}

bool
amqp_link_has_input(struct amqp_link *l)
{
    return l->to_return != 0;
}

enum err
amqp_link_ask_depth(struct amqp_link *l)
{
    return l->broken ? ERR_UNAVAILABLE : OK;
}

uint64_t
amqp_link_depth(const struct amqp_link *l)
{
    (void)l;
    return 7;
}

static void
set_fate(const struct message *m, enum fate_of fate)
{
    for (size_t i = 0; i < m->n; i++) {
        atomic_store(&broker.fate[m->event[i]], (uint8_t)fate);
    }
}

static void
read_events(struct message *m, struct span body)
{
    const char *end = body.at + body.len;
    m->event = calloc(300, sizeof *m->event);
    for (const char *at = body.at; (at = memmem(at, (size_t)(end - at), "\"event_id\":\"e", 13));) {
        at += 13;
        m->event[m->n++] = (uint32_t)strtoul(at, NULL, 10);
    }
}

enum err
amqp_link_publish(struct amqp_link *l, uint64_t *tag, const struct amqp_message *out)
{
    assert_string_equal(out->routing_key, AMQP_QUEUE);
    if (l->broken || one_in(broker.lose_in)) {
        l->broken = true;
        return ERR_UNAVAILABLE;
    }
    *tag = ++l->tag;
    struct message *m = &l->message[*tag];
    read_events(m, out->body);
    m->bytes = out->body.len;
    set_fate(m, ON_ITS_WAY);
    l->unconfirmed_bytes += m->bytes;
    atomic_fetch_add(&broker.messages, 1);
    if (l->unconfirmed_bytes > atomic_load(&broker.largest_window)) {
        atomic_store(&broker.largest_window, l->unconfirmed_bytes);
    }
    return OK;
}

static void
decide(struct amqp_link *l, uint64_t tag, bool good)
{
    struct message *m = &l->message[tag];
    if (m->decided) {
        return;
    }
    m->decided = true;
    l->unconfirmed_bytes -= m->bytes;
    set_fate(m, good && !m->returned ? GOOD : BAD);
}

static void
say(struct amqp_link *l, struct amqp_event *ev, uint64_t tag, bool multiple)
{
    bool good = l->to_return != 0 || !one_in(broker.nack_in);
    *ev = (struct amqp_event){
        .said = good ? AMQP_SAID_ACK : AMQP_SAID_NACK, .tag = tag, .multiple = multiple};
    for (uint64_t t = multiple ? 1 : tag; t <= tag; t++) {
        decide(l, t, good);
    }
    l->to_return = 0;
}

static bool
say_block(struct amqp_link *l, struct amqp_event *ev)
{
    if (l->blocked == 0 && one_in(broker.block_in)) {
        l->blocked = 20;
        ev->said = AMQP_SAID_BLOCKED;
    } else if (l->blocked == 1) {
        ev->said = AMQP_SAID_UNBLOCKED;
    }
    l->blocked -= l->blocked > 0 && ev->said != AMQP_SAID_BLOCKED;
    return l->blocked > 0 || ev->said != AMQP_SAID_NOTHING;
}

enum err
amqp_link_next(struct amqp_link *l, struct amqp_event *ev, int wait_ms)
{
    (void)wait_ms;
    *ev = (struct amqp_event){.said = AMQP_SAID_NOTHING};
    if (l->broken || one_in(broker.lose_in)) {
        l->broken = true;
        return ERR_UNAVAILABLE;
    }
    if (l->to_return != 0) {
        say(l, ev, l->to_return, false);
        return OK;
    }
    if (say_block(l, ev) || l->tag == 0 || broker.silent) {
        return OK;
    }
    uint64_t tag = l->tag - (uint64_t)dice(l->tag < 20 ? (int)l->tag : 20);
    if (l->message[tag].decided) {
        tag = 1;
        while (tag < l->tag && l->message[tag].decided) {
            tag++;
        }
    }
    if (l->message[tag].decided) {
        return OK;
    }
    if (one_in(broker.return_in)) {
        l->message[tag].returned = true;
        l->to_return = tag;
        *ev = (struct amqp_event){.said = AMQP_SAID_RETURN, .tag = tag};
    } else {
        say(l, ev, tag, dice(2) == 0);
    }
    return OK;
}

/* ---- the api ---- */

struct request {
    struct publish publish; /* first */
    uint32_t first;         /* number of its first event */
    bool spooled;           /* a queue is in front */
};

static struct {
    struct env env;
    struct log *log;
    struct config cfg;
    struct queue *queue;
    struct mailbox *answers;
    struct mailbox *others; /* of a second loop */
    uint32_t events;
    size_t ok, failed;
} api;

static int
set_up(void **state)
{
    static const uint8_t zero[sizeof broker.fate];
    (void)state;
    memset(&broker, 0, sizeof broker);
    memcpy(&broker.fate, zero, sizeof zero);
    broker.seed = 42;
    memset(&api, 0, sizeof api);
    api.log = log_open(getenv("WEIR_LOG_TESTS") == NULL ? -1 : 2, LOG_DEBUG, false);
    env_init_system(&api.env, api.log);
    api.cfg = (struct config){
        .queue_mailbox_bytes = 1 << 20,
        .http_max_body = 1 << 18,
        .amqp_publishers = 1,
        .amqp_envelope = 256,
        .amqp_confirm_timeout = 1000,
        .amqp_format = (char *)(uintptr_t) "weir",
        .amqp_queue_type = (char *)(uintptr_t) "quorum",
    };
    api.answers = mailbox_open(SIZE_MAX, SIZE_MAX, NULL, NULL);
    api.others = mailbox_open(SIZE_MAX, SIZE_MAX, NULL, NULL);
    return 0;
}

static void
open_queue(void)
{
    char why[512] = "";
    assert_int_equal(queue_amqp_open(&api.queue, &api.cfg, &api.env, why, sizeof why), OK);
}

static int
tear_down(void **state)
{
    (void)state;
    mailbox_close(api.answers);
    mailbox_close(api.others);
    log_close(api.log);
    return 0;
}

static struct request *
request_new(size_t n, size_t payload_bytes)
{
    static char filler[300000];
    memset(filler, 'x', sizeof filler);
    struct request *r = calloc(1, sizeof *r);
    r->first = api.events;
    r->publish.reply_to = r->first % 3 == 0 ? api.others : api.answers;
    r->spooled = r->first % 2 == 0;
    r->publish.then_to = r->spooled ? api.answers : NULL;
    r->publish.count = n;
    for (size_t i = 0; i < n; i++) {
        char id[16], payload[sizeof filler + 16];
        int len = snprintf(id, sizeof id, "e%u", api.events++);
        int size =
            snprintf(payload, sizeof payload, "{\"x\":\"%.*s\"}", (int)payload_bytes, filler);
        struct event *ev =
            event_new((struct span){id, (size_t)len}, SPAN("T"), SPAN("2026-02-03T12:30:00Z"),
                      (struct span){payload, (size_t)size});
        mail_list_add(&r->publish.events, &ev->mail);
    }
    r->publish.reply.mail.bytes = r->publish.events.bytes;
    return r;
}

static void
free_events(struct request *r)
{
    struct mail *m;
    while ((m = mail_list_pop(&r->publish.events)) != NULL) {
        event_free((struct event *)(void *)m);
    }
}

/* False: refused at once, and gone. */
static bool
publish(size_t n, size_t payload_bytes)
{
    struct request *r = request_new(n, payload_bytes);
    if (api.queue->ops->publish(api.queue, &r->publish) == OK) {
        return true;
    }
    assert_int_equal(r->publish.events.count, n); /* still ours, whole */
    free_events(r);
    free(r);
    return false;
}

/* All its events are still there, in their order, and nobody else's. */
static void
check_kept(const struct request *r)
{
    size_t n = 0;
    for (const struct mail *m = r->publish.events.first; m != NULL; m = m->next, n++) {
        char id[16];
        int len = snprintf(id, sizeof id, "e%zu", r->first + n);
        struct span seen = event_id((const struct event *)(const void *)m);
        assert_true(span_eq(seen, (struct span){id, (size_t)len}));
    }
    assert_int_equal(n, r->publish.count);
}

static void
check_answer(struct request *r)
{
    if (r->publish.result == OK) {
        api.ok++;
        assert_null(r->publish.events.first);
        assert_int_equal(r->publish.durability, DURABILITY_CONFIRMED);
        for (size_t i = 0; i < r->publish.count; i++) {
            assert_int_equal(atomic_load(&broker.fate[r->first + i]), GOOD);
        }
    } else {
        api.failed++;
        assert_int_equal(r->publish.result, ERR_UNAVAILABLE);
        if (r->spooled) {
            check_kept(r);
        } else {
            assert_null(r->publish.events.first);
        }
    }
    free_events(r);
    free(r);
}

static size_t
take_answers(int wait_ms)
{
    size_t n = 0;
    struct mailbox *const boxes[] = {api.answers, api.others};
    for (size_t i = 0; i < 2; i++) {
        struct mail_list list = mailbox_take(boxes[i], SIZE_MAX, SIZE_MAX, i == 0 ? wait_ms : 0);
        struct mail *m;
        while ((m = mail_list_pop(&list)) != NULL) {
            check_answer((struct request *)(void *)m);
            n++;
        }
    }
    return n;
}

static void
await(size_t n)
{
    for (int i = 0; i < 2000 && n > 0; i++) {
        n -= take_answers(10);
    }
    assert_int_equal(n, 0);
}

static void
run_load(size_t requests)
{
    size_t asked = 0, answered = 0;
    for (size_t i = 0; i < requests; i++) {
        size_t n = i % 7 == 0 ? 1 + i % 400 : 1;
        size_t payload = i % 50 == 0 ? 200000 : i % 11 * 300;
        bool taken = publish(n > 20 && payload > 5000 ? 1 : n, payload);
        asked += taken;
        if (asked - answered > 100) {
            answered += take_answers(1);
        }
        poll(NULL, 0, i % 100 == 0 || !taken ? 1 : 0);
    }
    api.queue->ops->close(api.queue); /* answers everything */
    answered += take_answers(0);
    assert_int_equal(asked, answered);
}

static void
a_kind_broker_confirms_everything(void **state)
{
    (void)state;
    open_queue();
    run_load(2000);
    assert_int_equal(api.failed, 0);
    assert_true(api.ok > 1000);
    assert_true(atomic_load(&broker.largest_window) < 200000 + 1000);
    assert_int_equal(broker.opened, 1);
}

static void
nacks_and_returns_are_answered_as_failures_and_nothing_else_is(void **state)
{
    (void)state;
    broker.nack_in = 20;
    broker.return_in = 200;
    open_queue();
    run_load(2000);
    assert_true(api.ok > 0 && api.failed > 0);
}

static void
whatever_the_broker_does_each_publish_is_answered_once_and_truly(void **state)
{
    (void)state;
    broker.nack_in = 10;
    broker.return_in = 500;
    broker.lose_in = 1500;
    broker.block_in = 400;
    open_queue();
    run_load(4000);
    assert_true(api.ok > 0 && api.failed > 0);
    assert_true(broker.opened > 1);
}

static void
several_publishers_do_the_same(void **state)
{
    (void)state;
    api.cfg.amqp_publishers = 3;
    api.cfg.amqp_envelope = 5;
    broker.nack_in = 50;
    open_queue();
    run_load(1000);
    assert_true(api.ok > 0 && api.failed > 0);
}

static void
what_is_not_confirmed_in_time_fails(void **state)
{
    (void)state;
    api.cfg.amqp_confirm_timeout = 200;
    broker.silent = true;
    open_queue();
    assert_true(publish(3, 10));
    struct queue_status status = {0};
    while (status.slow_ms == 0) {
        api.queue->ops->status(api.queue, &status);
        assert_true(status.ready);
    }
    await(1);
    assert_int_equal(api.failed, 1);
    api.queue->ops->status(api.queue, &status);
    assert_int_equal(status.slow_ms, 0);
    api.queue->ops->close(api.queue);
    assert_int_equal(take_answers(0), 0);
}

static void
the_end_waits_for_confirms_no_longer_than_their_time(void **state)
{
    (void)state;
    api.cfg.amqp_confirm_timeout = 200;
    broker.silent = true;
    open_queue();
    assert_true(publish(3, 10));
    api.queue->ops->close(api.queue);
    assert_int_equal(take_answers(0), 1);
    assert_int_equal(api.failed, 1);
}

static void
events_that_waited_together_travel_together(void **state)
{
    (void)state;
    broker.silent = true;
    open_queue();
    size_t n = 0;
    while (n < 500) {
        n += publish(1, 10);
    }
    poll(NULL, 0, 50);
    assert_true(atomic_load(&broker.messages) < 50);
    api.queue->ops->close(api.queue);
    assert_int_equal(take_answers(0), 500);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_kind_broker_confirms_everything),
        TEST(nacks_and_returns_are_answered_as_failures_and_nothing_else_is),
        TEST(whatever_the_broker_does_each_publish_is_answered_once_and_truly),
        TEST(several_publishers_do_the_same),
        TEST(what_is_not_confirmed_in_time_fails),
        TEST(the_end_waits_for_confirms_no_longer_than_their_time),
        TEST(events_that_waited_together_travel_together),
    };
    return cmocka_run_group_tests_name("queue_amqp", tests, NULL, NULL);
}
