/* The local store over restarts: order, duplicates, a backlog larger than memory, refusals. */
#include "store/store.h"

#include "env.h"
#include "log.h"
#include "stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char folder[64];
    struct env env;
    struct log *log;
    struct stats stats;
    struct store_options o;
    struct store *store;
    struct mailbox *replies;
};

static void
open_store(struct fixture *f)
{
    char why[512];
    enum err e = store_open(&f->store, &f->o, &f->env, why, sizeof why);
    if (e != OK) {
        print_error("%s\n", why);
    }
    assert_int_equal(e, OK);
}

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->folder, "/tmp/weir-store-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    f->log = log_open(2, LOG_ERROR, false);
    env_init_system(&f->env, f->log);
    f->replies = mailbox_open(SIZE_MAX, SIZE_MAX, NULL, NULL);
    f->o = (struct store_options){
        .folder = f->folder,
        .mailbox_bytes = 1 << 20,
        .memory_bytes = 1 << 20,
        .max_bytes = 1 << 30,
        .stats = &f->stats,
    };
    open_store(f);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;
    char command[128];
    store_close(f->store);
    mailbox_close(f->replies);
    log_close(f->log);
    snprintf(command, sizeof command, "rm -r %s", f->folder);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static void
restart(struct fixture *f)
{
    store_close(f->store);
    f->store = NULL;
    open_store(f);
}

static struct publish *
make_publish(struct fixture *f, const char *const *ids, size_t n, const char *payload)
{
    struct publish *p = calloc(1, sizeof *p);
    p->reply_to = f->replies;
    for (size_t i = 0; i < n; i++) {
        struct event *ev =
            event_new(span_of(ids[i]), SPAN("T"), SPAN("2026-02-03T12:30:00Z"), span_of(payload));
        mail_list_add(&p->events, &ev->mail);
    }
    p->count = n;
    p->reply.mail.bytes = p->events.bytes;
    return p;
}

/* Publishes and waits for the answer. */
static enum err
publish_list(struct fixture *f, const char *const *ids, size_t n, const char *payload)
{
    struct publish *p = make_publish(f, ids, n, payload);
    enum err e = store_publish(f->store, p);
    if (e == OK) {
        struct mail_list answer = mailbox_take(f->replies, 1, SIZE_MAX, -1);
        assert_ptr_equal(answer.first, p);
        e = p->result;
    } else {
        struct mail *m;
        while ((m = mail_list_pop(&p->events)) != NULL) {
            event_free((struct event *)m);
        }
    }
    free(p);
    return e;
}

static enum err
publish_one(struct fixture *f, const char *id, const char *payload)
{
    return publish_list(f, &id, 1, payload);
}

static void
take(struct fixture *f, struct batch *b)
{
    assert_int_equal(store_take(f->store, b, 5000), OK);
    assert_true(b->n > 0);
}

static void
settle(struct fixture *f, struct batch *b)
{
    b->staged = STAGE_WRITE | STAGE_MARK;
    assert_int_equal(store_commit(f->store, b, true), OK);
}

static uint64_t
depth(struct fixture *f)
{
    struct queue_status status;
    store_status(f->store, &status);
    return status.depth;
}

static struct question *
ask_one(struct fixture *f, const char *id)
{
    struct question *q = calloc(1, sizeof *q);
    q->reply_to = f->replies;
    q->kind = QUESTION_ONE;
    q->id_len = strlen(id);
    memcpy(q->id, id, q->id_len);
    assert_int_equal(store_ask(f->store, q), OK);
    struct mail_list answer = mailbox_take(f->replies, 1, SIZE_MAX, -1);
    assert_ptr_equal(answer.first, q);
    return q;
}

static void
question_end(struct question *q)
{
    for (size_t i = 0; i < q->n; i++) {
        event_free(q->rows[i].ev);
    }
    free(q->rows);
    free(q);
}

