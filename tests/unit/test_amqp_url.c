#include "amqp/amqp_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void
what_is_missing_becomes_the_default(void **state)
{
    struct amqp_url u;
    (void)state;
    assert_null(amqp_url_parse(&u, "amqp://broker"));
    assert_string_equal(u.user, "guest");
    assert_string_equal(u.password, "guest");
    assert_string_equal(u.vhost, "/");
    assert_int_equal(u.hosts, 1);
    assert_string_equal(u.host[0].name, "broker");
    assert_int_equal(u.host[0].port, 5672);
    assert_false(u.tls);
    assert_null(amqp_url_parse(&u, "amqps://broker/"));
    assert_true(u.tls && u.verify);
    assert_int_equal(u.host[0].port, 5671);
    assert_string_equal(u.vhost, "/");
    assert_null(u.ca_file);
}

static void
every_part_is_read_and_decoded(void **state)
{
    struct amqp_url u;
    (void)state;
    assert_null(amqp_url_parse(&u,
                               "amqps://us%40er:p%3a%2F%25@a:1,[::1]:2,[fe80::1],b/v%2Fh"
                               "?cacertfile=/ca&certfile=/c%20d&keyfile=/k&verify=verify_none"));
    assert_string_equal(u.user, "us@er");
    assert_string_equal(u.password, "p:/%");
    assert_string_equal(u.vhost, "v/h");
    assert_int_equal(u.hosts, 4);
    assert_string_equal(u.host[0].name, "a");
    assert_int_equal(u.host[0].port, 1);
    assert_string_equal(u.host[1].name, "::1");
    assert_int_equal(u.host[1].port, 2);
    assert_string_equal(u.host[2].name, "fe80::1");
    assert_int_equal(u.host[2].port, 5671);
    assert_string_equal(u.host[3].name, "b");
    assert_string_equal(u.ca_file, "/ca");
    assert_string_equal(u.cert_file, "/c d");
    assert_string_equal(u.key_file, "/k");
    assert_false(u.verify);
}

static void
a_password_may_be_empty_or_hold_a_colon(void **state)
{
    struct amqp_url u;
    (void)state;
    assert_null(amqp_url_parse(&u, "amqp://u:@h"));
    assert_string_equal(u.password, "");
    assert_null(amqp_url_parse(&u, "amqp://u:a:b@h"));
    assert_string_equal(u.password, "a:b");
    assert_null(amqp_url_parse(&u, "amqp://u@h"));
    assert_string_equal(u.password, "guest");
}

static void
the_vhost_slash_can_be_written_out(void **state)
{
    struct amqp_url u;
    (void)state;
    assert_null(amqp_url_parse(&u, "amqp://h/%2F"));
    assert_string_equal(u.vhost, "/");
}

static void
what_is_wrong_is_said(void **state)
{
    static const struct {
        const char *url;
        const char *word;
    } cases[] = {
        {"local", "not a RabbitMQ URL"},
        {"amqp:/h", "not a RabbitMQ URL"},
        {"amqp://", "no host"},
        {"amqp://u:p@/v", "no host"},
        {"amqp://a,,b", "no host"},
        {"amqp://a,", "no host"},
        {"amqp://h:", "port"},
        {"amqp://h:0", "port"},
        {"amqp://h:65536", "port"},
        {"amqp://h:99999999999999999999", "port"},
        {"amqp://h:5x", "port"},
        {"amqp://h:-1", "port"},
        {"amqp://[::1", "valid host"},
        {"amqp://[::1]5672", "valid host"},
        {"amqp://[]:5672", "no host"},
        {"amqp://u%4:p@h", "%"},
        {"amqp://u:p%zz@h", "%"},
        {"amqp://u:p%@h", "%"},
        {"amqp://u%00:p@h", "%"},
        {"amqp://h/a%", "%"},
        {"amqp://h/a/b", "vhost"},
        {"amqp://h?verify=verify_none", "amqps"},
        {"amqps://h?verify=maybe", "verify_peer"},
        {"amqps://h?heartbeat=3", "unknown parameter"},
        {"amqps://h?", "without a value"},
        {"amqps://h?cacertfile", "without a value"},
        {"amqps://h?cacertfile=", "without a value"},
        {"amqps://h?certfile=/c", "both or none"},
        {"amqps://h?keyfile=/k", "both or none"},
        {"amqp://1,2,3,4,5,6,7,8,9", "more than 8"},
    };
    struct amqp_url u;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *wrong = amqp_url_parse(&u, cases[i].url);
        if (wrong == NULL || strstr(wrong, cases[i].word) == NULL) {
            fail_msg("%s: %s", cases[i].url, wrong == NULL ? "is accepted" : wrong);
        }
    }
}

static void
a_url_that_is_too_long_is_refused(void **state)
{
    static char text[AMQP_URL_MAX + 64];
    struct amqp_url u;
    (void)state;
    memset(text, 'h', sizeof text - 1);
    memcpy(text, "amqp://", 7);
    assert_non_null(amqp_url_parse(&u, text));
    text[7 + AMQP_URL_MAX] = '\0';
    assert_null(amqp_url_parse(&u, text));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_missing_becomes_the_default),
        cmocka_unit_test(every_part_is_read_and_decoded),
        cmocka_unit_test(a_password_may_be_empty_or_hold_a_colon),
        cmocka_unit_test(the_vhost_slash_can_be_written_out),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(a_url_that_is_too_long_is_refused),
    };
    return cmocka_run_group_tests_name("amqp_url", tests, NULL, NULL);
}
