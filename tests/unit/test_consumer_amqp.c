/* The consuming side, on a link that is the test: what it is told, and what it tells the broker, in
 * which order. */
#include "queue/consumer.h"

#include "amqp/amqp_link.h"
#include "buf.h"
#include "config.h"
#include "env.h"
#include "log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define HEAD(id) "{\"event_id\":\"" id "\",\"type\":\"T\",\"timestamp\":\"2026-02-03T12:30:00Z\""
#define EVENT(id) HEAD(id) ",\"payload\":{}}"
#define SAID_MAX 64
#define PREFETCH 16
#define BATCH 4
#define WALL_MS 1770000000000

enum answer { ANSWER_ACK, ANSWER_NACK, ANSWER_RETURN, ANSWER_ALARM, ANSWER_NONE };

/* The broker, its link, and the clock. */
static struct amqp_link {
    struct env env;
    struct log *log;
    int log_fd;
    int64_t mono_ms;

    struct amqp_event said[SAID_MAX]; /* what it will say; the bodies are its own */
    size_t first, n;
    char *lent; /* the body of the last delivery */
    uint64_t delivered, published;
    bool cut; /* once all was said: the connection is lost */

    enum err on_open, on_consume, on_ack, on_publish;
    enum answer answer;
    struct buf did; /* what was asked of it */
} broker;

static void
did(const char *fmt, unsigned long long number, const char *more)
{
    buf_addf(&broker.did, fmt, number, more);
}

static void
say(struct amqp_event what)
{
    size_t at = broker.first + broker.n++;
    assert_true(at < SAID_MAX);
    broker.said[at] = what;
}

/* ---- amqp_link.h ---- */

enum err
amqp_link_open(struct amqp_link **out, const struct config *cfg, struct env *env,
               enum amqp_role role, char *why, size_t why_size)
{
    (void)cfg;
    assert_ptr_equal(env, &broker.env);
    assert_int_equal(role, AMQP_CONSUMER);
    did("open ", 0, "");
    snprintf(why, why_size, "as the test has it");
    *out = broker.on_open == OK ? &broker : NULL;
    return broker.on_open;
}

static void
take_back(void)
{
    free(broker.lent);
    broker.lent = NULL;
}

void
amqp_link_close(struct amqp_link *l)
{
    if (l == NULL) {
        return;
    }
    did("close ", 0, "");
    take_back();
    while (broker.n > 0) {
        free((char *)broker.said[broker.first++].body.at);
        broker.n--;
    }
    broker.first = 0;
    broker.delivered = broker.published = 0;
    broker.cut = false;
}

enum err
amqp_link_publish(struct amqp_link *l, uint64_t *tag, const struct amqp_message *m)
{
    assert_ptr_equal(l, &broker);
    take_back();
    assert_string_equal(m->exchange, "");
    assert_string_equal(m->routing_key, "events.dlq");
    *tag = ++broker.published;
    did("publish:", 0, "");
    buf_addf(&broker.did, "%.*s(%.*s|%s|%s|%lld|%u|%lld) ", SPAN_FMT(m->body),
             SPAN_FMT(m->message_id), m->content_type, m->error, (long long)m->accepted_ms,
             m->attempt, (long long)m->first_failed_ms);
    if (broker.on_publish != OK) {
        return broker.on_publish;
    }
    static const enum amqp_said says[] = {
        [ANSWER_ACK] = AMQP_SAID_ACK,       [ANSWER_NACK] = AMQP_SAID_NACK,
        [ANSWER_RETURN] = AMQP_SAID_RETURN, [ANSWER_ALARM] = AMQP_SAID_BLOCKED,
        [ANSWER_NONE] = AMQP_SAID_NOTHING,
    };
    say((struct amqp_event){.said = says[broker.answer], .tag = *tag});
    if (broker.answer == ANSWER_RETURN) {
        say((struct amqp_event){.said = AMQP_SAID_ACK, .tag = *tag});
    }
    return OK;
}

