/* What dedup.h promises, and what dedup_redis.c does, asked of a real redis-server. */
#include "dedup_suite.h"
#include "redis_server.h"

#include "clock.h"
#include "config.h"
#include "log.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENT_MS 5000 /* for a machine that is busy */
#define HASTY_MS 50
#define SLACK_MS 1500 /* the machine's, not ours; what waits without a bound takes longer */
#define BREAK_OVER_MS 31000
#define TTL_S "3600"
#define SINK_TIMEOUT_MS 5000

static struct redis_server server;

/* Of the monotonic clock, so that no test waits for a breaker. */
static int64_t jump_ms;

static int64_t
jumping_ms(struct env *env)
{
    (void)env;
    return clock_mono_ns() / 1000000 + jump_ms;
}

/* A maker's data. */
struct maker {
    bool sink_decides;
};

static enum err
try_open(struct dedup **out, struct rig *r, const char *url, int64_t timeout_ms, char why[512])
{
    char text[256];
    snprintf(text, sizeof text, "%s", url);
    const struct config cfg = {.dedup = text,
                               .dedup_timeout = timeout_ms,
                               .dedup_ttl = 3599001,
                               .sink_timeout = SINK_TIMEOUT_MS};
    r->kit.env.mono_ms = jumping_ms;
    why[0] = '\0';
    *out = NULL;
    return dedup_redis_open(out, &cfg, &r->kit.env, ((struct maker *)r->data)->sink_decides, why,
                            512);
}

static struct dedup *
open_at(struct rig *r, const char *url, int64_t timeout_ms)
{
    char why[512];
    struct dedup *d;
    enum err e = try_open(&d, r, url, timeout_ms, why);
    if (e != OK) {
        fail_msg("%s: %s: %s", url, err_name(e), why);
    }
    return d;
}

static const char *
url_of(int port)
{
    static char url[64];
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", port);
    return url;
}

/* The rig's dedup, opened anew. */
static void
reopen(struct rig *r, const char *url, int64_t timeout_ms)
{
    r->dedup->ops->close(r->dedup);
    r->dedup = NULL;
    r->dedup = open_at(r, url, timeout_ms);
}

static void
open_redis(struct rig *r)
{
    if (server.pid == 0) {
        redis_server_start(&server);
    }
    redis_server_resume(&server); /* whatever a failed test left behind */
    redis_server_do(&server, "REPLICAOF NO ONE");
    redis_server_do(&server, "CONFIG SET maxmemory 0");
    redis_server_do(&server, "FLUSHALL");
    jump_ms = 0;
    r->dedup = open_at(r, url_of(server.port), PATIENT_MS);
}

static enum err
seen(struct rig *r)
{
    return r->dedup->ops->seen(r->dedup, &r->batch);
}

static enum err
mark(struct rig *r)
{
    return r->dedup->ops->mark(r->dedup, &r->batch);
}

static void
assert_took_less_than(int64_t since_ns, int64_t most_ms)
{
    int64_t took_ms = (clock_mono_ns() - since_ns) / 1000000;
    if (took_ms >= most_ms) {
        fail_msg("took %lld ms", (long long)took_ms);
    }
}

static void
wait_until_breakers_close(void)
{
    jump_ms += BREAK_OVER_MS;
}

/* --- a server of our own making --- */

struct fake {
    const char *says; /* to whatever it hears */
    bool drips;       /* a byte every 5 ms, without end */
    bool floods;      /* as much as it can, without end */
    int fd;
    int port;
    atomic_bool stopping;
    atomic_int heard;
    pthread_t thread;
};

static bool
fake_waits(struct fake *f, int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (!atomic_load(&f->stopping)) {
        if (poll(&p, 1, ms < 20 ? ms : 20) != 0 || ms < 20) {
            return !atomic_load(&f->stopping);
        }
    }
    return false;
}

static void
fake_talk(struct fake *f, int c)
{
    char heard[65536] = "";
    while (fake_waits(f, c, 1000) && recv(c, heard, sizeof heard, 0) > 0) {
        atomic_fetch_add(&f->heard, 1);
        if (send(c, f->says, strlen(f->says), MSG_NOSIGNAL) < 0) {
            return;
        }
        while (f->drips && fake_waits(f, -1, 5)) {
            if (send(c, "x", 1, MSG_NOSIGNAL) < 0) {
                return;
            }
        }
        while (f->floods && !atomic_load(&f->stopping)) {
            if (send(c, heard, sizeof heard, MSG_NOSIGNAL) < 0) {
                return;
            }
        }
    }
}

