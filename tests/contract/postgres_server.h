/* postgres_server.h - a real PostgreSQL of the test's own: a free port of 127.0.0.1, a scratch folder,
 * fsync on. It runs as the user postgres where the test is root, and dies with the test.
 * Threads:  the test's.
 * Fails:    by failing the test. */
#ifndef WEIR_TEST_POSTGRES_SERVER_H
#define WEIR_TEST_POSTGRES_SERVER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define POSTGRES_PASSWORD "s3cret"

struct postgres_server {
    pid_t pid; /* 0: does not run */
    int port;
    char folder[64];
    const char *setting; /* "name=value"; NULL: none */
};

/* Starts it and waits until it answers; again: with the same data, on the same port. */
void postgres_server_start(struct postgres_server *s);
void postgres_server_kill(struct postgres_server *s);  /* -9, of the postmaster */
void postgres_server_pause(struct postgres_server *s); /* SIGSTOP, every process of it */
void postgres_server_resume(struct postgres_server *s);
void postgres_server_end(struct postgres_server *s); /* kills it and removes its folder */

/* postgresql://weir:s3cret@127.0.0.1:port/database */
void postgres_server_url(const struct postgres_server *s, char *out, size_t size,
                         const char *database);
/* An empty database, or a copy of `like`. */
void postgres_server_create(struct postgres_server *s, const char *database, const char *like);
void postgres_server_drop(struct postgres_server *s, const char *database);
/* Runs the statements; they must succeed. */
void postgres_server_do(struct postgres_server *s, const char *database, const char *sql);
/* The first column of the first row: as a number, or as text ("" for NULL or no row). */
int64_t postgres_server_number(struct postgres_server *s, const char *database, const char *sql);
void postgres_server_text(struct postgres_server *s, char *out, size_t size, const char *database,
                          const char *sql);

#endif
