#include "queue/queue_amqp_flight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CAP 16

static struct flight flight;
static struct mail_list answered;

static int
set_up(void **state)
{
    (void)state;
    answered = (struct mail_list){0};
    return flight_init(&flight, CAP) == OK ? 0 : -1;
}

static int
tear_down(void **state)
{
    (void)state;
    flight_fini(&flight);
    return 0;
}

/* One publish in one message; gives its tag. */
static uint64_t
send_one(struct publish *p)
{
    *p = (struct publish){.parts = 1};
    uint64_t tag = flight.next;
    mail_list_add(&flight_add(&flight, 10, 0)->ends, &p->reply.mail);
    return tag;
}

static bool
is_answered(const struct publish *p)
{
    for (const struct mail *m = answered.first; m != NULL; m = m->next) {
        if (m == &p->reply.mail) {
            return true;
        }
    }
    return false;
}

static void
decide(uint64_t tag, bool multiple, enum err result)
{
    assert_int_equal(flight_decide(&flight, &answered, tag, multiple, result), OK);
}

static void
an_ack_answers_its_publish_alone(void **state)
{
    struct publish p[3];
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(send_one(&p[i]), i + 1);
    }
    decide(2, false, OK);
    assert_true(is_answered(&p[1]) && p[1].result == OK);
    assert_false(is_answered(&p[0]) || is_answered(&p[2]));
    assert_int_equal(flight.undecided, 2);
    assert_int_equal(flight.bytes, 20);
    assert_int_equal(flight.oldest, 1);
    decide(0, true, OK); /* tag 0: all that are left */
    assert_int_equal(answered.count, 3);
    assert_int_equal(flight.oldest, 4);
}

static void
a_returned_message_is_not_saved_by_its_ack(void **state)
{
    struct publish p[2];
    (void)state;
    send_one(&p[0]);
    send_one(&p[1]);
    assert_int_equal(flight_return(&flight, 1), OK);
    assert_int_equal(answered.count, 0);
    decide(2, true, OK);
    assert_int_equal(p[0].result, ERR_UNAVAILABLE);
    assert_int_equal(p[1].result, OK);
}

static void
a_publish_over_several_messages_waits_for_each(void **state)
{
    struct publish p = {.parts = 3};
    (void)state;
    flight_add(&flight, 1, 0)->goes_on = &p;
    flight_add(&flight, 1, 0)->goes_on = &p;
    mail_list_add(&flight_add(&flight, 1, 0)->ends, &p.reply.mail);
    decide(3, false, OK);
    decide(1, false, ERR_UNAVAILABLE);
    assert_false(is_answered(&p));
    decide(2, false, OK);
    assert_true(is_answered(&p));
    assert_int_equal(p.result, ERR_UNAVAILABLE);
}

static void
a_confirm_of_what_is_not_on_its_way_is_told(void **state)
{
    struct publish p;
    (void)state;
    assert_int_equal(flight_decide(&flight, &answered, 1, false, OK), ERR_INVALID);
    assert_int_equal(flight_decide(&flight, &answered, 1, true, OK), ERR_INVALID);
    assert_int_equal(flight_return(&flight, 0), ERR_INVALID);
    uint64_t tag = send_one(&p);
    assert_int_equal(flight_decide(&flight, &answered, tag + 1, true, OK), ERR_INVALID);
    decide(tag, false, OK);
    assert_int_equal(flight_decide(&flight, &answered, tag, false, OK), ERR_INVALID);
    assert_int_equal(flight_return(&flight, tag), ERR_INVALID);
    assert_int_equal(answered.count, 1);
}

static void
late_confirms_of_given_up_publishes_tell_nobody(void **state)
{
    struct publish p[3];
    (void)state;
    send_one(&p[0]);
    send_one(&p[1]);
    flight_give_up(&flight, &answered, ERR_UNAVAILABLE);
    assert_int_equal(answered.count, 2);
    assert_int_equal(flight.undecided, 2); /* their bytes are still on the way */
    assert_int_equal(flight_oldest_ms(&flight), 0);
    send_one(&p[2]);
    decide(2, true, OK);
    assert_int_equal(answered.count, 2);
    assert_int_equal(p[0].result, ERR_UNAVAILABLE);
    decide(3, false, OK);
    assert_int_equal(p[2].result, OK);
}