static void *
fake_run(void *data)
{
    struct fake *f = data;
    while (fake_waits(f, f->fd, 1000)) {
        int c = accept(f->fd, NULL, NULL);
        if (c >= 0) {
            fake_talk(f, c);
            close(c);
        }
    }
    return NULL;
}

static void
fake_start(struct fake *f)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    f->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(f->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(f->fd, 16), 0);
    assert_int_equal(getsockname(f->fd, (struct sockaddr *)&a, &size), 0);
    f->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&f->thread, NULL, fake_run, f), 0);
}

static void
fake_end(struct fake *f)
{
    atomic_store(&f->stopping, true);
    pthread_join(f->thread, NULL);
    close(f->fd);
}

/* --- both with and without claims --- */

static void
a_note_is_the_payloads_hash_and_expires(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
    dedup_mark(r);
    /* printf '{}' | sha256sum */
    redis_server_expect(&server, "GET processed:a", "44136fa355b3678a");
    redis_server_expect(&server, "TTL processed:a", TTL_S);
    redis_server_expect(&server, "EXISTS claim:a", "0");
}

static void
any_other_value_means_processed_and_is_no_conflict(void **state)
{
    struct rig *r = *state;
    redis_server_do(&server, "MSET processed:a 1 processed:b true processed:c 44136FA355B3678A");
    dedup_hold(r, "abcd");
    dedup_assert_seen(r, "DDDP");
    for (size_t i = 0; i < r->batch.n; i++) {
        assert_false(r->batch.item[i].conflict);
    }
}

static void
an_effect_that_is_only_staged_is_not_noted(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
    r->batch.joined = true;
    r->batch.staged = STAGE_WRITE;
    dedup_mark(r);
    assert_int_equal(r->batch.staged, STAGE_WRITE);
    redis_server_expect(&server, "EXISTS processed:a", "0");
}

static void
a_flush_between_any_two_calls_is_only_a_miss(void **state)
{
    struct rig *r = *state;
    for (int i = 0; i < 20; i++) {
        dedup_hold(r, "aab");
        redis_server_do(&server, "FLUSHALL");
        dedup_assert_seen(r, "PDP");
        redis_server_do(&server, "FLUSHALL");
        dedup_mark(r);
        dedup_hold(r, "abc");
        dedup_assert_seen(r, "DDP");
    }
}

static void
a_server_that_lost_its_scripts_is_answered_the_same(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "ab");
    redis_server_do(&server, "SCRIPT FLUSH");
    dedup_assert_seen(r, "PP");
    redis_server_do(&server, "SCRIPT FLUSH");
    dedup_mark(r);
    redis_server_do(&server, "SCRIPT FLUSH");
    dedup_hold(r, "abc");
    dedup_assert_seen(r, "DDP");
}

static void
an_id_of_any_characters_and_the_longest_length_is_a_key(void **state)
{
    struct rig *r = *state;
    char longest[EVENT_ID_MAX + 1];
    memset(longest, 'x', EVENT_ID_MAX);
    longest[EVENT_ID_MAX] = '\0';
    const char *const ids[] = {longest, " * $ \" ' \\ {a} %s ", "\xc3\xa4\xe2\x82\xac", "*1"};
    redis_server_do(&server, "FLUSHALL"); /* of what open tried */
    for (int round = 0; round < 2; round++) {
        batch_reset(&r->batch);
        for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
            batch_add(&r->batch, kit_event(ids[i], "{}"));
        }
        dedup_assert_seen(r, round == 0 ? "PPPP" : "DDDD");
        dedup_mark(r);
    }
    redis_server_expect(&server, "DBSIZE", "4");
}

static void
the_largest_batch_is_one_round_trip_each_way(void **state)
{
    struct rig *r = *state;
    batch_fini(&r->batch);
    assert_int_equal(batch_init(&r->batch, 10000), OK);
    for (size_t i = 0; i < r->batch.cap; i++) {
        char id[32];
        snprintf(id, sizeof id, "event-%zu", i);
        batch_add(&r->batch, kit_event(id, "{}"));
    }
    assert_int_equal(seen(r), OK);
    dedup_mark(r);
    redis_server_do(&server, "CONFIG RESETSTAT");
    assert_int_equal(seen(r), OK);
    for (size_t i = 0; i < r->batch.n; i++) {
        assert_int_equal(r->batch.item[i].state, EVENT_DUPLICATE);
    }
    char stats[2048];
    redis_server_say(&server, stats, sizeof stats, "INFO commandstats");
    bool decides = ((struct maker *)r->data)->sink_decides;
    assert_non_null(strstr(stats, decides ? "cmdstat_mget:calls=1," : "cmdstat_eval:calls=1,"));
}

