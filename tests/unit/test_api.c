/* The server over real sockets: requests, their order, refusals, drain. */
#include "api_kit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST "Host: x\r\n"
#define JSON_TYPE "Content-Type: application/json\r\n"

static void
a_post_is_answered_only_after_the_queue_said_so(void **state)
{
    struct api_kit *k = *state;
    struct got got;
    k->posts.hold = true;
    int fd = client_open(k);
    client_post(fd, "e1");
    held_wait(&k->posts, 1);
    client_expect_nothing(fd);
    held_release(&k->posts, 1, false);
    client_read(fd, &got);
    assert_int_equal(got.status, 202);
    assert_string_equal(got.body, "{\"event_id\":\"e1\",\"durability\":\"fsync\"}");
    assert_non_null(strstr(got.head, "Content-Type: application/json\r\n"));
    close(fd);
}

static void
a_connection_serves_one_request_after_another(void **state)
{
    struct api_kit *k = *state;
    int fd = client_open(k);
    for (int i = 0; i < 50; i++) {
        client_post(fd, "e");
        client_expect(fd, 202);
    }
    assert_int_equal(atomic_load(&k->stats.connections_opened), 1);
    assert_int_equal(atomic_load(&k->stats.http_requests), 50);
    close(fd);
}

static void
a_request_in_single_bytes_is_answered_as_one_in_one_piece(void **state)
{
    struct api_kit *k = *state;
    const char *text =
        "POST /events HTTP/1.1\r\n" HOST JSON_TYPE "Transfer-Encoding: chunked\r\n\r\n"
        "5c\r\n{\"event_id\":\"e1\",\"type\":\"T\",\"timestamp\":"
        "\"2026-02-03T12:30:00Z\",\"payload\":{\"x\":\"0123456789\"}}\r\n0\r\n\r\n";
    int fd = client_open(k);
    for (const char *at = text; *at != '\0'; at++) {
        client_send_bytes(fd, at, 1);
    }
    client_expect(fd, 202);
    client_send(fd, text);
    client_expect(fd, 202);
    close(fd);
}

static void
pipelined_posts_are_answered_in_their_order(void **state)
{
    struct api_kit *k = *state;
    struct got got;
    k->posts.hold = true;
    int fd = client_open(k);
    char id[16], body[64];
    for (int i = 0; i < 10; i++) {
        snprintf(id, sizeof id, "e%d", i);
        client_post(fd, id);
    }
    held_wait(&k->posts, 10);
    held_release(&k->posts, 10, true);
    for (int i = 0; i < 10; i++) {
        client_read(fd, &got);
        snprintf(body, sizeof body, "{\"event_id\":\"e%d\",\"durability\":\"fsync\"}", i);
        assert_string_equal(got.body, body);
    }
    close(fd);
}

static void
the_seventeenth_pipelined_post_waits_for_room(void **state)
{
    struct api_kit *k = *state;
    k->posts.hold = true;
    int fd = client_open(k);
    for (int i = 0; i < 40; i++) {
        client_post(fd, "e");
    }
    held_wait(&k->posts, 16);
    held_release(&k->posts, 1, false);
    client_expect(fd, 202);
    held_wait(&k->posts, 17);
    k->posts.hold = false;
    held_release(&k->posts, 40, false);
    for (int i = 1; i < 40; i++) {
        client_expect(fd, 202);
    }
    close(fd);
}

static void
a_get_waits_for_the_posts_before_it_and_posts_wait_for_it(void **state)
{
    struct api_kit *k = *state;
    k->posts.hold = true;
    k->questions.hold = true;
    int fd = client_open(k);
    client_post(fd, "e1");
    client_send(fd, "GET /events/e1 HTTP/1.1\r\n" HOST "\r\n");
    client_post(fd, "e2");
    held_wait(&k->posts, 1);
    held_wait(&k->questions, 0);
    held_release(&k->posts, 1, false);
    client_expect(fd, 202);
    held_wait(&k->questions, 1);
    held_wait(&k->posts, 1);
    held_release(&k->questions, 1, false);
    client_expect(fd, 200);
    held_wait(&k->posts, 2);
    held_release(&k->posts, 1, false);
    client_expect(fd, 202);
    close(fd);
}

static void
a_thousand_pipelined_gets_are_answered(void **state)
{
    struct api_kit *k = *state;
    const char *one = "GET /livez HTTP/1.1\r\n" HOST "\r\n";
    size_t len = strlen(one);
    char *all = malloc(1000 * len);
    for (size_t i = 0; i < 1000; i++) {
        memcpy(all + i * len, one, len);
    }
    int fd = client_open(k);
    client_send_bytes(fd, all, 1000 * len);
    for (int i = 0; i < 1000; i++) {
        client_expect(fd, 200);
    }
    free(all);
    close(fd);
}