enum err
amqp_link_next(struct amqp_link *l, struct amqp_event *out, int wait_ms)
{
    assert_ptr_equal(l, &broker);
    take_back();
    if (broker.n == 0) {
        broker.mono_ms += wait_ms;
        *out = (struct amqp_event){.said = AMQP_SAID_NOTHING};
        return broker.cut ? ERR_UNAVAILABLE : OK;
    }
    broker.n--;
    *out = broker.said[broker.first++];
    if (broker.n == 0) {
        broker.first = 0;
    }
    broker.lent = (char *)out->body.at;
    return OK;
}

enum err
amqp_link_consume(struct amqp_link *l, uint16_t prefetch)
{
    assert_ptr_equal(l, &broker);
    did("consume:%llu ", prefetch, "");
    return broker.on_consume;
}

enum err
amqp_link_ack(struct amqp_link *l, uint64_t tag, bool multiple)
{
    assert_ptr_equal(l, &broker);
    did("ack:%llu%s ", tag, multiple ? "+" : "");
    return broker.on_ack;
}

enum err
amqp_link_reject(struct amqp_link *l, uint64_t tag)
{
    assert_ptr_equal(l, &broker);
    did("reject:%llu%s ", tag, "");
    return OK;
}

const char *
amqp_link_failure(const struct amqp_link *l)
{
    assert_ptr_equal(l, &broker);
    return "as the test has it";
}

/* ---- the rig ---- */

static int64_t
mono_ms(struct env *env)
{
    (void)env;
    return broker.mono_ms;
}

static int64_t
wall_ms(struct env *env)
{
    (void)env;
    return WALL_MS;
}

static uint64_t
no_random(struct env *env)
{
    (void)env;
    return 0;
}

static enum err
no_fault(struct env *env, const char *point)
{
    (void)env;
    (void)point;
    return OK;
}

struct rig {
    struct config cfg;
    struct consumer *c;
    struct batch b;
};

static int
set_up(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    broker = (struct amqp_link){.mono_ms = 1000000};
    broker.log_fd = open("/dev/null", O_WRONLY);
    broker.log = log_open(getenv("WEIR_LOG_TESTS") != NULL ? 2 : broker.log_fd, LOG_DEBUG, false);
    broker.env = (struct env){
        .wall_ms = wall_ms,
        .mono_ms = mono_ms,
        .random = no_random,
        .fault = no_fault,
        .log = broker.log,
    };
    buf_init(&broker.did, 0);
    r->cfg.amqp_prefetch = PREFETCH;
    r->cfg.worker_batch = BATCH;
    r->cfg.event_max_bytes = 65536;
    r->cfg.amqp_confirm_timeout = 5000;
    assert_int_equal(batch_init(&r->b, BATCH), OK);
    assert_int_equal(consumer_amqp_open(&r->c, &r->cfg, &broker.env), OK);
    *state = r;
    return 0;
}

static int
tear_down(void **state)
{
    struct rig *r = *state;
    r->c->ops->close(r->c);
    batch_fini(&r->b);
    amqp_link_close(&broker);
    buf_fini(&broker.did);
    log_close(broker.log);
    close(broker.log_fd);
    free(r);
    return 0;
}

static void
deliver_as(const char *body, struct amqp_event with)
{
    with.said = AMQP_SAID_DELIVERY;
    with.tag = ++broker.delivered;
    size_t len = strlen(body);
    char *copy = malloc(len + BUF_SLACK);
    assert_non_null(copy);
    memcpy(copy, body, len);
    memset(copy + len, '7', BUF_SLACK);
    with.body = (struct span){copy, len};
    say(with);
}

static void
deliver(const char *body)
{
    deliver_as(body, (struct amqp_event){0});
}

static void
expect_did(const char *what)
{
    buf_add(&broker.did, "", 1);
    assert_string_equal(broker.did.at, what);
    buf_reset(&broker.did);
}

