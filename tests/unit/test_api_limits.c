/* The server's bounds: time, memory, connections, drain. The clock is the test's; the server looks
 * at it a few times a second. */
#include "api_kit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST "Host: x\r\n"
#define JSON_TYPE "Content-Type: application/json\r\n"

/* ---- time ---- */

/* The server has seen all that fd sent so far: it answers other connections one after another. */
static void
let_it_read(struct api_kit *k)
{
    struct got got;
    assert_int_equal(client_ask(k, "GET /livez HTTP/1.1\r\n" HOST "\r\n", &got), 200);
}

static void
a_slow_head_is_408(void **state)
{
    struct api_kit *k = *state;
    int fd = client_open(k);
    client_send(fd, "GET /livez HTTP/1.1\r\nHos");
    let_it_read(k);
    api_kit_later(k, 9000);
    client_send(fd, "t: ");
    let_it_read(k);
    api_kit_later(k, 1000);
    client_expect(fd, 408);
    client_expect_end(fd);
    close(fd);
}

/* An idle connection that ends shows that the server has looked at its clock since. */
static void
each_part_of_a_request_has_a_time_of_its_own(void **state)
{
    struct api_kit *k = *state;
    int idle = client_open(k);
    int fd = client_open(k);
    let_it_read(k);
    api_kit_later(k, 51000);
    client_send(fd, "GET /livez HTTP/1.1\r\n");
    let_it_read(k);
    api_kit_later(k, 9000);
    client_expect_end(idle);
    client_send(fd, HOST "\r\n");
    client_expect(fd, 200);
    close(idle);
    close(fd);
}

static void
an_idle_connection_is_closed_without_a_word(void **state)
{
    struct api_kit *k = *state;
    int silent = client_open(k);
    int used = client_open(k);
    client_post(used, "e1");
    client_expect(used, 202);
    let_it_read(k);
    api_kit_later(k, 60000);
    client_expect_end(silent);
    client_expect_end(used);
    close(silent);
    close(used);
}

static void
a_connection_that_waits_for_the_queue_is_not_idle(void **state)
{
    struct api_kit *k = *state;
    k->posts.hold = true;
    int fd = client_open(k);
    client_post(fd, "e1");
    held_wait(&k->posts, 1);
    int idle = client_open(k);
    let_it_read(k);
    api_kit_later(k, 600000);
    client_expect_end(idle);
    held_release(&k->posts, 1, false);
    client_expect(fd, 202);
    close(idle);
    close(fd);
}

static void
a_body_slower_than_the_least_rate_is_408_and_a_faster_one_is_not(void **state)
{
    struct api_kit *k = *state;
    static const char body[20000];
    const char *head = "POST /events HTTP/1.1\r\n" HOST JSON_TYPE "Content-Length: 20000\r\n\r\n";
    int slow = client_open(k);
    int fast = client_open(k);
    client_send(slow, head);
    client_send(fast, head);
    client_send_bytes(slow, body, 10000);
    client_send_bytes(fast, body, 11000);
    let_it_read(k);
    api_kit_later(k, 10000);
    client_expect(slow, 408);
    client_expect_end(slow);
    client_expect_nothing(fast);
    client_send_bytes(fast, body, 9000);
    client_expect(fast, 400);
    close(slow);
    close(fast);
}

static void
a_client_that_does_not_read_is_cut(void **state)
{
    struct api_kit *k = *state;
    k->row_bytes = 12 * 1024 * 1024; /* more than the socket buffers take */
    int fd = client_open(k);
    client_send(fd, "GET /events/shown HTTP/1.1\r\n" HOST "\r\n");
    held_wait(&k->questions, 1);
    wait_for(&k->stats.http_requests, 1);
    let_it_read(k);
    /* more than once: while the socket's buffers still fill up there is progress */
    for (int i = 0; i < 100 && atomic_load(&k->stats.connections_closed) < 2; i++) {
        api_kit_later(k, 10000);
        poll(NULL, 0, 50);
    }
    assert_int_equal(atomic_load(&k->stats.connections_closed), 2);
    assert_true(client_is_cut(fd));
    close(fd);
}

static void
a_client_that_reads_a_little_now_and_then_is_not_cut(void **state)
{
    struct api_kit k;
    static char part[2 * 1024 * 1024];
    (void)state;
    api_kit_init(&k);
    k.row_bytes = 6 * sizeof part;
    k.cfg.http_idle_timeout = 5000;
    api_kit_start(&k);
    int fd = client_open(&k);
    client_send(fd, "GET /events/shown HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&k.stats.http_requests, 1);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(recv(fd, part, sizeof part, MSG_WAITALL), sizeof part);
        int idle = client_open(&k);
        let_it_read(&k);
        api_kit_later(&k, 6000);
        client_expect_end(idle);
        close(idle);
    }
    close(fd);
    api_kit_end(&k);
}