static void
head_is_answered_like_get_without_the_body(void **state)
{
    struct api_kit *k = *state;
    struct got got, head = {0};
    client_ask(k, "GET /livez HTTP/1.1\r\n" HOST "\r\n", &got);
    int fd = client_open(k);
    client_send(fd, "HEAD /livez HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    ssize_t n = recv(fd, head.head, sizeof head.head - 1, MSG_WAITALL);
    assert_true(n > 4);
    assert_non_null(strstr(head.head, "Content-Length: 15\r\n"));
    assert_string_equal(head.head + n - 4, "\r\n\r\n");
    assert_string_equal(got.body, "{\"status\":\"ok\"}");
    close(fd);
}

static void
http_1_0_is_closed_unless_it_asks_for_more(void **state)
{
    struct api_kit *k = *state;
    struct got got;
    int fd = client_open(k);
    client_send(fd, "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    client_read(fd, &got);
    assert_non_null(strstr(got.head, "Connection: keep-alive\r\n"));
    client_send(fd, "GET /livez HTTP/1.0\r\n\r\n");
    client_read(fd, &got);
    assert_non_null(strstr(got.head, "Connection: close\r\n"));
    client_expect_end(fd);
    close(fd);
}

static void
what_no_route_takes_is_refused_by_its_own_status(void **state)
{
    static const struct {
        const char *request;
        int status;
        const char *field;
    } rows[] = {
        {"GET /nothing HTTP/1.1\r\n" HOST "\r\n", 404, ""},
        {"GET /events/ HTTP/1.1\r\n" HOST "\r\n", 404, ""},
        {"POST /livez HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 405, "Allow: GET, HEAD\r\n"},
        {"DELETE /events HTTP/1.1\r\n" HOST "\r\n", 405, "Allow: POST, GET, HEAD\r\n"},
        {"BREW /events HTTP/1.1\r\n" HOST "\r\n", 501, ""},
        {"POST /events HTTP/1.1\r\n" HOST JSON_TYPE "\r\n", 411, ""},
        {"POST /events HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", 415, ""},
        {"POST /events HTTP/1.1\r\n" HOST "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
         415, "Connection: close\r\n"},
        {"POST /events HTTP/1.1\r\n" HOST JSON_TYPE "Content-Length: 9999999\r\n\r\n", 413, ""},
        {"GET /livez HTTP/1.1\r\n\r\n", 400, "Connection: close\r\n"},
        {"GET /livez HTTP/2.0\r\n" HOST "\r\n", 505, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct got got;
        client_ask(*state, rows[i].request, &got);
        if (got.status != rows[i].status || strstr(got.head, rows[i].field) == NULL) {
            print_error("%s%s%s\n", rows[i].request, got.head, got.body);
        }
        assert_int_equal(got.status, rows[i].status);
        assert_non_null(strstr(got.head, rows[i].field));
        assert_non_null(strstr(got.head, "application/problem+json"));
    }
}

/* The client sends everything before it reads: without lingering a reset would eat the answer. */
static void
a_refusal_reaches_a_client_that_goes_on_sending(void **state)
{
    struct api_kit *k = *state;
    char *body = calloc(1, 200000);
    int fd = client_open(k);
    client_send(fd, "POST /events HTTP/1.1\r\n" HOST JSON_TYPE "Content-Length: 2000000\r\n\r\n");
    client_send_bytes(fd, body, 200000);
    client_expect(fd, 413);
    client_send_bytes(fd, body, 1000);
    client_expect_end(fd);
    free(body);
    close(fd);
}

static void
a_refused_client_that_never_stops_sending_is_cut(void **state)
{
    struct api_kit *k = *state;
    static const char junk[65536];
    int fd = client_open(k);
    client_send(fd, "POST /nothing HTTP/1.1\r\n" HOST "Content-Length: 900000\r\n\r\n");
    ssize_t n = 1;
    size_t sent = 0;
    while (n > 0) {
        n = send(fd, junk, sizeof junk, 0);
        sent += n > 0 ? (size_t)n : 0;
        assert_true(sent < 64 * 1024 * 1024); /* what is thrown away, and the socket buffers */
    }
    assert_true(errno == ECONNRESET || errno == EPIPE);
    wait_for(&k->stats.connections_closed, 1);
    close(fd);
}

static void
expect_100_continue_is_answered_before_the_body(void **state)
{
    struct api_kit *k = *state;
    struct got got;
    int fd = client_open(k);
    client_send(fd, "POST /events HTTP/1.1\r\n" HOST JSON_TYPE
                    "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    client_read(fd, &got);
    assert_int_equal(got.status, 100);
    client_send(fd, "{}");
    client_expect(fd, 400);
    client_send(fd,
                "POST /events HTTP/1.1\r\n" HOST
                "Content-Type: text/plain\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    client_expect(fd, 415);
    client_expect_end(fd);
    close(fd);
}

static void
a_body_that_ends_early_reaches_nobody(void **state)
{
    struct api_kit *k = *state;
    const char *text =
        "POST /events HTTP/1.1\r\n" HOST JSON_TYPE
        "Content-Length: 76\r\n\r\n{\"event_id\":\"e1\",\"type\":\"T\",\"timestamp\":"
        "\"2026-02-03T12:30:00Z\",\"payload\":{}}";
    size_t len = strlen(text);
    for (size_t cut = 1; cut < len; cut++) {
        int fd = client_open(k);
        client_send_bytes(fd, text, cut);
        shutdown(fd, SHUT_WR);
        client_expect_end(fd);
        close(fd);
    }
    held_wait(&k->posts, 0);
    int fd = client_open(k);
    client_send(fd, text);
    client_expect(fd, 202); /* whole, it is good */
    close(fd);
}

static void
a_client_that_closed_its_side_still_gets_its_answers(void **state)
{
    struct api_kit *k = *state;
    k->posts.hold = true;
    int fd = client_open(k);
    client_post(fd, "e1");
    client_post(fd, "e2");
    client_send(fd, "POST /ev");
    shutdown(fd, SHUT_WR);
    held_wait(&k->posts, 2);
    held_release(&k->posts, 2, false);
    client_expect(fd, 202);
    client_expect(fd, 202);
    client_expect_end(fd);
    close(fd);
}

static void
an_answer_to_a_client_that_went_away_is_dropped(void **state)
{
    struct api_kit *k = *state;
    k->posts.hold = true;
    int fd = client_open(k);
    client_post(fd, "e1");
    held_wait(&k->posts, 1);
    struct linger reset = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    wait_for(&k->stats.connections_closed, 1);
    held_release(&k->posts, 1, false);
    struct got got;
    assert_int_equal(client_ask(k, "GET /livez HTTP/1.1\r\n" HOST "\r\n", &got), 200);
}

static void
a_full_queue_is_503_with_the_time_to_wait(void **state)
{
    struct api_kit *k = *state;
    struct got got;
    k->posts.refuse = ERR_QUEUE_FULL;
    int fd = client_open(k);
    client_post(fd, "e1");
    client_read(fd, &got);
    assert_int_equal(got.status, 503);
    assert_non_null(strstr(got.head, "Retry-After: 7\r\n"));
    k->posts.refuse = OK;
    client_post(fd, "e1");
    client_expect(fd, 202);
    close(fd);
}

static void
admin_routes_tell_the_truth(void **state)
{
    struct api_kit *k = *state;
    struct got got;
    assert_int_equal(client_ask(k, "GET /readyz HTTP/1.1\r\n" HOST "\r\n", &got), 200);
    assert_int_equal(client_ask(k, "GET /version HTTP/1.1\r\n" HOST "\r\n", &got), 200);
    assert_non_null(strstr(got.body, "{\"name\":\"weir\",\"version\":\""));
    assert_int_equal(client_ask(k, "GET /openapi.json HTTP/1.1\r\n" HOST "\r\n", &got), 200);
    assert_non_null(strstr(got.body, "\"openapi\": \"3.1"));
    assert_int_equal(client_ask(k, "GET /stats HTTP/1.1\r\n" HOST "\r\n", &got), 200);
#define X(field, name, help) assert_non_null(strstr(got.body, "\"" name "\":"));
    STATS_MAP(X)
#undef X
    assert_non_null(strstr(got.body, "\"queue\":{\"depth\":0,\"bytes\":0,\"oldest_age_ms\":0,"
                                     "\"ready\":true}"));
    k->status = (struct queue_status){.ready = false, .why = "the disk is full"};
    assert_int_equal(client_ask(k, "GET /readyz HTTP/1.1\r\n" HOST "\r\n", &got), 503);
    assert_non_null(strstr(got.body, "the disk is full"));
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, api_kit_set_up, api_kit_tear_down)
    const struct CMUnitTest tests[] = {
        T(a_post_is_answered_only_after_the_queue_said_so),
        T(a_connection_serves_one_request_after_another),
        T(a_request_in_single_bytes_is_answered_as_one_in_one_piece),
        T(pipelined_posts_are_answered_in_their_order),
        T(the_seventeenth_pipelined_post_waits_for_room),
        T(a_get_waits_for_the_posts_before_it_and_posts_wait_for_it),
        T(a_thousand_pipelined_gets_are_answered),
        T(head_is_answered_like_get_without_the_body),
        T(http_1_0_is_closed_unless_it_asks_for_more),
        T(what_no_route_takes_is_refused_by_its_own_status),
        T(a_refusal_reaches_a_client_that_goes_on_sending),
        T(a_refused_client_that_never_stops_sending_is_cut),
        T(expect_100_continue_is_answered_before_the_body),
        T(a_body_that_ends_early_reaches_nobody),
        T(a_client_that_closed_its_side_still_gets_its_answers),
        T(an_answer_to_a_client_that_went_away_is_dropped),
        T(a_full_queue_is_503_with_the_time_to_wait),
        T(admin_routes_tell_the_truth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
