/* The server's bounds: time, memory, connections, drain, and what it listens on. The clock is the
 * test's; the server looks at it a few times a second. */
#include "api_kit.h"

#include "api/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
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

/* ---- listening ---- */

static void
serves_on(struct api_kit *k, char *listen, int threads, const char *address_begins)
{
    api_kit_init(k);
    k->cfg.listen = listen;
    k->cfg.api_threads = threads;
    api_kit_start(k);
    assert_memory_equal(api_address(k->api), address_begins, strlen(address_begins));
    for (int i = 0; i < 20; i++) {
        int fd = client_open(k);
        client_post(fd, "e");
        client_expect(fd, 202);
        close(fd);
    }
    api_kit_end(k);
}

static void
it_listens_on_every_form_of_address(void **state)
{
    struct api_kit k;
    (void)state;
    serves_on(&k, "127.0.0.1:0", 1, "127.0.0.1:");
    serves_on(&k, "localhost:0", 1, "");
    serves_on(&k, "[::1]:0", 1, "[::1]:");
    serves_on(&k, ":0", 1, "[::]:");
    serves_on(&k, "127.0.0.1:0", 3, "127.0.0.1:");
}

static void
a_unix_socket_serves_all_loops_and_is_gone_at_the_end(void **state)
{
    struct api_kit k;
    char listen[64], path[48] = "/tmp/weir-api-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(path));
    snprintf(listen, sizeof listen, "unix:%s/s", path);
    serves_on(&k, listen, 3, listen);
    assert_int_equal(access(listen + 5, F_OK), -1);
    assert_int_equal(rmdir(path), 0);
}

static void
a_socket_file_is_replaced_only_when_nobody_listens(void **state)
{
    struct api_kit k, second;
    char listen_at[64], path[48] = "/tmp/weir-api-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(path));
    snprintf(listen_at, sizeof listen_at, "unix:%s/s", path);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strcpy(at.sun_path, listen_at + 5);
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(dead, (struct sockaddr *)&at, sizeof at), 0);
    close(dead);
    api_kit_init(&k);
    k.cfg.listen = listen_at;
    api_kit_start(&k);
    api_kit_init(&second);
    second.cfg.listen = listen_at;
    enum err e = api_open(&second.api, &second.parts, second.why, sizeof second.why);
    assert_int_equal(e, ERR_UNAVAILABLE);
    assert_non_null(strstr(second.why, "in use by another process"));
    api_kit_end(&second);
    assert_int_equal(access(at.sun_path, F_OK), 0);
    api_kit_end(&k);
    assert_int_equal(rmdir(path), 0);
}

static void
an_address_that_cannot_be_used_is_explained(void **state)
{
    static const struct {
        const char *listen;
        const char *why;
    } rows[] = {
        {"nonsense", "nonsense is not an address; expected host:port"},
        {"127.0.0.1:", "is not an address"},
        {"127.0.0.1:70000", "is not an address"},
        {"127.0.0.1:12x", "is not an address"},
        {"::1:3000", "is not an address"},
        {"192.0.2.1:0", "is not an address of this machine"},
        {"unix:", "unix: is too long"},
        {"unix:/etc/passwd", "exists and is not a socket"},
        {"unix:/nowhere/at/all", "cannot listen: No such file"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char address[300], why[300] = "";
        int fd;
        enum err e = listen_open(&fd, 1, rows[i].listen, (struct listen_text){address, 300},
                                 (struct listen_text){why, 300});
        assert_int_not_equal(e, OK);
        if (strstr(why, rows[i].why) == NULL) {
            print_error("%s: %s\n", rows[i].listen, why);
        }
        assert_non_null(strstr(why, rows[i].why));
    }
}

static void
a_taken_port_is_an_error_for_one_loop_and_for_several(void **state)
{
    struct api_kit *k = *state;
    struct api_kit second;
    for (int threads = 1; threads < 3; threads++) {
        api_kit_init(&second);
        second.cfg.listen = (char *)api_address(k->api);
        second.cfg.api_threads = threads;
        enum err e = api_open(&second.api, &second.parts, second.why, sizeof second.why);
        assert_int_equal(e, ERR_UNAVAILABLE);
        assert_non_null(strstr(second.why, "is in use by another process; choose another with"));
        api_kit_end(&second);
    }
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, api_kit_set_up, api_kit_tear_down)
    const struct CMUnitTest tests[] = {
        T(a_slow_head_is_408),
        T(an_idle_connection_is_closed_without_a_word),
        T(a_connection_that_waits_for_the_queue_is_not_idle),
        T(a_body_slower_than_the_least_rate_is_408_and_a_faster_one_is_not),
        T(a_client_that_does_not_read_is_cut),
        T(clients_that_do_not_read_are_cut_before_they_fill_the_memory),
        T(a_client_that_reads_slowly_gets_all_of_it),
        T(bodies_beyond_the_bound_are_503_and_good_again_when_there_is_room),
        T(lists_are_503_while_too_many_answers_wait_for_their_readers_but_nothing_else_is),
        T(connections_beyond_the_cap_are_closed_and_counted),
        T(drain_answers_what_was_received_and_closes_what_is_idle),
        T(drain_ends_in_time_though_a_client_never_finishes),
        T(drain_refuses_new_connections),
        T(a_reply_that_comes_after_the_drain_is_freed),
        cmocka_unit_test(it_listens_on_every_form_of_address),
        cmocka_unit_test(a_unix_socket_serves_all_loops_and_is_gone_at_the_end),
        cmocka_unit_test(a_socket_file_is_replaced_only_when_nobody_listens),
        cmocka_unit_test(an_address_that_cannot_be_used_is_explained),
        T(a_taken_port_is_an_error_for_one_loop_and_for_several),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