static void
a_restart_of_the_server_costs_no_call(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
    dedup_mark(r);
    redis_server_kill(&server);
    redis_server_start(&server); /* empty: what it knew is gone */
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
    dedup_mark(r);
    redis_server_expect(&server, "EXISTS processed:a", "1");
}

static void
a_wrong_password_is_an_error_of_the_configuration(void **state)
{
    struct rig *r = *state;
    struct dedup *d;
    char why[512];
    char url[128];
    redis_server_do(&server, "ACL SETUSER mute on >word allkeys +auth");
    redis_server_do(&server, "ACL SETUSER reader on >word allkeys +auth +mget +eval");
    const char *const bad[] = {"nobody:sesame@", ":sesame@", "mute:word@", "reader:word@"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(url, sizeof url, "redis://%s127.0.0.1:%d", bad[i], server.port);
        assert_int_equal(try_open(&d, r, url, PATIENT_MS, why), ERR_CONFIG);
        assert_non_null(strstr(why, "Redis does not let us in"));
        assert_null(strstr(why, "sesame"));
    }
    snprintf(url, sizeof url, "redis://127.0.0.1:%d/99", server.port);
    assert_int_equal(try_open(&d, r, url, PATIENT_MS, why), ERR_CONFIG);
    assert_non_null(strstr(why, "DB index"));
}

static void
user_password_and_database_are_those_of_the_url(void **state)
{
    struct rig *r = *state;
    char url[128];
    redis_server_do(&server, "ACL SETUSER me on >p@ss allkeys +@all");
    snprintf(url, sizeof url, "redis://me:p%%40ss@127.0.0.1:%d/3", server.port);
    reopen(r, url, PATIENT_MS);
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
    dedup_mark(r);
    dedup_hold(r, "a");
    dedup_assert_seen(r, "D");
    redis_server_expect(&server, "EXISTS processed:a", "0"); /* of database 0 */
}

static void
a_unix_socket_is_an_address(void **state)
{
    struct rig *r = *state;
    char url[128] = "redis://";
    for (const char *c = server.socket; *c != '\0'; c++) {
        snprintf(url + strlen(url), sizeof url - strlen(url), *c == '/' ? "%%2F" : "%c", *c);
    }
    reopen(r, url, PATIENT_MS);
    dedup_hold(r, "a");
    dedup_mark(r);
    dedup_assert_seen(r, "D");
}

static void
a_url_that_makes_no_sense_is_an_error_of_the_configuration(void **state)
{
    static const char *const bad[] = {
        "redis:",
        "redis://",
        "redis://h:",
        "redis://h:0",
        "redis://h:70000",
        "redis://h:6379/x",
        "redis://h/-1",
        "redis://u@h",
        "redis://[::1",
        "redis://[::1]x",
        "redis://h,,i",
        "redis://h:1:2",
        "redis://u:%zz@h",
        "redis://u:%0@h",
        "redis://h/1/2",
        "redis://h,",
        "rediss://h",
        "redis://u:p%00@h",
        "redis://h?x",
        "redis://h:6379 ",
        "redis://h/99999999999",
        "redis://1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17",
    };
    struct rig *r = *state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dedup *d;
        char why[512];
        enum err e = try_open(&d, r, bad[i], PATIENT_MS, why);
        if (e != ERR_CONFIG || strstr(why, "expected") == NULL) {
            fail_msg("%s: %s: %s", bad[i], err_name(e), why);
        }
    }
}

static void
an_address_that_fails_is_left_for_the_next(void **state)
{
    struct rig *r = *state;
    char url[128];
    snprintf(url, sizeof url, "redis://127.0.0.1:%d,localhost:%d/0", redis_free_port(),
             server.port);
    reopen(r, url, PATIENT_MS);
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
    dedup_mark(r);
    dedup_assert_seen(r, "D");
}