static void
an_accepted_event_is_given_out_again_after_a_restart(void **state)
{
    struct fixture *f = *state;
    struct batch b;
    assert_int_equal(batch_init(&b, 8), OK);
    assert_int_equal(publish_one(f, "evt_1", "{\"a\":1}"), OK);
    take(f, &b);
    batch_reset(&b); /* taken, and the process ends before it is settled */
    restart(f);
    assert_int_equal(depth(f), 1);
    take(f, &b);
    assert_true(span_eq(event_id(b.item[0].ev), SPAN("evt_1")));
    assert_true(span_eq(event_payload(b.item[0].ev), SPAN("{\"a\":1}")));
    settle(f, &b);
    assert_int_equal(b.item[0].state, EVENT_PROCESSED);
    assert_int_equal(depth(f), 0);
    batch_fini(&b);
}

static void
an_id_is_known_for_ever_and_another_payload_is_a_conflict(void **state)
{
    struct fixture *f = *state;
    struct batch b;
    assert_int_equal(batch_init(&b, 8), OK);
    const struct {
        const char *payload;
        enum event_state state;
        bool conflict;
    } tries[] = {
        {"{\"a\":1}", EVENT_PROCESSED, false},
        {"{\"a\":1}", EVENT_DUPLICATE, false},
        {"{\"a\":2}", EVENT_DUPLICATE, true},
    };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(publish_one(f, "evt_1", tries[i].payload), OK);
        take(f, &b);
        settle(f, &b);
        assert_int_equal(b.item[0].state, tries[i].state);
        assert_int_equal(b.item[0].conflict, tries[i].conflict);
        batch_reset(&b);
        restart(f);
    }
    struct question *q = ask_one(f, "evt_1");
    assert_int_equal(q->result, OK);
    assert_true(span_eq(event_payload(q->rows[0].ev), SPAN("{\"a\":1}")));
    question_end(q);
    batch_fini(&b);
}

static void
the_same_id_twice_in_one_batch_has_one_effect(void **state)
{
    struct fixture *f = *state;
    struct batch b;
    const char *const ids[] = {"evt_1", "evt_2", "evt_1"};
    assert_int_equal(batch_init(&b, 8), OK);
    assert_int_equal(publish_list(f, ids, 3, "{}"), OK);
    take(f, &b);
    assert_int_equal(b.n, 3);
    settle(f, &b);
    assert_int_equal(b.item[0].state, EVENT_PROCESSED);
    assert_int_equal(b.item[1].state, EVENT_PROCESSED);
    assert_int_equal(b.item[2].state, EVENT_DUPLICATE);
    batch_fini(&b);
}

static void
a_backlog_larger_than_memory_comes_out_complete_and_in_order(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    f->store = NULL;
    f->o.memory_bytes = 4096;
    open_store(f);
    struct batch b;
    char id[32];
    const char *one = id;
    uint64_t last = 0;
    size_t seen = 0;
    assert_int_equal(batch_init(&b, 7), OK);
    for (int i = 0; i < 500; i++) {
        snprintf(id, sizeof id, "evt_%d", i);
        assert_int_equal(publish_list(f, &one, 1, "{}"), OK);
    }
    while (seen < 501) {
        if (seen == 252) {
            restart(f); /* what is not settled is given out again, nothing else */
        }
        take(f, &b);
        for (size_t i = 0; i < b.n; i++) {
            assert_true(b.item[i].ev->seq > last);
            last = b.item[i].ev->seq;
            snprintf(id, sizeof id, "evt_%zu", seen++);
            assert_true(span_eq(event_id(b.item[i].ev), span_of(id)));
        }
        settle(f, &b);
        batch_reset(&b);
        if (seen == 210) {
            /* more arrives while older events still wait on disk */
            assert_int_equal(publish_one(f, "evt_500", "{}"), OK);
        }
    }
    assert_int_equal(depth(f), 0);
    batch_fini(&b);
}