static enum err
take(struct rig *r)
{
    batch_reset(&r->b);
    return r->c->ops->take(r->c, &r->b, 0);
}

static enum err
settle(struct rig *r)
{
    return r->c->ops->settle(r->c, &r->b);
}

static void
decide(struct rig *r, enum event_state state)
{
    for (size_t i = 0; i < r->b.n; i++) {
        r->b.item[i].state = state;
        snprintf(r->b.item[i].reason, sizeof r->b.item[i].reason, "because");
    }
}

static void
expect_ids(struct rig *r, const char *ids)
{
    char got[256] = "";
    for (size_t i = 0; i < r->b.n; i++) {
        assert_int_equal(r->b.item[i].state, EVENT_PROCESSING);
        struct span id = event_id(r->b.item[i].ev);
        snprintf(got + strlen(got), sizeof got - strlen(got), "%.*s ", SPAN_FMT(id));
    }
    assert_string_equal(got, ids);
}

/* Connected, with nothing delivered. */
static void
connect(struct rig *r)
{
    assert_int_equal(take(r), OK);
    assert_int_equal(r->b.n, 0);
    expect_did("open consume:16 ");
}

static void
take_ids(struct rig *r, const char *ids)
{
    assert_int_equal(take(r), OK);
    expect_ids(r, ids);
}

static void
settle_all(struct rig *r, enum event_state state)
{
    decide(r, state);
    assert_int_equal(settle(r), OK);
}

/* ---- taking and acking ---- */

static void
the_first_take_connects_and_consumes(void **state)
{
    struct rig *r = *state;
    expect_did("");
    connect(r);
    assert_int_equal(take(r), OK);
    expect_did("");
}

static void
a_batch_is_acked_at_once_up_to_its_last_message(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    deliver(EVENT("b") "\n" EVENT("c"));
    take_ids(r, "a b c ");
    assert_false(r->b.joined);
    expect_did("");
    settle_all(r, EVENT_PROCESSED);
    expect_did("ack:2+ ");
}

static void
a_message_is_never_split_over_two_batches(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a") "\n" EVENT("b"));
    deliver(EVENT("c") "\n" EVENT("d") "\n" EVENT("e"));
    deliver(EVENT("f"));
    take_ids(r, "a b ");
    settle_all(r, EVENT_PROCESSED);
    take_ids(r, "c d e f ");
    settle_all(r, EVENT_DUPLICATE);
    expect_did("ack:1+ ack:3+ ");
}

static void
a_message_larger_than_the_batch_makes_it_grow(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    deliver(EVENT("b") "\n" EVENT("c") "\n" EVENT("d") "\n" EVENT("e") "\n" EVENT("f"));
    deliver(EVENT("g"));
    take_ids(r, "a ");
    settle_all(r, EVENT_PROCESSED);
    take_ids(r, "b c d e f ");
    settle_all(r, EVENT_PROCESSED);
    for (int i = 0; i < 5; i++) {
        deliver(EVENT("h"));
    }
    take_ids(r, "g h h h "); /* the next one has its usual size */
    settle_all(r, EVENT_PROCESSED);
    expect_did("ack:1+ ack:2+ ack:6+ ");
}

static void
events_carry_what_their_message_says_of_them(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver_as(EVENT("a"), (struct amqp_event){.accepted_ms = 17, .attempt = 3});
    deliver(EVENT("b"));
    take_ids(r, "a b ");
    assert_int_equal(r->b.item[0].ev->accepted_ms, 17);
    assert_int_equal(r->b.item[0].ev->attempt, 3);
    assert_int_equal(r->b.item[1].ev->accepted_ms, WALL_MS);
    assert_int_equal(r->b.item[1].ev->attempt, 0);
    settle_all(r, EVENT_PROCESSED);
}

