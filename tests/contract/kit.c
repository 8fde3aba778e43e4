#include "kit.h"

#include "clock.h"
#include "log.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

static struct kit *
kit_of(struct env *env)
{
    return env->data;
}

static int64_t
kit_wall_ms(struct env *env)
{
    return clock_wall_ms() + atomic_load(&kit_of(env)->wall_jump_ms);
}

static int64_t
kit_mono_ms(struct env *env)
{
    (void)env;
    return clock_mono_ns() / 1000000;
}

/* Fixed, so that a run can be repeated. */
static uint64_t
kit_random(struct env *env)
{
    static _Atomic uint64_t n;
    (void)env;
    return atomic_fetch_add(&n, 1) * 0x9e3779b97f4a7c15u;
}

/* Not even _exit: a sanitizer's waits for other threads, and a crash waits for nobody. */
void
kit_end_process(int code)
{
    syscall(SYS_exit_group, code);
    abort();
}

static enum err
kit_fault(struct env *env, const char *point)
{
    struct kit *k = kit_of(env);
    int kind = atomic_load(&k->fault);
    if (kind == FAULT_NONE ||
        (k->fault_only != NULL && strncmp(point, k->fault_only, strlen(k->fault_only)) != 0) ||
        atomic_fetch_sub(&k->countdown, 1) != 0) {
        return OK;
    }
    snprintf(k->fault_point, sizeof k->fault_point, "%s", point);
    atomic_store(&k->fault_fired, true);
    if (kind == FAULT_CRASH) {
        kit_end_process(FAULT_CRASH_CODE);
    }
    return k->fault_error;
}

static void
kit_fatal(struct env *env, const char *why)
{
    struct kit *k = kit_of(env);
    log_error(k->log, "fatal", "why=\"%s\"", why);
    if (k->fatal_exits) {
        kit_end_process(74);
    }
    atomic_fetch_add(&k->fatals, 1);
}

void
kit_arm(struct kit *k, enum fault_kind kind, enum err error, const char *only, int countdown)
{
    kit_disarm(k);
    k->fault_error = error;
    k->fault_only = only;
    atomic_store(&k->countdown, countdown);
    atomic_store(&k->fault_fired, false);
    atomic_store(&k->fault, (int)kind);
}

void
kit_disarm(struct kit *k)
{
    atomic_store(&k->fault, FAULT_NONE);
}

void
kit_open(struct kit *k)
{
    kit_open_in(k, "/tmp");
}

void
kit_open_in(struct kit *k, const char *parent)
{
    *k = (struct kit){.fault = FAULT_NONE};
    bool show = getenv("WEIR_LOG_TESTS") != NULL;
    k->log = log_open(show ? STDERR_FILENO : -1, LOG_DEBUG, false);
    assert_non_null(k->log);
    k->env = (struct env){
        .wall_ms = kit_wall_ms,
        .mono_ms = kit_mono_ms,
        .random = kit_random,
        .fault = kit_fault,
        .fatal = kit_fatal,
        .log = k->log,
        .data = k,
    };
    snprintf(k->folder, sizeof k->folder, "%s/weir-test-XXXXXX", parent);
    assert_non_null(mkdtemp(k->folder));
    k->options = (struct store_options){
        .folder = k->folder,
        .mailbox_bytes = (size_t)8 * 1024 * 1024,
        .memory_bytes = (size_t)4 * 1024 * 1024,
        .max_bytes = (uint64_t)64 * 1024 * 1024,
        .min_free_bytes = 0,
        .stats = &k->stats,
    };
}

void
kit_open_store(struct kit *k)
{
    char why[512] = "";
    enum err e = store_open(&k->store, &k->options, &k->env, why, sizeof why);
    if (e != OK) {
        fail_msg("store_open: %s: %s", err_name(e), why);
    }
}