static void
clients_that_do_not_read_are_cut_before_they_fill_the_memory(void **state)
{
    struct api_kit *k = *state;
    int fds[3];
    k->questions.hold = true;
    k->row_bytes = 12 * 1024 * 1024;
    for (int i = 0; i < 3; i++) {
        fds[i] = client_open(k);
        client_send(fds[i], "GET /events/shown HTTP/1.1\r\n" HOST "\r\n");
    }
    held_wait(&k->questions, 3);
    held_release(&k->questions, 3, false);
    wait_for(&k->stats.connections_closed, 1);
    assert_int_equal(atomic_load(&k->stats.http_requests), 3);
    for (int i = 0; i < 3; i++) {
        close(fds[i]);
    }
}

static void
a_client_that_reads_slowly_gets_all_of_it(void **state)
{
    struct api_kit *k = *state;
    struct got got;
    k->row_bytes = 8 * 1024 * 1024;
    int fd = client_open(k);
    client_send(fd, "GET /events/shown HTTP/1.1\r\n" HOST "\r\n");
    client_post(fd, "e1");
    client_read(fd, &got); /* a little a call, through a small window */
    assert_int_equal(got.status, 200);
    assert_true(got.body_len > k->row_bytes);
    client_expect(fd, 202);
    close(fd);
}

/* ---- memory and connections ---- */

static void
bodies_beyond_the_bound_are_503_and_good_again_when_there_is_room(void **state)
{
    struct api_kit *k = *state;
    struct got got;
    static const char body[1000 * 1000];
    const char *head = "POST /events HTTP/1.1\r\n" HOST JSON_TYPE "Content-Length: 1000001\r\n\r\n";
    const char *ask_first = "POST /events HTTP/1.1\r\n" HOST JSON_TYPE
                            "Expect: 100-continue\r\nContent-Length: 1000001\r\n\r\n";
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = client_open(k);
        client_send(fds[i], head);
        client_send_bytes(fds[i], body, sizeof body);
    }
    do { /* until the server has read all of the four */
        client_ask(k, ask_first, &got);
    } while (got.status == 100);
    assert_int_equal(got.status, 503);
    assert_non_null(strstr(got.head, "Retry-After: 7\r\n"));
    for (int i = 0; i < 4; i++) {
        client_send(fds[i], "x");
        client_expect(fds[i], 400);
    }
    client_send(fds[0], head);
    client_send_bytes(fds[0], body, sizeof body);
    client_send(fds[0], "x");
    client_expect(fds[0], 400);
    for (int i = 0; i < 4; i++) {
        close(fds[i]);
    }
}