static void
take_waits_its_time_and_no_longer(void **state)
{
    struct rig *r = *state;
    connect(r);
    int64_t from = broker.mono_ms;
    assert_int_equal(r->c->ops->take(r->c, &r->b, 450), OK);
    assert_int_equal(broker.mono_ms - from, 450);
    deliver(EVENT("a"));
    from = broker.mono_ms;
    assert_int_equal(r->c->ops->take(r->c, &r->b, 450), OK);
    expect_ids(r, "a ");
    assert_int_equal(broker.mono_ms - from, 0); /* a lone event does not wait for company */
    settle_all(r, EVENT_PROCESSED);
}

static void
under_load_a_batch_waits_a_moment_for_more_and_a_lone_event_does_not(void **state)
{
    struct rig *r = *state;
    connect(r);
    r->cfg.worker_batch = 100;
    assert_int_equal(batch_reserve(&r->b, 100), OK);
    for (int i = 0; i < 8; i++) {
        deliver(EVENT("a"));
    }
    int64_t from = broker.mono_ms;
    assert_int_equal(take(r), OK);
    assert_int_equal(r->b.n, 8);
    assert_int_equal(broker.mono_ms - from, 0);
    settle_all(r, EVENT_PROCESSED);
    for (int64_t waited = 1; waited >= 0; waited--) { /* once, and no longer when it was lone */
        deliver(EVENT("b"));
        from = broker.mono_ms;
        take_ids(r, "b ");
        assert_int_equal(broker.mono_ms - from, waited);
        settle_all(r, EVENT_PROCESSED);
    }
}

static void
after_stop_nothing_is_taken_and_what_was_taken_is_settled(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    take_ids(r, "a ");
    deliver(EVENT("b"));
    r->c->ops->stop(r->c);
    settle_all(r, EVENT_PROCESSED);
    assert_int_equal(take(r), ERR_STOPPING);
    assert_int_equal(r->b.n, 0);
    expect_did("ack:1+ ");
}

/* ---- the link is lost ---- */

static void
a_link_lost_before_the_ack_loses_the_batch(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    take_ids(r, "a ");
    broker.on_ack = ERR_UNAVAILABLE;
    decide(r, EVENT_PROCESSED);
    assert_int_equal(settle(r), ERR_LOST);
    expect_did("ack:1+ close ");
}

static void
a_link_lost_while_idle_loses_the_batch_and_nothing_is_acked_on_the_next(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    take_ids(r, "a ");
    deliver(EVENT("b"));
    broker.cut = true;
    r->c->ops->idle(r->c);
    expect_did("close ");
    decide(r, EVENT_PROCESSED);
    assert_int_equal(settle(r), ERR_LOST);
    expect_did("");
    broker.mono_ms += 5000;
    assert_int_equal(take(r), OK);
    assert_int_equal(r->b.n, 0); /* b, read ahead on the lost link, is the broker's again */
    deliver(EVENT("a"));
    take_ids(r, "a ");
    settle_all(r, EVENT_DUPLICATE);
    expect_did("open consume:16 ack:1+ ");
}

static void
a_batch_held_for_long_hears_the_broker_before_it_acks(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    take_ids(r, "a ");
    broker.mono_ms += 60000;
    broker.cut = true;
    decide(r, EVENT_PROCESSED);
    assert_int_equal(settle(r), ERR_LOST);
    expect_did("close ");
}

static void
a_link_lost_in_take_is_made_anew_after_a_pause_that_grows(void **state)
{
    struct rig *r = *state;
    connect(r);
    broker.cut = true;
    assert_int_equal(take(r), ERR_UNAVAILABLE);
    expect_did("close ");
    broker.on_open = ERR_UNAVAILABLE;
    int64_t pause = 0;
    for (int i = 0; i < 8; i++) {
        int64_t from = broker.mono_ms;
        while (broker.did.len == 0) {
            broker.mono_ms++;
            assert_int_equal(take(r), ERR_UNAVAILABLE);
        }
        expect_did("open ");
        assert_true(broker.mono_ms - from >= pause);
        pause = broker.mono_ms - from;
    }
    assert_in_range(pause, 250, 500);
    broker.on_open = OK;
    broker.mono_ms += 2000;
    assert_int_equal(take(r), OK);
    expect_did("open consume:16 ");
}