static void
a_new_connection_counts_from_one(void **state)
{
    struct publish p[2];
    (void)state;
    send_one(&p[0]);
    flight_reset(&flight, &answered, ERR_UNAVAILABLE);
    assert_int_equal(p[0].result, ERR_UNAVAILABLE);
    assert_int_equal(send_one(&p[1]), 1);
    assert_int_equal(flight.undecided, 1);
    decide(1, false, OK);
    assert_int_equal(p[1].result, OK);
}

/* ---- against a model: random sends, acks, nacks and returns in any order ---- */

#define MODEL_MESSAGES 4000

struct model {
    struct publish *publish;          /* one a message, and one more over every two of them */
    uint8_t said[MODEL_MESSAGES + 1]; /* by tag: 0 nothing, 1 ack, 2 nack */
    uint8_t returned[MODEL_MESSAGES + 1];
    uint64_t sent;
};

static bool
message_is_good(const struct model *m, uint64_t tag)
{
    return m->said[tag] == 1 && !m->returned[tag];
}

static void
model_send(struct model *m)
{
    uint64_t tag = ++m->sent;
    struct publish *own = &m->publish[2 * tag];
    struct publish *pair = &m->publish[2 * (tag - 1 + tag % 2) + 1];
    struct flight_message *f = flight_add(&flight, tag, 0);
    own->parts = 1;
    mail_list_add(&f->ends, &own->reply.mail);
    if (tag % 2 == 1) {
        pair->parts = 2;
        f->goes_on = pair;
    } else {
        mail_list_add(&f->ends, &pair->reply.mail);
    }
}

static void
model_confirm(struct model *m, uint64_t tag, bool multiple, bool good)
{
    for (uint64_t t = multiple ? 1 : tag; t <= tag; t++) {
        m->said[t] = m->said[t] != 0 ? m->said[t] : good ? 1 : 2;
    }
    decide(tag, multiple, good ? OK : ERR_UNAVAILABLE);
}

static void
model_step(struct model *m)
{
    int dice = rand() % 10;
    if (dice < 4 && flight_has_room(&flight) && m->sent < MODEL_MESSAGES) {
        model_send(m);
        return;
    }
    if (flight.undecided == 0) {
        return;
    }
    uint64_t tag = flight.oldest + (uint64_t)rand() % (flight.next - flight.oldest);
    if (m->said[tag] != 0) {
        return;
    }
    if (dice == 9) {
        m->returned[tag] = 1;
        assert_int_equal(flight_return(&flight, tag), OK);
    } else {
        model_confirm(m, tag, dice % 3 == 0, dice != 8);
    }
}

static void
model_check(const struct model *m)
{
    size_t undecided = 0;
    size_t bytes = 0;
    for (uint64_t t = 1; t <= m->sent; t++) {
        undecided += m->said[t] == 0;
        bytes += m->said[t] == 0 ? t : 0;
    }
    assert_int_equal(flight.undecided, undecided);
    assert_int_equal(flight.bytes, bytes);
}

static void
confirms_in_any_order_answer_as_a_model_says(void **state)
{
    (void)state;
    srand(7);
    struct model *m = calloc(1, sizeof *m);
    m->publish = calloc(2 * (MODEL_MESSAGES + 2), sizeof *m->publish);
    while (m->sent < MODEL_MESSAGES || flight.undecided > 0) {
        model_step(m);
        if (rand() % 64 == 0) {
            model_check(m);
        }
    }
    for (uint64_t t = 1; t <= m->sent; t++) {
        bool good = message_is_good(m, t);
        assert_int_equal(m->publish[2 * t].result, good ? OK : ERR_UNAVAILABLE);
        if (t % 2 == 0) {
            good = good && message_is_good(m, t - 1);
            assert_int_equal(m->publish[2 * (t - 1) + 1].result, good ? OK : ERR_UNAVAILABLE);
        }
    }
    assert_int_equal(answered.count, MODEL_MESSAGES + MODEL_MESSAGES / 2);
    free(m->publish);
    free(m);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_ack_answers_its_publish_alone),
        TEST(a_returned_message_is_not_saved_by_its_ack),
        TEST(a_publish_over_several_messages_waits_for_each),
        TEST(a_confirm_of_what_is_not_on_its_way_is_told),
        TEST(late_confirms_of_given_up_publishes_tell_nobody),
        TEST(a_new_connection_counts_from_one),
        TEST(confirms_in_any_order_answer_as_a_model_says),
    };
    return cmocka_run_group_tests_name("amqp_flight", tests, NULL, NULL);
}