static void
chunks_beyond_the_bound_are_503_though_no_length_was_declared(void **state)
{
    struct api_kit *k = *state;
    struct got got;
    static const char body[1000 * 1000];
    int fds[5];
    for (int i = 0; i < 5; i++) {
        fds[i] = client_open(k);
        client_send(fds[i], "POST /events HTTP/1.1\r\n" HOST JSON_TYPE
                            "Transfer-Encoding: chunked\r\n\r\nf4240\r\n");
        client_send_bytes(fds[i], body, sizeof body);
    }
    struct pollfd ready[5];
    for (int i = 0; i < 5; i++) {
        ready[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    }
    assert_true(poll(ready, 5, DEADLINE_MS) > 0);
    int refused = 0;
    while (ready[refused].revents == 0) {
        refused++;
    }
    client_read(fds[refused], &got);
    assert_int_equal(got.status, 503);
    for (int i = 0; i < 5; i++) {
        close(fds[i]);
    }
}

static void
lists_are_503_while_too_many_answers_wait_for_their_readers_but_nothing_else_is(void **state)
{
    struct api_kit *k = *state;
    struct got got;
    k->row_bytes = 12 * 1024 * 1024;
    int slow = client_open(k);
    client_send(slow, "GET /events/shown HTTP/1.1\r\n" HOST "\r\n");
    wait_for(&k->stats.http_requests, 1);
    int status = client_ask(k, "GET /events/shown HTTP/1.1\r\n" HOST "\r\n", &got);
    assert_int_equal(status, 503);
    assert_non_null(strstr(got.head, "Retry-After: "));
    assert_int_equal(client_ask(k, "GET /livez HTTP/1.1\r\n" HOST "\r\n", &got), 200);
    int fd = client_open(k);
    client_post(fd, "e1");
    client_expect(fd, 202);
    close(slow);
    wait_for(&k->stats.connections_closed, 3);
    k->row_bytes = 2;
    client_send(fd, "GET /events/shown HTTP/1.1\r\n" HOST "\r\n");
    client_expect(fd, 200);
    close(fd);
}

static void
connections_beyond_the_cap_are_closed_and_counted(void **state)
{
    struct api_kit *k = *state;
    int fds[100];
    for (int i = 0; i < 100; i++) {
        fds[i] = client_open(k);
    }
    wait_for(&k->stats.connections_opened, 100);
    int over = client_open(k);
    client_expect_end(over);
    wait_for(&k->stats.connections_refused, 1);
    close(over);
    close(fds[0]);
    wait_for(&k->stats.connections_closed, 1);
    int next = client_open(k);
    client_post(next, "e1");
    client_expect(next, 202);
    close(next);
    for (int i = 1; i < 100; i++) {
        close(fds[i]);
    }
}

/* ---- drain ---- */

struct draining {
    struct api_kit *k;
    int timeout_ms;
    pthread_t thread;
};

static void *
drain(void *data)
{
    struct draining *d = data;
    api_drain(d->k->api, d->timeout_ms);
    return NULL;
}

static void
drain_answers_what_was_received_and_closes_what_is_idle(void **state)
{
    struct api_kit *k = *state;
    struct got got;
    k->posts.hold = true;
    int idle = client_open(k);
    int waits = client_open(k);
    int begun = client_open(k);
    client_post(waits, "e1");
    client_send(begun, "POST /events HTTP/1.1\r\n" HOST JSON_TYPE "Content-Length: 2\r\n\r\n");
    held_wait(&k->posts, 1);
    let_it_read(k);
    struct draining d = {.k = k, .timeout_ms = DEADLINE_MS};
    pthread_create(&d.thread, NULL, drain, &d);
    client_expect_end(idle);
    client_send(begun, "{}");
    client_read(begun, &got);
    assert_int_equal(got.status, 400);
    assert_non_null(strstr(got.head, "Connection: close\r\n"));
    held_release(&k->posts, 1, false);
    client_read(waits, &got);
    assert_int_equal(got.status, 202);
    assert_non_null(strstr(got.head, "Connection: close\r\n"));
    client_expect_end(waits);
    pthread_join(d.thread, NULL);
    close(idle);
    close(waits);
    close(begun);
}

static void
drain_ends_in_time_though_a_client_never_finishes(void **state)
{
    struct api_kit *k = *state;
    int fd = client_open(k);
    client_send(fd, "POST /events HTTP/1.1\r\n" HOST JSON_TYPE "Content-Length: 2\r\n\r\n{");
    let_it_read(k);
    api_drain(k->api, 100);
    client_is_cut(fd);
    close(fd);
}

static void
drain_refuses_new_connections(void **state)
{
    struct api_kit *k = *state;
    api_drain(k->api, 1000);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port =
                                 htons((in_port_t)atoi(strrchr(api_address(k->api), ':') + 1)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(fd);
}

/* The queue answers, with an error, after the drain's time is over, and is closed. */
static void
a_reply_that_comes_after_the_drain_is_freed(void **state)
{
    struct api_kit *k = *state;
    k->posts.hold = true;
    int fd = client_open(k);
    client_post(fd, "e1");
    client_post(fd, "e2");
    held_wait(&k->posts, 2);
    api_drain(k->api, 50);
    client_is_cut(fd);
    k->queue.ops = NULL;
    k->posts.result = ERR_STOPPING;
    held_release(&k->posts, 2, false);
    close(fd);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, api_kit_set_up, api_kit_tear_down)
    const struct CMUnitTest tests[] = {
        T(a_slow_head_is_408),
        T(each_part_of_a_request_has_a_time_of_its_own),
        T(an_idle_connection_is_closed_without_a_word),
        T(a_connection_that_waits_for_the_queue_is_not_idle),
        T(a_body_slower_than_the_least_rate_is_408_and_a_faster_one_is_not),
        T(a_client_that_does_not_read_is_cut),
        cmocka_unit_test(a_client_that_reads_a_little_now_and_then_is_not_cut),
        T(clients_that_do_not_read_are_cut_before_they_fill_the_memory),
        T(a_client_that_reads_slowly_gets_all_of_it),
        T(bodies_beyond_the_bound_are_503_and_good_again_when_there_is_room),
        T(chunks_beyond_the_bound_are_503_though_no_length_was_declared),
        T(lists_are_503_while_too_many_answers_wait_for_their_readers_but_nothing_else_is),
        T(connections_beyond_the_cap_are_closed_and_counted),
        T(drain_answers_what_was_received_and_closes_what_is_idle),
        T(drain_ends_in_time_though_a_client_never_finishes),
        T(drain_refuses_new_connections),
        T(a_reply_that_comes_after_the_drain_is_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
