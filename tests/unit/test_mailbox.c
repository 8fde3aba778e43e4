#include "mailbox.h"

#include "thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

struct letter {
    struct mail mail; /* first */
    unsigned number;
};

static unsigned
number_of(const struct mail *mail)
{
    return ((const struct letter *)mail)->number;
}

static void
count_wake(void *data)
{
    ++*(unsigned *)data;
}

static void
what_is_posted_first_is_taken_first(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_open(100, 10, NULL, NULL);
    struct letter a = {{.bytes = 1}, 1}, b = {{.bytes = 2}, 2}, c = {{.bytes = 3}, 3};
    assert_int_equal(mailbox_post(m, &a.mail), OK);
    assert_int_equal(mailbox_post(m, &b.mail), OK);
    assert_int_equal(mailbox_post(m, &c.mail), OK);
    assert_int_equal(mailbox_count(m), 3);
    assert_int_equal(mailbox_bytes(m), 6);
    struct mail_list got = mailbox_take(m, 10, 100, 0);
    assert_int_equal(got.count, 3);
    assert_int_equal(got.bytes, 6);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(number_of(mail_list_pop(&got)), i);
    }
    assert_null(mail_list_pop(&got));
    assert_int_equal(mailbox_bytes(m), 0);
    mailbox_close(m);
}

static void
a_post_over_the_count_is_busy_and_changes_nothing(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_open(100, 1, NULL, NULL);
    struct letter a = {.number = 1}, b = {.number = 2};
    assert_int_equal(mailbox_post(m, &a.mail), OK);
    assert_int_equal(mailbox_post(m, &b.mail), ERR_BUSY);
    struct mail_list got = mailbox_take(m, 10, 100, 0);
    assert_int_equal(got.count, 1);
    assert_int_equal(number_of(got.first), 1);
    assert_int_equal(mailbox_post(m, &b.mail), OK);
    mailbox_take(m, 10, 100, 0);
    mailbox_close(m);
}

static void
a_post_over_the_bytes_is_busy_and_exactly_full_is_not(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_open(10, 10, NULL, NULL);
    struct letter a = {.mail.bytes = 6}, b = {.mail.bytes = 5}, c = {.mail.bytes = 4};
    assert_int_equal(mailbox_post(m, &a.mail), OK);
    assert_int_equal(mailbox_post(m, &b.mail), ERR_BUSY);
    assert_int_equal(mailbox_post(m, &c.mail), OK);
    assert_int_equal(mailbox_bytes(m), 10);
    mailbox_take(m, 10, 100, 0);
    mailbox_close(m);
}

static void
a_list_is_posted_whole_or_not_at_all(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_open(100, 2, NULL, NULL);
    struct letter letters[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    struct mail_list three = {0};
    for (size_t i = 0; i < 3; i++) {
        mail_list_add(&three, &letters[i].mail);
    }
    assert_int_equal(mailbox_post_list(m, &three), ERR_BUSY);
    assert_int_equal(three.count, 3);
    assert_int_equal(mailbox_count(m), 0);
    mail_list_pop(&three);
    assert_int_equal(mailbox_post_list(m, &three), OK);
    assert_int_equal(three.count, 0);
    struct mail_list got = mailbox_take(m, 10, 100, 0);
    assert_int_equal(number_of(mail_list_pop(&got)), 2);
    assert_int_equal(number_of(mail_list_pop(&got)), 3);
    mailbox_close(m);
}

static void
a_reply_is_never_refused(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_open(1, 1, NULL, NULL);
    struct letter a = {.mail.bytes = 50}, b = {.mail.bytes = 50};
    mailbox_post_reply(m, &a.mail);
    mailbox_shut(m);
    mailbox_post_reply(m, &b.mail);
    assert_int_equal(mailbox_take(m, 10, 100, 0).count, 2);
    mailbox_close(m);
}

static void
the_wake_comes_only_when_the_box_was_empty(void **state)
{
    (void)state;
    unsigned woken = 0;
    struct mailbox *m = mailbox_open(100, 10, count_wake, &woken);
    struct letter a = {.number = 1}, b = {.number = 2};
    assert_int_equal(mailbox_post(m, &a.mail), OK);
    assert_int_equal(mailbox_post(m, &b.mail), OK);
    assert_int_equal(woken, 1);
    mailbox_take(m, 10, 100, 0);
    assert_int_equal(mailbox_post(m, &a.mail), OK);
    assert_int_equal(woken, 2);
    mailbox_take(m, 10, 100, 0);
    mailbox_close(m);
}

static void
a_take_stops_at_its_bounds_but_always_gives_the_first(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_open(100, 10, NULL, NULL);
    struct letter letters[4] = {{{.bytes = 20}, 1}, {{.bytes = 5}, 2}, {{.bytes = 5}, 3}, {{0}, 4}};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(mailbox_post(m, &letters[i].mail), OK);
    }
    assert_int_equal(mailbox_take(m, 10, 8, 0).count, 1); /* larger than 8, and alone */
    assert_int_equal(mailbox_take(m, 10, 8, 0).count, 1); /* the next 5 would not fit */
    assert_int_equal(mailbox_take(m, 1, 8, 0).count, 1);
    assert_int_equal(mailbox_take(m, 10, 8, 0).count, 1);
    assert_int_equal(mailbox_take(m, 10, 8, 0).count, 0);
    mailbox_close(m);
}

