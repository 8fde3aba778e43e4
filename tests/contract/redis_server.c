#include "redis_server.h"

#include "clock.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_NS (10 * INT64_C(1000000000))
#define ANSWER_MAX 512

/* Below those that the kernel gives out: while the server is killed, nobody else gets its port, not
 * even a client that connects to it (from it, to itself). */
#define PORT_LEAST 10240
#define PORT_MOST 32000

static bool
is_free(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    bool ok = bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return ok;
}

int
redis_free_port(void)
{
    static unsigned tries;
    int port;
    do {
        unsigned n = ((unsigned)getpid() + tries++) * 7919u;
        port = PORT_LEAST + (int)(n % (PORT_MOST - PORT_LEAST));
    } while (!is_free(port));
    return port;
}

static void
become_server(const struct redis_server *s)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char port[16];
    snprintf(port, sizeof port, "%d", s->port);
    int log = open("log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    const char *password = s->password == NULL ? "" : s->password;
    execlp("redis-server", "redis-server", "--port", port, "--bind", "127.0.0.1", "--unixsocket",
           s->socket, "--save", "", "--appendonly", "no", "--requirepass", password, (char *)NULL);
    _exit(127);
}

static redisContext *
connect_to(const struct redis_server *s)
{
    redisContext *c = redisConnect("127.0.0.1", s->port);
    assert_non_null(c);
    if (c->err == 0 && s->password != NULL) {
        freeReplyObject(redisCommand(c, "AUTH %s", s->password));
    }
    return c;
}

static bool
answers(const struct redis_server *s)
{
    redisContext *c = connect_to(s);
    redisReply *reply = c->err == 0 ? redisCommand(c, "PING") : NULL;
    bool ok = reply != NULL && reply->type == REDIS_REPLY_STATUS;
    if (reply != NULL) {
        freeReplyObject(reply);
    }
    redisFree(c);
    return ok;
}

void
redis_server_start(struct redis_server *s)
{
    if (s->port == 0) {
        s->port = redis_free_port();
        snprintf(s->folder, sizeof s->folder, "/tmp/weir-redis-XXXXXX");
        assert_non_null(mkdtemp(s->folder));
        snprintf(s->socket, sizeof s->socket, "%s/socket", s->folder);
    }
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        if (chdir(s->folder) == 0) {
            become_server(s);
        }
        _exit(127);
    }
    int64_t until_ns = clock_mono_ns() + DEADLINE_NS;
    while (!answers(s)) {
        assert_true(clock_mono_ns() < until_ns);
        if (waitpid(s->pid, NULL, WNOHANG) != 0) {
            s->pid = 0;
            fail_msg("redis-server ended: see %s/log; or is it not installed?", s->folder);
        }
        usleep(5000);
    }
}

void
redis_server_kill(struct redis_server *s)
{
    if (s->pid > 0) {
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
        s->pid = 0;
    }
}

void
redis_server_pause(struct redis_server *s)
{
    int status = 0;
    kill(s->pid, SIGSTOP);
    assert_int_equal(waitpid(s->pid, &status, WUNTRACED), s->pid);
    assert_true(WIFSTOPPED(status));
}

void
redis_server_resume(struct redis_server *s)
{
    kill(s->pid, SIGCONT);
}

void
redis_server_end(struct redis_server *s)
{
    redis_server_kill(s);
    char log[80];
    snprintf(log, sizeof log, "%s/log", s->folder);
    unlink(log);
    unlink(s->socket);
    rmdir(s->folder);
    *s = (struct redis_server){0};
}

static void
show(char *answer, size_t size, const redisReply *r)
{
    if (r->type == REDIS_REPLY_INTEGER) {
        snprintf(answer, size, "%lld", r->integer);
    } else if (r->type == REDIS_REPLY_NIL) {
        snprintf(answer, size, "(nil)");
    } else if (r->type == REDIS_REPLY_ARRAY) {
        snprintf(answer, size, "(%zu items)", r->elements);
    } else {
        snprintf(answer, size, "%s%s", r->type == REDIS_REPLY_ERROR ? "-" : "", r->str);
    }
}

void
redis_server_say(struct redis_server *s, char *answer, size_t size, const char *command)
{
    redisContext *c = connect_to(s);
    redisReply *reply = redisCommand(c, command);
    if (reply == NULL) {
        fail_msg("%s: %s", command, c->errstr);
    } else {
        show(answer, size, reply);
        freeReplyObject(reply);
    }
    redisFree(c);
}

void
redis_server_do(struct redis_server *s, const char *command)
{
    char answer[ANSWER_MAX];
    redis_server_say(s, answer, sizeof answer, command);
    if (answer[0] == '-') {
        fail_msg("%s: %s", command, answer);
    }
}

void
redis_server_expect(struct redis_server *s, const char *command, const char *expected)
{
    char answer[ANSWER_MAX];
    redis_server_say(s, answer, sizeof answer, command);
    if (strcmp(answer, expected) != 0) {
        fail_msg("%s: expected %s, got %s", command, expected, answer);
    }
}
