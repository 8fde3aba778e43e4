#include "api_kit.h"

#include "env.h"
#include "log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* ---- the clock ---- */

static int64_t
moved_mono_ms(struct env *env)
{
    struct api_kit *k = env->data;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000 + atomic_load(&k->clock_jump_ms);
}

void
api_kit_later(struct api_kit *k, int64_t ms)
{
    atomic_fetch_add(&k->clock_jump_ms, ms);
}

static int64_t
real_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
pause_briefly(void)
{
    poll(NULL, 0, 1);
}

void
wait_for(const _Atomic uint64_t *counter, uint64_t least)
{
    int64_t until = real_ms() + DEADLINE_MS;
    while (atomic_load(counter) < least) {
        assert_true(real_ms() < until);
        pause_briefly();
    }
}

/* ---- the queue and the history ---- */

static enum err
hold_or_answer(struct held *h, struct mail *mail)
{
    enum err e = atomic_load(&h->refuse);
    if (e != OK) {
        return e;
    }
    if (atomic_load(&h->hold)) {
        pthread_mutex_lock(&h->lock);
        mail_list_add(&h->list, mail);
        pthread_mutex_unlock(&h->lock);
        atomic_fetch_add(&h->seen, 1);
    } else {
        atomic_fetch_add(&h->seen, 1);
        h->answer(h, mail);
    }
    return OK;
}

static void
answer_publish(struct held *h, struct mail *mail)
{
    struct publish *p = (struct publish *)mail;
    struct mail *ev;
    while ((ev = mail_list_pop(&p->events)) != NULL) {
        event_free((struct event *)ev);
    }
    p->result = atomic_load(&h->result);
    p->durability = DURABILITY_FSYNC;
    mailbox_post_reply(p->reply_to, &p->reply.mail);
}

static enum err
kit_publish(struct queue *q, struct publish *p)
{
    struct api_kit *k = (struct api_kit *)q;
    return hold_or_answer(&k->posts, &p->reply.mail);
}

static void
kit_status(struct queue *q, struct queue_status *out)
{
    *out = ((struct api_kit *)q)->status;
}

static const struct queue_ops queue_ops = {
    .name = "test", .publish = kit_publish, .status = kit_status};

static struct api_kit *
kit_of_history(struct history *h)
{
    return (struct api_kit *)((char *)h - offsetof(struct api_kit, history));
}

static void
show_one(struct question *q, size_t payload_bytes)
{
    char *payload = malloc(payload_bytes + 1);
    memset(payload, ' ', payload_bytes);
    memcpy(payload, "{}", 2);
    q->rows = calloc(1, sizeof *q->rows);
    q->rows[0].ev = event_new(SPAN("shown"), SPAN("T"), SPAN("2026-02-03T12:30:00Z"),
                              (struct span){payload, payload_bytes});
    q->n = 1;
    free(payload);
}

static void
answer_question(struct held *h, struct mail *mail)
{
    (void)h;
    struct question *q = (struct question *)mail;
    mailbox_post_reply(q->reply_to, &q->reply.mail);
}

static enum err
kit_ask(struct history *h, struct question *q)
{
    struct api_kit *k = kit_of_history(h);
    if (atomic_load(&k->questions.refuse) == OK) {
        q->result = OK;
        show_one(q, k->row_bytes);
    }
    return hold_or_answer(&k->questions, &q->reply.mail);
}

static const struct history_ops history_ops = {.name = "test", .ask = kit_ask};

void
held_wait(struct held *h, unsigned seen)
{
    int64_t until = real_ms() + DEADLINE_MS;
    while (atomic_load(&h->seen) < seen) {
        assert_true(real_ms() < until);
        pause_briefly();
    }
    assert_int_equal(atomic_load(&h->seen), seen);
}

static struct mail *
held_pop(struct held *h, bool newest)
{
    struct mail_list all = h->list;
    struct mail *last = all.last;
    if (!newest || all.count < 2) {
        return mail_list_pop(&h->list);
    }
    h->list = (struct mail_list){0};
    struct mail *mail;
    while ((mail = mail_list_pop(&all)) != last) {
        mail_list_add(&h->list, mail);
    }
    return last;
}

void
held_release(struct held *h, size_t most, bool newest_first)
{
    for (size_t i = 0; i < most; i++) {
        pthread_mutex_lock(&h->lock);
        struct mail *mail = held_pop(h, newest_first);
        pthread_mutex_unlock(&h->lock);
        if (mail == NULL) {
            return;
        }
        h->answer(h, mail);
    }
}

/* ---- the server ---- */

void
api_kit_init(struct api_kit *k)
{
    signal(SIGPIPE, SIG_IGN);
    *k = (struct api_kit){.row_bytes = 2};
    k->queue.ops = &queue_ops;
    k->history.ops = &history_ops;
    k->posts.answer = answer_publish;
    k->questions.answer = answer_question;
    pthread_mutex_init(&k->posts.lock, NULL);
    pthread_mutex_init(&k->questions.lock, NULL);
    k->status = (struct queue_status){.ready = true, .why = "", .retry_after_s = 7};
    k->cfg = (struct config){.listen = "127.0.0.1:0",
                             .api_threads = 1,
                             .event_max_bytes = 64 * 1024,
                             .http_max_body = 1024 * 1024,
                             .http_max_batch = 1000,
                             .http_max_connections = 100,
                             .http_max_inflight = 4 * 1024 * 1024,
                             .http_header_timeout = 10000,
                             .http_idle_timeout = 60000,
                             .http_write_timeout = 10000,
                             .http_body_min_rate = 1024};
    env_init_system(&k->env, log_open(2, LOG_ERROR, false));
    k->env.mono_ms = moved_mono_ms;
    k->env.data = k;
    k->parts = (struct api_parts){.cfg = &k->cfg,
                                  .env = &k->env,
                                  .stats = &k->stats,
                                  .queue = &k->queue,
                                  .history = &k->history};
}

