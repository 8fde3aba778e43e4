/* client.h - one request at a time to the API, over a connection that is kept.
 * Contract: an answer with any status is OK; the caller looks at it. ERR_UNAVAILABLE: there was
 *           none (refused, timed out, cut off), answer->why says why, and nothing is known about
 *           what the server did with the request.
 * Threads:  one owner. Blocks, with a deadline.
 * Bounds:   CLIENT_ANSWER_MAX bytes of an answer's body. */
#ifndef WEIR_CLIENT_H
#define WEIR_CLIENT_H

#include "buf.h"
#include "err.h"
#include "span.h"

#define CLIENT_URL "http://127.0.0.1:3000" /* where weir run listens by default */
#define CLIENT_ANSWER_MAX ((size_t)64 * 1024 * 1024)
#define CLIENT_WHY_MAX 256

struct client_answer {
    long status;        /* 0: none */
    long retry_after_s; /* 0: the server did not say */
    struct buf body;
    char why[CLIENT_WHY_MAX];
};
void client_answer_fini(struct client_answer *a);

struct client;
/* url: http://host:port, https://host:port or unix:/path. */
enum err client_open(struct client **out, const char *url, char why[CLIENT_WHY_MAX]) MUST_CHECK;
void client_close(struct client *c); /* NULL ok */

/* `a` is reset and filled; zero it before its first use. */
enum err client_get(struct client *c, struct client_answer *a, const char *path) MUST_CHECK;
enum err client_post(struct client *c, struct client_answer *a, const char *path,
                     const char *content_type, struct span body) MUST_CHECK;

/* Appends ?name=value, or &name=value, percent-encoded; nothing when value is NULL. */
void client_add_query(struct buf *path, const char *name, const char *value);
void client_add_encoded(struct buf *path, struct span text);
/* "400 Bad Request: detail" on standard error, with every error a problem names. */
void client_print_problem(const char *what, const struct client_answer *a);

#endif