static void
an_address_that_is_loading_is_left_for_the_next(void **state)
{
    struct rig *r = *state;
    struct fake loading = {.says = "-LOADING Redis is loading the dataset in memory\r\n"};
    fake_start(&loading);
    char url[128];
    snprintf(url, sizeof url, "redis://127.0.0.1:%d,127.0.0.1:%d", loading.port, server.port);
    reopen(r, url, PATIENT_MS);
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
    dedup_mark(r);
    dedup_assert_seen(r, "D");
    fake_end(&loading);
}

static void
a_master_that_became_a_replica_is_left_for_the_next(void **state)
{
    struct rig *r = *state;
    struct redis_server other = {0};
    redis_server_start(&other);
    char url[128];
    snprintf(url, sizeof url, "redis://127.0.0.1:%d,127.0.0.1:%d", other.port, server.port);
    reopen(r, url, PATIENT_MS);
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
    redis_server_do(&other, "REPLICAOF 127.0.0.1 1");
    dedup_mark(r);
    redis_server_expect(&server, "EXISTS processed:a", "1");
    dedup_hold(r, "a");
    dedup_assert_seen(r, "D");
    r->dedup->ops->close(r->dedup);
    r->dedup = open_at(r, url_of(server.port), PATIENT_MS);
    redis_server_end(&other);
}

/* --- how long it may take --- */

static void
a_server_that_is_stopped_costs_one_deadline(void **state)
{
    struct rig *r = *state;
    reopen(r, url_of(server.port), HASTY_MS);
    redis_server_pause(&server);
    int64_t since_ns = clock_mono_ns();
    for (int i = 0; i < 1000; i++) {
        dedup_hold(r, "aa");
        bool decides = ((struct maker *)r->data)->sink_decides;
        assert_int_equal(seen(r), decides ? OK : ERR_UNAVAILABLE);
        dedup_assert_states(r, decides ? "PD" : "PP");
    }
    assert_took_less_than(since_ns, SLACK_MS);
    redis_server_resume(&server);
    wait_until_breakers_close();
    reopen(r, url_of(server.port), PATIENT_MS);
    dedup_hold(r, "b");
    dedup_assert_seen(r, "P");
}

static void
a_server_that_is_stopped_costs_one_deadline_of_open(void **state)
{
    struct rig *r = *state;
    redis_server_pause(&server);
    int64_t since_ns = clock_mono_ns();
    reopen(r, url_of(server.port), HASTY_MS);
    assert_took_less_than(since_ns, SLACK_MS);
    redis_server_resume(&server);
}

static void
a_reply_that_drips_does_not_extend_the_deadline(void **state)
{
    struct rig *r = *state;
    struct fake drips = {.says = "*1\r\n$100000\r\n", .drips = true};
    fake_start(&drips);
    int64_t since_ns = clock_mono_ns();
    reopen(r, url_of(drips.port), HASTY_MS);
    wait_until_breakers_close();
    int heard = atomic_load(&drips.heard);
    dedup_hold(r, "a");
    bool decides = ((struct maker *)r->data)->sink_decides;
    assert_int_equal(seen(r), decides ? OK : ERR_UNAVAILABLE);
    assert_took_less_than(since_ns, SLACK_MS);
    while (atomic_load(&drips.heard) == heard) { /* it was asked, and hears of it */
        assert_took_less_than(since_ns, KIT_DEADLINE_MS);
        usleep(1000);
    }
    fake_end(&drips);
}

static void
a_reply_without_end_is_cut_off(void **state)
{
    struct rig *r = *state;
    struct fake floods = {.says = "*1\r\n$500000000\r\n", .floods = true};
    fake_start(&floods);
    int64_t since_ns = clock_mono_ns();
    reopen(r, url_of(floods.port), 10 * PATIENT_MS);
    assert_took_less_than(since_ns, PATIENT_MS);
    assert_true(atomic_load(&floods.heard) > 0);
    fake_end(&floods);
}

static void
nonsense_is_no_answer(void **state)
{
    static const char *const says[] = {"?\r\n",
                                       "*-5\r\n",
                                       "$3\r\nabc\r\n",
                                       "*3\r\n:1\r\n:2\r\n:3\r\n",
                                       "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
                                       "HTTP/1.1 400 Bad Request\r\n\r\n",
                                       "-ERR unknown command\r\n"};
    struct rig *r = *state;
    bool decides = ((struct maker *)r->data)->sink_decides;
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        struct fake f = {.says = says[i]};
        fake_start(&f);
        reopen(r, url_of(f.port), PATIENT_MS);
        wait_until_breakers_close();
        dedup_hold(r, "ab");
        assert_int_equal(seen(r), decides ? OK : ERR_UNAVAILABLE);
        dedup_assert_states(r, "PP");
        fake_end(&f);
    }
}