static void
a_full_queue_refuses_and_takes_again_when_it_has_drained(void **state)
{
    struct fixture *f = *state;
    store_close(f->store);
    f->store = NULL;
    f->o.max_bytes = 600;
    open_store(f);
    struct batch b;
    char id[32];
    const char *one = id;
    int accepted = 0;
    enum err e = OK;
    assert_int_equal(batch_init(&b, 100), OK);
    while (e == OK) {
        snprintf(id, sizeof id, "evt_%d", accepted);
        e = publish_list(f, &one, 1, "{}");
        accepted += e == OK;
        assert_true(accepted < 100);
    }
    assert_int_equal(e, ERR_QUEUE_FULL);
    struct queue_status status;
    store_status(f->store, &status);
    assert_false(status.ready);
    assert_in_range(status.retry_after_s, 1, 60);
    while (depth(f) > 0) {
        take(f, &b);
        settle(f, &b);
        batch_reset(&b);
    }
    assert_int_equal(publish_one(f, "evt_after", "{}"), OK);
    batch_fini(&b);
}

static void
a_dead_event_leaves_the_queue_and_is_found_with_its_reason(void **state)
{
    struct fixture *f = *state;
    struct batch b;
    assert_int_equal(batch_init(&b, 8), OK);
    assert_int_equal(publish_one(f, "evt_1", "{\"a\":1}"), OK);
    take(f, &b);
    b.item[0].state = EVENT_DEAD;
    strcpy(b.item[0].reason, "no such type");
    settle(f, &b);
    batch_fini(&b);
    restart(f);
    assert_int_equal(depth(f), 0);
    struct question *q = ask_one(f, "evt_1");
    assert_int_equal(q->result, OK);
    assert_int_equal(q->rows[0].state, EVENT_DEAD);
    assert_string_equal(q->rows[0].reason, "no such type");
    question_end(q);
}

static void
an_event_is_found_while_it_is_queued_and_an_unknown_one_is_not(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(publish_one(f, "evt_1", "{}"), OK);
    struct question *q = ask_one(f, "evt_1");
    assert_int_equal(q->result, OK);
    assert_int_equal(q->rows[0].state, EVENT_QUEUED);
    question_end(q);
    q = ask_one(f, "evt_2");
    assert_int_equal(q->result, ERR_NOT_FOUND);
    question_end(q);
}

static void
a_second_store_on_the_same_folder_is_refused(void **state)
{
    struct fixture *f = *state;
    struct store *second = NULL;
    char why[512];
    assert_int_equal(store_open(&second, &f->o, &f->env, why, sizeof why), ERR_UNAVAILABLE);
    assert_non_null(strstr(why, "in use by another weir"));
    assert_int_equal(publish_one(f, "evt_1", "{}"), OK);
}

static void
only_marks_keep_the_id_without_the_event(void **state)
{
    struct fixture *f = *state;
    struct batch b;
    assert_int_equal(batch_init(&b, 8), OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(publish_one(f, "evt_1", i < 2 ? "{}" : "{\"a\":1}"), OK);
        take(f, &b);
        b.staged = STAGE_MARK;
        assert_int_equal(store_seen(f->store, &b), OK);
        assert_int_equal(b.item[0].state, i == 0 ? EVENT_PROCESSING : EVENT_DUPLICATE);
        assert_int_equal(b.item[0].conflict, i == 2);
        assert_int_equal(store_commit(f->store, &b, true), OK);
        batch_reset(&b);
    }
    batch_fini(&b);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_accepted_event_is_given_out_again_after_a_restart),
        TEST(an_id_is_known_for_ever_and_another_payload_is_a_conflict),
        TEST(the_same_id_twice_in_one_batch_has_one_effect),
        TEST(a_backlog_larger_than_memory_comes_out_complete_and_in_order),
        TEST(a_full_queue_refuses_and_takes_again_when_it_has_drained),
        TEST(a_dead_event_leaves_the_queue_and_is_found_with_its_reason),
        TEST(an_event_is_found_while_it_is_queued_and_an_unknown_one_is_not),
        TEST(a_second_store_on_the_same_folder_is_refused),
        TEST(only_marks_keep_the_id_without_the_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