static void
a_broker_that_will_never_do_is_asked_slowly_and_is_no_end(void **state)
{
    struct rig *r = *state;
    broker.on_open = ERR_CONFIG;
    assert_int_equal(take(r), ERR_UNAVAILABLE);
    expect_did("open ");
    broker.mono_ms += 4900;
    assert_int_equal(take(r), ERR_UNAVAILABLE);
    expect_did("");
    broker.mono_ms += 5100;
    broker.on_open = OK;
    broker.on_consume = ERR_UNAVAILABLE;
    assert_int_equal(take(r), ERR_UNAVAILABLE);
    expect_did("open consume:16 close ");
}

/* ---- dead events ---- */

static void
a_dead_event_is_confirmed_among_the_dead_letters_before_the_ack(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    deliver_as(EVENT("b") "\n" EVENT("c"),
               (struct amqp_event){.accepted_ms = 17, .attempt = 3, .first_failed_ms = 18});
    take_ids(r, "a b c ");
    decide(r, EVENT_DEAD);
    r->b.item[1].state = EVENT_PROCESSED;
    assert_int_equal(settle(r), OK);
    expect_did("publish:" EVENT("a") "(a|application/json|because|1770000000000|0|1770000000000) "
                                     "publish:" EVENT("c") "(c|application/json|because|17|3|18) "
                                                           "ack:2+ ");
}

static void
a_refused_dead_letter_keeps_the_batch_and_only_that_one_is_sent_again(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a") "\n" EVENT("b"));
    take_ids(r, "a b ");
    decide(r, EVENT_DEAD);
    broker.answer = ANSWER_NONE;
    say((struct amqp_event){.said = AMQP_SAID_ACK, .tag = 1});
    say((struct amqp_event){.said = AMQP_SAID_NACK, .tag = 2});
    assert_int_equal(settle(r), ERR_UNAVAILABLE);
    buf_reset(&broker.did);
    broker.answer = ANSWER_ACK;
    assert_int_equal(settle(r), OK);
    expect_did("publish:" EVENT("b") "(b|application/json|because|1770000000000|0|1770000000000) "
                                     "ack:1+ ");
}

static void
one_confirm_may_answer_for_several_dead_letters(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a") "\n" EVENT("b"));
    take_ids(r, "a b ");
    broker.answer = ANSWER_NONE;
    say((struct amqp_event){.said = AMQP_SAID_ACK, .tag = 2, .multiple = true});
    settle_all(r, EVENT_DEAD);
}

static void
a_returned_dead_letter_makes_the_link_anew(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    take_ids(r, "a ");
    decide(r, EVENT_DEAD);
    broker.answer = ANSWER_RETURN;
    assert_int_equal(settle(r), ERR_LOST);
    expect_did("publish:" EVENT("a") "(a|application/json|because|1770000000000|0|1770000000000) "
                                     "close ");
}

static void
during_an_alarm_a_dead_letter_is_sent_once_and_waits(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    take_ids(r, "a ");
    decide(r, EVENT_DEAD);
    broker.answer = ANSWER_ALARM;
    assert_int_equal(settle(r), ERR_UNAVAILABLE);
    buf_reset(&broker.did);
    r->c->ops->idle(r->c);
    assert_int_equal(settle(r), ERR_UNAVAILABLE);
    expect_did("");
    say((struct amqp_event){.said = AMQP_SAID_UNBLOCKED});
    r->c->ops->idle(r->c);
    say((struct amqp_event){.said = AMQP_SAID_ACK, .tag = 1});
    assert_int_equal(settle(r), OK);
    expect_did("ack:1+ ");
}