static size_t
lines_with(int fd, const char *word)
{
    static char text[65536];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    size_t found = 0;
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word)) {
        found++;
    }
    return found;
}

static void
going_and_coming_back_is_one_line_each(void **state)
{
    struct rig *r = *state;
    FILE *file = tmpfile();
    struct log *l = log_open(fileno(file), LOG_DEBUG, false);
    r->kit.env.log = l;
    redis_server_kill(&server);
    for (int i = 0; i < 5; i++) {
        dedup_hold(r, "a");
        (void)seen(r);
        wait_until_breakers_close();
    }
    assert_int_equal(lines_with(fileno(file), "event=dedup.redis.away"), 1);
    assert_int_equal(lines_with(fileno(file), "event=dedup.redis.back"), 0);
    redis_server_start(&server);
    for (int i = 0; i < 3; i++) {
        dedup_hold(r, "a");
        dedup_assert_seen(r, "P");
    }
    assert_int_equal(lines_with(fileno(file), "event=dedup.redis.away"), 1);
    assert_int_equal(lines_with(fileno(file), "event=dedup.redis.back"), 1);
    r->kit.env.log = r->kit.log;
    log_close(l);
    fclose(file);
}

/* --- a cache: the sink decides --- */

static void
without_the_server_the_sink_decides(void **state)
{
    struct rig *r = *state;
    redis_server_kill(&server);
    for (int i = 0; i < 3; i++) {
        dedup_hold(r, "aab");
        dedup_assert_seen(r, "PDP");
        dedup_mark(r);
    }
    reopen(r, url_of(server.port), PATIENT_MS); /* nor does it keep us from starting */
    redis_server_start(&server);
    wait_until_breakers_close();
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
    dedup_mark(r);
    dedup_assert_seen(r, "D");
}

static void
a_full_server_is_still_asked(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "a");
    dedup_mark(r);
    redis_server_do(&server, "CONFIG SET maxmemory 1");
    dedup_hold(r, "b");
    dedup_mark(r);
    dedup_hold(r, "ab");
    dedup_assert_seen(r, "DP");
    redis_server_do(&server, "CONFIG SET maxmemory 0");
    dedup_mark(r); /* the breaker of the writes is open */
    redis_server_expect(&server, "EXISTS processed:b", "0");
    wait_until_breakers_close();
    dedup_mark(r);
    dedup_hold(r, "ab");
    dedup_assert_seen(r, "DD");
}

static void
a_full_server_does_not_keep_us_from_starting(void **state)
{
    struct rig *r = *state;
    redis_server_do(&server, "CONFIG SET maxmemory 1");
    reopen(r, url_of(server.port), PATIENT_MS);
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
}

static void
a_lone_replica_is_still_asked(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "a");
    dedup_mark(r);
    redis_server_do(&server, "REPLICAOF 127.0.0.1 1");
    dedup_hold(r, "b");
    dedup_mark(r);
    dedup_hold(r, "ab");
    dedup_assert_seen(r, "DP");
    redis_server_do(&server, "REPLICAOF NO ONE");
}

/* --- claims: the sink has no unique key --- */

static void
an_id_that_another_claimed_is_waited_for(void **state)
{
    struct rig *r = *state;
    struct dedup *other = open_at(r, url_of(server.port), PATIENT_MS);
    dedup_hold(r, "ab");
    dedup_assert_seen(r, "PP");
    dedup_hold(r, "cb");
    assert_int_equal(other->ops->seen(other, &r->batch), ERR_UNAVAILABLE);
    redis_server_expect(&server, "EXISTS claim:c", "0"); /* all or none */
    dedup_hold(r, "ab");
    dedup_assert_seen(r, "PP"); /* again: the claim is its own */
    dedup_mark(r);
    dedup_hold(r, "cb");
    assert_int_equal(other->ops->seen(other, &r->batch), OK);
    dedup_assert_states(r, "PD");
    redis_server_expect(&server, "EXISTS claim:a claim:b", "0");
    other->ops->close(other);
}