void
api_kit_start(struct api_kit *k)
{
    enum err e = api_open(&k->api, &k->parts, k->why, sizeof k->why);
    if (e != OK) {
        print_error("%s\n", k->why);
    }
    assert_int_equal(e, OK);
    assert_int_equal(api_start(k->api), OK);
}

void
api_kit_end(struct api_kit *k)
{
    atomic_store(&k->posts.hold, false);
    atomic_store(&k->questions.hold, false);
    held_release(&k->posts, SIZE_MAX, false);
    held_release(&k->questions, SIZE_MAX, false);
    if (k->api != NULL) {
        api_drain(k->api, 1000);
    }
    api_close(k->api);
    pthread_mutex_destroy(&k->posts.lock);
    pthread_mutex_destroy(&k->questions.lock);
    log_close(k->env.log);
}

int
api_kit_set_up(void **state)
{
    struct api_kit *k = malloc(sizeof *k);
    api_kit_init(k);
    api_kit_start(k);
    *state = k;
    return 0;
}

int
api_kit_tear_down(void **state)
{
    api_kit_end(*state);
    free(*state);
    return 0;
}

/* ---- clients ---- */

static int
connect_unix(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path, path, sizeof at.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static int
connect_tcp(const char *address)
{
    in_port_t port = htons((in_port_t)atoi(strrchr(address, ':') + 1));
    struct sockaddr_in v4 = {
        .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool is_v6 = address[0] == '[';
    int fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
    int small = 65536; /* so that a client that does not read is soon noticed */
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    int rc = is_v6 ? connect(fd, (struct sockaddr *)&v6, sizeof v6)
                   : connect(fd, (struct sockaddr *)&v4, sizeof v4);
    assert_int_equal(rc, 0);
    return fd;
}

int
client_open(const struct api_kit *k)
{
    const char *address = api_address(k->api);
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    int fd = is_unix ? connect_unix(address + 5) : connect_tcp(address);
    struct timeval limit = {.tv_sec = DEADLINE_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    return fd;
}

void
client_send_bytes(int fd, const void *bytes, size_t len)
{
    assert_int_equal(send(fd, bytes, len, 0), (ssize_t)len);
}

void
client_send(int fd, const char *text)
{
    client_send_bytes(fd, text, strlen(text));
}

void
client_post(int fd, const char *id)
{
    char body[256], request[512];
    int len = snprintf(body, sizeof body,
                       "{\"event_id\":\"%s\",\"type\":\"T\",\"timestamp\":\"2026-02-03T12:30:00Z\","
                       "\"payload\":{}}",
                       id);
    snprintf(request, sizeof request,
             "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
             "Content-Length: %d\r\n\r\n%s",
             len, body);
    client_send(fd, request);
}

static size_t
read_head(int fd, struct got *got)
{
    size_t len = 0;
    while (len < 4 || memcmp(got->head + len - 4, "\r\n\r\n", 4) != 0) {
        assert_true(len < sizeof got->head - 1);
        ssize_t n = recv(fd, got->head + len, 1, 0);
        assert_int_equal(n, 1);
        len++;
    }
    got->head[len] = '\0';
    return len;
}

void
client_read(int fd, struct got *got)
{
    *got = (struct got){0};
    read_head(fd, got);
    assert_int_equal(sscanf(got->head, "HTTP/1.1 %d ", &got->status), 1);
    const char *length = strstr(got->head, "Content-Length: ");
    got->body_len = length == NULL ? 0 : strtoul(length + 16, NULL, 10);
    char part[4096];
    for (size_t len = 0; len < got->body_len;) {
        size_t left = got->body_len - len;
        ssize_t n = recv(fd, part, left < sizeof part ? left : sizeof part, 0);
        assert_true(n > 0);
        for (ssize_t i = 0; i < n && len + (size_t)i < sizeof got->body - 1; i++) {
            got->body[len + (size_t)i] = part[i];
        }
        len += (size_t)n;
    }
}

void
client_expect(int fd, int status)
{
    struct got got;
    client_read(fd, &got);
    if (got.status != status) {
        print_error("%s%s\n", got.head, got.body);
    }
    assert_int_equal(got.status, status);
}

void
client_expect_end(int fd)
{
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

void
client_expect_nothing(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    assert_true(n < 0 && errno == EAGAIN);
}

bool
client_is_cut(int fd)
{
    char bytes[4096];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0) {
    }
    assert_true(n == 0 || errno == ECONNRESET);
    return n < 0;
}

int
client_ask(struct api_kit *k, const char *text, struct got *got)
{
    int fd = client_open(k);
    client_send(fd, text);
    client_read(fd, got);
    close(fd);
    return got->status;
}