static void
a_dead_letter_that_is_never_answered_loses_the_link(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    take_ids(r, "a ");
    decide(r, EVENT_DEAD);
    broker.answer = ANSWER_NONE;
    int64_t from = broker.mono_ms;
    assert_int_equal(settle(r), ERR_LOST);
    assert_in_range(broker.mono_ms - from, 5000, 5100);
}

static void
a_publish_that_fails_loses_the_link(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    take_ids(r, "a ");
    decide(r, EVENT_DEAD);
    broker.on_publish = ERR_UNAVAILABLE;
    assert_int_equal(settle(r), ERR_LOST);
    assert_non_null(strstr(broker.did.at, "close "));
    assert_null(strstr(broker.did.at, "ack"));
}

static void
what_arrives_while_a_dead_letter_waits_is_taken_next(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    take_ids(r, "a ");
    deliver(EVENT("b"));
    settle_all(r, EVENT_DEAD);
    buf_reset(&broker.did);
    take_ids(r, "b ");
    settle_all(r, EVENT_PROCESSED);
    expect_did("ack:2+ ");
}

/* ---- messages that are not ours ---- */

static void
a_foreign_message_becomes_a_dead_letter_byte_for_byte_and_is_then_acked(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver_as("what is \"this\"", (struct amqp_event){.content_type = SPAN("text/plain"),
                                                       .message_id = SPAN("m1"),
                                                       .attempt = 2,
                                                       .accepted_ms = 5,
                                                       .first_failed_ms = 6});
    take_ids(r, "");
    expect_did(
        "publish:what is \"this\"(m1|text/plain|expected an event, which is a JSON object, or "
        "an array of events|5|2|6) ack:1 ");
}

static void
foreign_messages_among_others_are_acked_by_themselves(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver(EVENT("a"));
    deliver("x");
    deliver(EVENT("b"));
    deliver("y");
    take_ids(r, "a b ");
    assert_non_null(strstr(broker.did.at, "ack:2 ack:4 "));
    buf_reset(&broker.did);
    settle_all(r, EVENT_PROCESSED);
    expect_did("ack:3+ ");
}

static void
a_foreign_message_that_cannot_be_kept_stops_the_taking(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver("x");
    deliver(EVENT("a"));
    broker.answer = ANSWER_NACK;
    assert_int_equal(take(r), ERR_UNAVAILABLE);
    assert_int_equal(r->b.n, 0);
    assert_null(strstr(broker.did.at, "ack:"));
    broker.answer = ANSWER_ACK;
    take_ids(r, "a ");
    buf_reset(&broker.did);
    settle_all(r, EVENT_PROCESSED);
    expect_did("ack:2+ ");
}

static void
a_foreign_message_is_sent_once_though_an_alarm_holds_it_up(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver("x");
    broker.answer = ANSWER_ALARM;
    assert_int_equal(take(r), ERR_UNAVAILABLE);
    buf_reset(&broker.did);
    assert_int_equal(take(r), ERR_UNAVAILABLE);
    say((struct amqp_event){.said = AMQP_SAID_UNBLOCKED});
    say((struct amqp_event){.said = AMQP_SAID_ACK, .tag = 1});
    r->c->ops->idle(r->c);
    take_ids(r, "");
    expect_did("ack:1 ");
}

static void
a_foreign_message_that_comes_while_another_waits_is_next(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver("x");
    broker.answer = ANSWER_NONE;
    assert_int_equal(take(r), ERR_UNAVAILABLE); /* no confirm: the link is given up */
    buf_reset(&broker.did);
    broker.mono_ms += 5000;
    connect(r);
    deliver("x");
    for (int i = 0; i < 3; i++) {
        deliver(EVENT("a")); /* enough for a batch: what follows is heard while x waits */
    }
    deliver(EVENT("b"));
    deliver("y");
    deliver(EVENT("c"));
    broker.answer = ANSWER_ACK;
    take_ids(r, "a a a b "); /* up to y, which was heard only then */
    assert_null(strstr(broker.did.at, "publish:y"));
    settle_all(r, EVENT_PROCESSED);
    take_ids(r, "c ");
    assert_non_null(strstr(broker.did.at, "publish:y"));
    settle_all(r, EVENT_PROCESSED);
}

