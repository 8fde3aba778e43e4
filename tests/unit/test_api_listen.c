/* What the server can listen on, and what it says when it cannot. */
#include "api_kit.h"

#include "api/listen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

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
        cmocka_unit_test(it_listens_on_every_form_of_address),
        cmocka_unit_test(a_unix_socket_serves_all_loops_and_is_gone_at_the_end),
        cmocka_unit_test(a_socket_file_is_replaced_only_when_nobody_listens),
        cmocka_unit_test(an_address_that_cannot_be_used_is_explained),
        T(a_taken_port_is_an_error_for_one_loop_and_for_several),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