void
kit_close_store(struct kit *k)
{
    store_close(k->store);
    k->store = NULL;
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

void
kit_close(struct kit *k)
{
    kit_close_store(k);
    log_close(k->log);
    nftw(k->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

struct event *
kit_event(const char *id, const char *payload)
{
    struct event *ev =
        event_new(span_of(id), SPAN("TEST"), SPAN("2026-02-03T12:30:00Z"), span_of(payload));
    assert_non_null(ev);
    return ev;
}

enum err
kit_publish_list(struct queue *q, struct mail_list *list)
{
    struct mailbox *answers = mailbox_open(0, 0, NULL, NULL);
    struct publish *p = calloc(1, sizeof *p);
    assert_true(answers != NULL && p != NULL);
    p->reply.mail.bytes = list->bytes;
    p->events = *list;
    p->count = list->count;
    p->reply_to = answers;
    *list = (struct mail_list){0};
    p->result = ERR_MISUSE;
    enum err e = q->ops->publish(q, p);
    if (e == OK) {
        struct mail_list got = mailbox_take(answers, 1, SIZE_MAX, KIT_DEADLINE_MS);
        assert_ptr_equal(got.first, &p->reply.mail);
        e = p->result;
        if (e == OK) {
            assert_int_equal(p->durability, DURABILITY_FSYNC);
        }
    } else {
        for (struct mail *m = mail_list_pop(&p->events); m != NULL; m = mail_list_pop(&p->events)) {
            event_free((struct event *)m);
        }
    }
    free(p);
    mailbox_close(answers);
    return e;
}

enum err
kit_publish_event(struct queue *q, struct event *ev)
{
    struct mail_list list = {0};
    mail_list_add(&list, &ev->mail);
    return kit_publish_list(q, &list);
}

static struct event *
event_of_its_own(const char *id)
{
    char payload[EVENT_ID_MAX + 32];
    snprintf(payload, sizeof payload, "{\"of\":\"%s\"}", id);
    return kit_event(id, payload);
}

enum err
kit_publish(struct queue *q, const char *const *ids, size_t n)
{
    struct mail_list list = {0};
    for (size_t i = 0; i < n; i++) {
        mail_list_add(&list, &event_of_its_own(ids[i])->mail);
    }
    return kit_publish_list(q, &list);
}

enum err
kit_publish_one(struct queue *q, const char *id)
{
    return kit_publish_event(q, event_of_its_own(id));
}

enum err
kit_publish_run(struct queue *q, const char *prefix, size_t count)
{
    struct mail_list list = {0};
    for (size_t i = 0; i < count; i++) {
        char id[EVENT_ID_MAX];
        snprintf(id, sizeof id, "%s%zu", prefix, i);
        mail_list_add(&list, &event_of_its_own(id)->mail);
    }
    return kit_publish_list(q, &list);
}

/* A take may give fewer than there are: a queue hands on what it accepted group by group. */
void
kit_take(struct consumer *c, struct batch *b, size_t n)
{
    int64_t until_ns = clock_mono_ns() + (int64_t)KIT_DEADLINE_MS * 1000000;
    while (b->n < n && clock_mono_ns() < until_ns) {
        struct batch some;
        assert_int_equal(batch_init(&some, b->cap - b->n), OK);
        assert_int_equal(c->ops->take(c, &some, 100), OK);
        for (size_t i = 0; i < some.n; i++) {
            batch_add(b, some.item[i].ev); /* now b's */
        }
        b->joined = some.joined;
        some.n = 0;
        batch_fini(&some);
    }
    assert_int_equal(b->n, n);
}

void
kit_decide(struct batch *b, enum event_state state)
{
    for (size_t i = 0; i < b->n; i++) {
        if (b->item[i].state == EVENT_PROCESSING) {
            b->item[i].state = state;
        }
    }
}

bool
kit_id_is(const struct delivery *d, const char *id)
{
    return span_eq(event_id(d->ev), span_of(id));
}

uint64_t
kit_depth(struct queue *q)
{
    struct queue_status status = {0};
    q->ops->status(q, &status);
    return status.depth;
}

int
kit_run(const char *name, const struct CMUnitTest *tests, size_t n, void *maker)
{
    struct CMUnitTest *mine = calloc(n, sizeof *mine);
    if (mine == NULL) {
        return 1;
    }
    for (size_t i = 0; i < n; i++) {
        mine[i] = tests[i];
        mine[i].initial_state = maker;
    }
    print_message("%s\n", name);
    int failures = _cmocka_run_group_tests(name, mine, n, NULL, NULL);
    free(mine);
    return failures;
}