static void
a_message_too_large_to_hold_is_left_to_the_broker_to_move(void **state)
{
    struct rig *r = *state;
    connect(r);
    deliver_as("", (struct amqp_event){.too_large = true});
    deliver(EVENT("a"));
    take_ids(r, "a ");
    expect_did("reject:1 ");
    settle_all(r, EVENT_PROCESSED);
    expect_did("ack:2+ ");
}

/* ---- the queue is deleted ---- */

static void
when_the_queue_is_deleted_what_was_read_is_still_given_and_then_a_new_link_is_made(void **state)
{
    struct rig *r = *state;
    connect(r);
    for (int i = 0; i < 5; i++) {
        deliver(EVENT("a"));
    }
    say((struct amqp_event){.said = AMQP_SAID_CANCELLED});
    take_ids(r, "a a a a ");
    r->c->ops->idle(r->c);
    settle_all(r, EVENT_PROCESSED);
    take_ids(r, "a ");
    settle_all(r, EVENT_PROCESSED);
    expect_did("ack:4+ ack:5+ ");
    take_ids(r, "");
    expect_did("close ");
    broker.mono_ms += 100;
    take_ids(r, "");
    expect_did("open consume:16 ");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_take_connects_and_consumes),
        TEST(a_batch_is_acked_at_once_up_to_its_last_message),
        TEST(a_message_is_never_split_over_two_batches),
        TEST(a_message_larger_than_the_batch_makes_it_grow),
        TEST(events_carry_what_their_message_says_of_them),
        TEST(take_waits_its_time_and_no_longer),
        TEST(under_load_a_batch_waits_a_moment_for_more_and_a_lone_event_does_not),
        TEST(after_stop_nothing_is_taken_and_what_was_taken_is_settled),
        TEST(a_link_lost_before_the_ack_loses_the_batch),
        TEST(a_link_lost_while_idle_loses_the_batch_and_nothing_is_acked_on_the_next),
        TEST(a_batch_held_for_long_hears_the_broker_before_it_acks),
        TEST(a_link_lost_in_take_is_made_anew_after_a_pause_that_grows),
        TEST(a_broker_that_will_never_do_is_asked_slowly_and_is_no_end),
        TEST(a_dead_event_is_confirmed_among_the_dead_letters_before_the_ack),
        TEST(a_refused_dead_letter_keeps_the_batch_and_only_that_one_is_sent_again),
        TEST(one_confirm_may_answer_for_several_dead_letters),
        TEST(a_returned_dead_letter_makes_the_link_anew),
        TEST(during_an_alarm_a_dead_letter_is_sent_once_and_waits),
        TEST(a_dead_letter_that_is_never_answered_loses_the_link),
        TEST(a_publish_that_fails_loses_the_link),
        TEST(what_arrives_while_a_dead_letter_waits_is_taken_next),
        TEST(a_foreign_message_becomes_a_dead_letter_byte_for_byte_and_is_then_acked),
        TEST(foreign_messages_among_others_are_acked_by_themselves),
        TEST(a_foreign_message_that_cannot_be_kept_stops_the_taking),
        TEST(a_foreign_message_is_sent_once_though_an_alarm_holds_it_up),
        TEST(a_foreign_message_that_comes_while_another_waits_is_next),
        TEST(a_message_too_large_to_hold_is_left_to_the_broker_to_move),
        TEST(when_the_queue_is_deleted_what_was_read_is_still_given_and_then_a_new_link_is_made),
    };
    return cmocka_run_group_tests_name("consumer_amqp", tests, NULL, NULL);
}