static void
a_claim_ends_with_its_lease(void **state)
{
    struct rig *r = *state;
    struct dedup *other = open_at(r, url_of(server.port), PATIENT_MS);
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
    char lease[64];
    redis_server_say(&server, lease, sizeof lease, "PTTL claim:a");
    assert_in_range(atoi(lease), SINK_TIMEOUT_MS + 1, SINK_TIMEOUT_MS + 10000);
    assert_int_equal(other->ops->seen(other, &r->batch), ERR_UNAVAILABLE);
    redis_server_do(&server, "PEXPIRE claim:a 0");
    assert_int_equal(other->ops->seen(other, &r->batch), OK);
    dedup_assert_states(r, "P");
    assert_int_equal(seen(r), ERR_UNAVAILABLE); /* now it is the other's */
    other->ops->close(other);
}

static void
who_meets_a_foreign_claim_lets_go_of_its_own(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "ab");
    dedup_assert_seen(r, "PP");
    redis_server_do(&server, "SET claim:b somebody");
    assert_int_equal(seen(r), ERR_UNAVAILABLE);
    redis_server_expect(&server, "EXISTS claim:a", "0");
    redis_server_expect(&server, "GET claim:b", "somebody");
}

static void
a_foreign_claim_is_never_let_go(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "ab");
    dedup_assert_seen(r, "PP");
    redis_server_do(&server, "SET claim:a somebody"); /* our lease had ended */
    dedup_mark(r);
    redis_server_expect(&server, "GET claim:a", "somebody");
    redis_server_expect(&server, "EXISTS claim:b", "0");
    redis_server_expect(&server, "EXISTS processed:a processed:b", "2");
}

static void
a_dead_event_is_not_noted_and_its_claim_ends(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "ab");
    dedup_assert_seen(r, "PP");
    r->batch.item[0].state = EVENT_DEAD;
    dedup_mark(r);
    redis_server_expect(&server, "EXISTS processed:a claim:a claim:b", "0");
    redis_server_expect(&server, "EXISTS processed:b", "1");
}

static void
who_may_not_claim_is_an_error_of_the_configuration(void **state)
{
    struct rig *r = *state;
    struct dedup *d;
    char why[512];
    char url[128];
    redis_server_do(&server, "ACL SETUSER weak on >word resetkeys ~processed:* +@all");
    snprintf(url, sizeof url, "redis://weak:word@127.0.0.1:%d", server.port);
    assert_int_equal(try_open(&d, r, url, PATIENT_MS, why), ERR_CONFIG);
    assert_non_null(strstr(why, "NOPERM"));
}

static void
without_the_server_the_batch_waits(void **state)
{
    struct rig *r = *state;
    redis_server_kill(&server);
    dedup_hold(r, "a");
    assert_int_equal(seen(r), ERR_UNAVAILABLE);
    reopen(r, url_of(server.port), PATIENT_MS); /* it waits for it after a start, too */
    dedup_hold(r, "a");
    assert_int_equal(seen(r), ERR_UNAVAILABLE);
    redis_server_start(&server);
    wait_until_breakers_close();
    dedup_assert_seen(r, "P");
}

static void
without_room_for_a_claim_the_batch_waits(void **state)
{
    struct rig *r = *state;
    redis_server_do(&server, "CONFIG SET maxmemory 1");
    dedup_hold(r, "a");
    assert_int_equal(seen(r), ERR_UNAVAILABLE);
    redis_server_do(&server, "CONFIG SET maxmemory 0");
    wait_until_breakers_close();
    dedup_assert_seen(r, "P");
}

static void
an_effect_that_could_not_be_noted_is_not_had_again(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "ab");
    dedup_assert_seen(r, "PP");
    redis_server_kill(&server);
    assert_int_equal(mark(r), ERR_UNAVAILABLE);
    redis_server_start(&server); /* it has forgotten the claims */
    wait_until_breakers_close();
    dedup_hold(r, "abc"); /* a retry begins afresh */
    dedup_assert_seen(r, "DDP");
}

static void
an_effect_that_could_not_be_noted_is_noted_at_the_end(void **state)
{
    struct rig *r = *state;
    dedup_hold(r, "a");
    dedup_assert_seen(r, "P");
    redis_server_kill(&server);
    assert_int_equal(mark(r), ERR_UNAVAILABLE);
    redis_server_start(&server);
    reopen(r, url_of(server.port), PATIENT_MS);
    dedup_assert_seen(r, "D");
}

