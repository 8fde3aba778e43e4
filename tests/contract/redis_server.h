/* redis_server.h - a real redis-server of the test's own: a free port of 127.0.0.1, a scratch
 * folder, no persistence. It dies with the test.
 * Threads:  the test's.
 * Fails:    by failing the test. */
#ifndef WEIR_TEST_REDIS_SERVER_H
#define WEIR_TEST_REDIS_SERVER_H

#include <stddef.h>
#include <sys/types.h>

struct redis_server {
    pid_t pid; /* 0: does not run */
    int port;
    char folder[64];
    char socket[80];      /* its unix socket */
    const char *password; /* of the default user; NULL: none */
};

int redis_free_port(void);
/* Starts it and waits until it answers; on the same port as before, empty. */
void redis_server_start(struct redis_server *s);
void redis_server_kill(struct redis_server *s);  /* -9 */
void redis_server_pause(struct redis_server *s); /* SIGSTOP; it is stopped on return */
void redis_server_resume(struct redis_server *s);
void redis_server_end(struct redis_server *s); /* kills it and removes its folder */

/* Says one command, split at spaces, and gives the answer as text ("(nil)" for nil) in `answer`. */
void redis_server_say(struct redis_server *s, char *answer, size_t size, const char *command);
void redis_server_do(struct redis_server *s,
                     const char *command); /* whatever it answers, not an error */
/* Its answer must be this. */
void redis_server_expect(struct redis_server *s, const char *command, const char *expected);

#endif