static void
after_shut_posts_are_refused_and_what_is_inside_stays_takeable(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_open(100, 10, NULL, NULL);
    struct letter a = {.number = 1}, b = {.number = 2};
    assert_int_equal(mailbox_post(m, &a.mail), OK);
    mailbox_shut(m);
    assert_int_equal(mailbox_post(m, &b.mail), ERR_STOPPING);
    assert_int_equal(mailbox_take(m, 10, 100, -1).count, 1);
    assert_int_equal(mailbox_take(m, 10, 100, -1).count, 0); /* returns: shut takers never wait */
    mailbox_close(m);
}

static void
a_nudge_before_the_take_is_not_lost(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_open(100, 10, NULL, NULL);
    mailbox_nudge(m);
    assert_int_equal(mailbox_take(m, 10, 100, -1).count, 0);
    assert_int_equal(mailbox_take(m, 10, 100, 1).count, 0); /* only the time ends this one */
    mailbox_close(m);
}

struct taker {
    struct mailbox *box;
    struct thread thread;
    _Atomic size_t got;
};

static void
take_once(void *data)
{
    struct taker *t = data;
    atomic_store(&t->got, mailbox_take(t->box, 10, 100, -1).count + 1);
}

static void
start_taker(struct taker *t, struct mailbox *box)
{
    *t = (struct taker){.box = box};
    assert_int_equal(thread_start(&t->thread, "taker", take_once, t), OK);
}

static void
a_waiting_taker_is_woken_by_a_post_and_by_a_nudge_and_by_shut(void **state)
{
    (void)state;
    struct mailbox *m = mailbox_open(100, 10, NULL, NULL);
    struct letter a = {.number = 1};
    struct taker t;
    start_taker(&t, m);
    assert_int_equal(mailbox_post(m, &a.mail), OK);
    thread_join(&t.thread);
    assert_int_equal(t.got, 2);
    start_taker(&t, m);
    mailbox_nudge(m);
    thread_join(&t.thread);
    assert_int_equal(t.got, 1);
    start_taker(&t, m);
    mailbox_shut(m);
    thread_join(&t.thread);
    assert_int_equal(t.got, 1);
    mailbox_close(m);
}

#define POSTERS 3
#define TAKERS 2
#define EACH 2000

struct crowd {
    struct mailbox *box;
    struct thread poster[POSTERS];
    struct thread taker[TAKERS];
    atomic_uint next_poster;
    atomic_uint arrived;
    atomic_uint taken[POSTERS * EACH];
    atomic_bool out_of_order;
};

/* A mailbox of 16 is full most of the time: the posters meet ERR_BUSY and try again. */
static void
post_many(void *data)
{
    struct crowd *c = data;
    unsigned me = atomic_fetch_add(&c->next_poster, 1);
    for (unsigned i = 0; i < EACH; i++) {
        struct letter *l = calloc(1, sizeof *l);
        l->number = me * EACH + i;
        while (mailbox_post(c->box, &l->mail) != OK) {
            sched_yield();
        }
    }
}

static void
take_many(void *data)
{
    struct crowd *c = data;
    unsigned last[POSTERS] = {0};
    while (atomic_load(&c->arrived) < POSTERS * EACH) {
        struct mail_list got = mailbox_take(c->box, 8, 1000, 50);
        atomic_fetch_add(&c->arrived, (unsigned)got.count);
        for (struct mail *m = mail_list_pop(&got); m != NULL; m = mail_list_pop(&got)) {
            unsigned number = number_of(m);
            unsigned place = number % EACH + 1;
            if (place <= last[number / EACH]) {
                atomic_store(&c->out_of_order, true);
            }
            last[number / EACH] = place;
            atomic_fetch_add(&c->taken[number], 1);
            free(m);
        }
    }
}

static void
many_posters_and_takers_lose_nothing_and_each_poster_keeps_its_order(void **state)
{
    (void)state;
    struct crowd *c = calloc(1, sizeof *c);
    c->box = mailbox_open(1000, 16, NULL, NULL);
    for (size_t i = 0; i < POSTERS; i++) {
        assert_int_equal(thread_start(&c->poster[i], "poster", post_many, c), OK);
    }
    for (size_t i = 0; i < TAKERS; i++) {
        assert_int_equal(thread_start(&c->taker[i], "taker", take_many, c), OK);
    }
    for (size_t i = 0; i < POSTERS; i++) {
        thread_join(&c->poster[i]);
    }
    for (size_t i = 0; i < TAKERS; i++) {
        thread_join(&c->taker[i]);
    }
    for (unsigned i = 0; i < POSTERS * EACH; i++) {
        assert_int_equal(c->taken[i], 1);
    }
    assert_false(c->out_of_order);
    mailbox_close(c->box);
    free(c);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_posted_first_is_taken_first),
        cmocka_unit_test(a_post_over_the_count_is_busy_and_changes_nothing),
        cmocka_unit_test(a_post_over_the_bytes_is_busy_and_exactly_full_is_not),
        cmocka_unit_test(a_list_is_posted_whole_or_not_at_all),
        cmocka_unit_test(a_reply_is_never_refused),
        cmocka_unit_test(the_wake_comes_only_when_the_box_was_empty),
        cmocka_unit_test(a_take_stops_at_its_bounds_but_always_gives_the_first),
        cmocka_unit_test(after_shut_posts_are_refused_and_what_is_inside_stays_takeable),
        cmocka_unit_test(a_nudge_before_the_take_is_not_lost),
        cmocka_unit_test(a_waiting_taker_is_woken_by_a_post_and_by_a_nudge_and_by_shut),
        cmocka_unit_test(many_posters_and_takers_lose_nothing_and_each_poster_keeps_its_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
