#include "amqp/amqp_watch.h"

#include "clock.h"
#include "env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define LONG_MS 600000

/* A clock that a test sets. */
struct rig {
    struct env env;
    _Atomic int64_t now_ms;
    int fd[2];
    struct amqp_watch *watch;
};

static int64_t
rig_now(struct env *env)
{
    return atomic_load(&((struct rig *)env->data)->now_ms);
}

static int
set_up(void **state)
{
    static struct rig r;
    r = (struct rig){.env = {.mono_ms = rig_now, .data = &r}, .now_ms = 1000};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, r.fd), 0);
    r.watch = amqp_watch_open(&r.env, r.fd[0]);
    assert_non_null(r.watch);
    *state = &r;
    return 0;
}

static int
tear_down(void **state)
{
    struct rig *r = *state;
    amqp_watch_close(r->watch);
    close(r->fd[0]);
    close(r->fd[1]);
    return 0;
}

/* True when the watchdog has ended the socket; gives it time for two looks. */
static bool
is_ended(struct rig *r)
{
    int64_t until_ns = clock_mono_ns() + 3 * AMQP_WATCH_EVERY_MS * INT64_C(1000000);
    while (!amqp_watch_fired(r->watch) && clock_mono_ns() < until_ns) {
        usleep(1000);
    }
    char byte;
    bool ended = recv(r->fd[0], &byte, 1, MSG_DONTWAIT) == 0;
    assert_int_equal(ended, amqp_watch_fired(r->watch));
    return ended;
}

static void
a_call_past_its_limit_loses_its_socket(void **state)
{
    struct rig *r = *state;
    amqp_watch_begin(r->watch, LONG_MS);
    atomic_store(&r->now_ms, 1000 + LONG_MS + 1);
    assert_true(is_ended(r));
}

static void
a_call_that_ended_in_time_keeps_it(void **state)
{
    struct rig *r = *state;
    amqp_watch_begin(r->watch, LONG_MS);
    amqp_watch_end(r->watch);
    atomic_store(&r->now_ms, 1000 + LONG_MS + 1);
    assert_false(is_ended(r));
}

static void
a_call_within_its_limit_keeps_it(void **state)
{
    struct rig *r = *state;
    amqp_watch_begin(r->watch, LONG_MS);
    atomic_store(&r->now_ms, 1000 + LONG_MS - 1);
    assert_false(is_ended(r));
}

/* librabbitmq closes its socket by itself; the number then belongs to somebody else. */
static void
a_socket_that_was_given_the_same_number_is_left_alone(void **state)
{
    struct rig *r = *state;
    int other[2];
    amqp_watch_begin(r->watch, LONG_MS);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
    assert_int_equal(dup2(other[0], r->fd[0]), r->fd[0]);
    atomic_store(&r->now_ms, 1000 + LONG_MS + 1);
    while (!amqp_watch_fired(r->watch)) {
        usleep(1000);
    }
    assert_int_equal(write(other[1], "x", 1), 1);
    char byte = 0;
    assert_int_equal(recv(r->fd[0], &byte, 1, MSG_DONTWAIT), 1);
    assert_int_equal(byte, 'x');
    close(other[0]);
    close(other[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_call_past_its_limit_loses_its_socket, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_call_that_ended_in_time_keeps_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_call_within_its_limit_keeps_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_socket_that_was_given_the_same_number_is_left_alone,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests_name("amqp_watch", tests, NULL, NULL);
}
