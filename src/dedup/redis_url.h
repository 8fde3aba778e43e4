/* redis_url.h - what redis://[user:password@]host[:port][,host[:port]…][/db] says. All but
 * the ports may be percent-encoded; a host that begins with %2F is the path of a unix socket.
 * Contract: pure; nothing is looked up.
 * Owns:     its text, into which everything points; redis_url_fini frees it.
 * Fails:    ERR_CONFIG and *why (static text) says what was wrong and what was expected. */
#ifndef WEIR_REDIS_URL_H
#define WEIR_REDIS_URL_H

#include "err.h"

#include <stddef.h>

#define REDIS_ADDRESSES_MAX 16
#define REDIS_PORT 6379

struct redis_address {
    const char *host; /* without brackets; a socket's path where port is 0 */
    int port;
};

struct redis_url {
    char *text;
    const char *user;     /* NULL: the default user */
    const char *password; /* NULL: none */
    int db;
    size_t n;
    struct redis_address address[REDIS_ADDRESSES_MAX];
};

enum err redis_url_parse(struct redis_url *out, const char *url, const char **why) MUST_CHECK;
void redis_url_fini(struct redis_url *u); /* of a zeroed one too */

#endif