static const struct CMUnitTest both[] = {
    DEDUP_TEST(a_note_is_the_payloads_hash_and_expires),
    DEDUP_TEST(any_other_value_means_processed_and_is_no_conflict),
    DEDUP_TEST(an_effect_that_is_only_staged_is_not_noted),
    DEDUP_TEST(a_flush_between_any_two_calls_is_only_a_miss),
    DEDUP_TEST(a_server_that_lost_its_scripts_is_answered_the_same),
    DEDUP_TEST(an_id_of_any_characters_and_the_longest_length_is_a_key),
    DEDUP_TEST(the_largest_batch_is_one_round_trip_each_way),
    DEDUP_TEST(a_restart_of_the_server_costs_no_call),
    DEDUP_TEST(a_wrong_password_is_an_error_of_the_configuration),
    DEDUP_TEST(user_password_and_database_are_those_of_the_url),
    DEDUP_TEST(a_unix_socket_is_an_address),
    DEDUP_TEST(a_url_that_makes_no_sense_is_an_error_of_the_configuration),
    DEDUP_TEST(an_address_that_fails_is_left_for_the_next),
    DEDUP_TEST(an_address_that_is_loading_is_left_for_the_next),
    DEDUP_TEST(a_master_that_became_a_replica_is_left_for_the_next),
    DEDUP_TEST(a_server_that_is_stopped_costs_one_deadline),
    DEDUP_TEST(a_server_that_is_stopped_costs_one_deadline_of_open),
    DEDUP_TEST(a_reply_that_drips_does_not_extend_the_deadline),
    DEDUP_TEST(a_reply_without_end_is_cut_off),
    DEDUP_TEST(nonsense_is_no_answer),
    DEDUP_TEST(going_and_coming_back_is_one_line_each),
};
static const struct CMUnitTest cache_only[] = {
    DEDUP_TEST(without_the_server_the_sink_decides),
    DEDUP_TEST(a_full_server_is_still_asked),
    DEDUP_TEST(a_full_server_does_not_keep_us_from_starting),
    DEDUP_TEST(a_lone_replica_is_still_asked),
};
static const struct CMUnitTest claims_only[] = {
    DEDUP_TEST(an_id_that_another_claimed_is_waited_for),
    DEDUP_TEST(a_claim_ends_with_its_lease),
    DEDUP_TEST(who_meets_a_foreign_claim_lets_go_of_its_own),
    DEDUP_TEST(a_foreign_claim_is_never_let_go),
    DEDUP_TEST(a_dead_event_is_not_noted_and_its_claim_ends),
    DEDUP_TEST(who_may_not_claim_is_an_error_of_the_configuration),
    DEDUP_TEST(without_the_server_the_batch_waits),
    DEDUP_TEST(without_room_for_a_claim_the_batch_waits),
    DEDUP_TEST(an_effect_that_could_not_be_noted_is_not_had_again),
    DEDUP_TEST(an_effect_that_could_not_be_noted_is_noted_at_the_end),
};

int
main(void)
{
    signal(SIGPIPE, SIG_IGN);
    struct maker caches = {.sink_decides = true};
    struct maker claims = {.sink_decides = false};
    struct rig cache = {.open = open_redis, .data = &caches};
    struct rig claim = {.open = open_redis, .data = &claims};
    int failures = DEDUP_RUN("dedup/redis", dedup_every, &cache) +
                   DEDUP_RUN("dedup/redis, exact", dedup_exact, &cache) +
                   DEDUP_RUN("dedup/redis, conflicts", dedup_conflicts, &cache) +
                   DEDUP_RUN("dedup/redis, itself", both, &cache) +
                   DEDUP_RUN("dedup/redis, itself, a cache", cache_only, &cache) +
                   DEDUP_RUN("dedup/redis with claims", dedup_every, &claim) +
                   DEDUP_RUN("dedup/redis with claims, exact", dedup_exact, &claim) +
                   DEDUP_RUN("dedup/redis with claims, conflicts", dedup_conflicts, &claim) +
                   DEDUP_RUN("dedup/redis with claims, itself", both, &claim) +
                   DEDUP_RUN("dedup/redis with claims, claims", claims_only, &claim);
    redis_server_end(&server);
    return failures;
}
