/* listen.h - the listening sockets: host:port, [v6]:port, :port, unix:/path.
 * Contract: on OK, fds[0 … n) listen, each its own socket of one address (SO_REUSEPORT), or, for
 *           a unix socket, copies of one. address: what to tell people, port resolved.
 * Threads:  the composition root, at start; may block (names are resolved).
 * Owns:     the caller: the sockets, and the path of a unix socket.
 * Fails:    ERR_CONFIG: not an address. ERR_UNAVAILABLE: taken, or not allowed. why: one line for
 *           people. Nothing stays open. */
#ifndef WEIR_LISTEN_H
#define WEIR_LISTEN_H

#include "err.h"

#include <stddef.h>

#define LISTEN_BACKLOG 1024

struct listen_text {
    char *at;
    size_t size;
};

enum err listen_open(int *fds, size_t n, const char *spec, struct listen_text address,
                     struct listen_text why) MUST_CHECK;
/* The path of a unix: address, NULL for others. */
const char *listen_unix_path(const char *spec);

#endif
