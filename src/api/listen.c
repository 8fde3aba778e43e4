#include "api/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct address {
    struct sockaddr_storage at;
    socklen_t len;
};

static void
close_all(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        close(fds[i]);
    }
}

static void
explain(struct listen_text why, const char *spec, int number)
{
    const char *text = NULL;
    switch (number) {
    case EADDRINUSE:
        text = "is in use by another process; choose another with --listen";
        break;
    case EACCES:
        text = "may not be used by this user; choose another with --listen";
        break;
    case EADDRNOTAVAIL:
        text = "is not an address of this machine; choose another with --listen";
        break;
    case ENAMETOOLONG:
        text = "is too long for a unix socket";
        break;
    case EEXIST:
        text = "exists and is not a socket";
        break;
    default:
        snprintf(why.at, why.size, "%s: cannot listen: %s", spec, strerror(number));
        return;
    }
    snprintf(why.at, why.size, "%s %s", spec, text);
}

/* ---- host:port ---- */

/* Splits "host:port" or "[v6]:port". False: it is neither. */
static bool
split(const char *spec, char *host, size_t host_size, const char **port)
{
    const char *colon = strrchr(spec, ':');
    if (colon == NULL || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strtoul(colon + 1, NULL, 10) > 65535) {
        return false;
    }
    size_t len = (size_t)(colon - spec);
    bool bracketed = len >= 2 && spec[0] == '[' && colon[-1] == ']';
    if (bracketed) {
        spec++;
        len -= 2;
    }
    if (len >= host_size || (!bracketed && memchr(spec, ':', len) != NULL)) {
        return false;
    }
    memcpy(host, spec, len);
    host[len] = '\0';
    *port = colon + 1;
    return true;
}

static enum err
resolve(struct address *out, const char *spec, struct listen_text why)
{
    char host[256];
    const char *port;
    if (!split(spec, host, sizeof host, &port)) {
        snprintf(why.at, why.size,
                 "%s is not an address; expected host:port, [v6]:port, :port or unix:/path", spec);
        return ERR_CONFIG;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                             .ai_family = host[0] == '\0' ? AF_INET6 : AF_UNSPEC};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host[0] == '\0' ? NULL : host, port, &hints, &found);
    if (rc != 0) {
        snprintf(why.at, why.size, "%s: %s", spec, gai_strerror(rc));
        return ERR_CONFIG;
    }
    memcpy(&out->at, found->ai_addr, found->ai_addrlen);
    out->len = found->ai_addrlen;
    freeaddrinfo(found);
    return OK;
}

/* Of :port on a machine without IPv6. */
static void
make_v4(struct address *a)
{
    in_port_t port = ((struct sockaddr_in6 *)&a->at)->sin6_port;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = port};
    memcpy(&a->at, &v4, sizeof v4);
    a->len = sizeof v4;
}

/* A bound socket, or -1 and errno. */
static int
bind_tcp(const struct address *a, bool shared)
{
    int fd = socket(a->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    int on = 1;
    int off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* what it accepts inherits it */
    if (a->at.ss_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    if ((shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) ||
        bind(fd, (const struct sockaddr *)&a->at, a->len) != 0) {
        int number = errno;
        close(fd);
        errno = number;
        return -1;
    }
    return fd;
}

/* A listening socket without SO_REUSEPORT, or -1. Fills in the port. */
static int
listen_alone(struct address *a, const char *spec, struct listen_text why)
{
    int fd = bind_tcp(a, false);
    if (fd < 0 && errno == EAFNOSUPPORT && spec[0] == ':') {
        make_v4(a);
        fd = bind_tcp(a, false);
    }
    if (fd < 0 || listen(fd, LISTEN_BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&a->at, &a->len) != 0) {
        explain(why, spec, errno);
        close_all(&fd, fd < 0 ? 0 : 1);
        return -1;
    }
    return fd;
}

static void
name_tcp(struct listen_text out, const struct address *a)
{
    char host[128], port[16];
    int rc = getnameinfo((const struct sockaddr *)&a->at, a->len, host, sizeof host, port,
                         sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    const char *form = a->at.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s";
    snprintf(out.at, out.size, form, rc == 0 ? host : "?", rc == 0 ? port : "?");
}

static enum err
listen_shared(int *fds, size_t n, const struct address *a, const char *spec, struct listen_text why)
{
    for (size_t i = 0; i < n; i++) {
        fds[i] = bind_tcp(a, true);
        if (fds[i] < 0 || listen(fds[i], LISTEN_BACKLOG) != 0) {
            explain(why, spec, errno);
            close_all(fds, fds[i] < 0 ? i : i + 1);
            return ERR_UNAVAILABLE;
        }
    }
    return OK;
}

static enum err
listen_tcp(int *fds, size_t n, const char *spec, struct listen_text address, struct listen_text why)
{
    struct address a = {0};
    enum err e = resolve(&a, spec, why);
    if (e != OK) {
        return e;
    }
    fds[0] = listen_alone(&a, spec, why);
    if (fds[0] < 0) {
        return ERR_UNAVAILABLE;
    }
    if (n > 1) {
        /* With SO_REUSEPORT another process of this user could hold the port unnoticed; now it is
         * known that none does. */
        close(fds[0]);
        e = listen_shared(fds, n, &a, spec, why);
    }
    if (e == OK) {
        name_tcp(address, &a);
    }
    return e;
}

/* ---- unix:/path ---- */

const char *
listen_unix_path(const char *spec)
{
    return strncmp(spec, "unix:", 5) == 0 ? spec + 5 : NULL;
}

/* A socket file that a dead process left behind is removed; one that somebody listens on, or a file
 * of another kind, is not. 0 or an errno. */
static int
make_way(const struct sockaddr_un *at)
{
    struct stat st;
    if (lstat(at->sun_path, &st) != 0) {
        return errno == ENOENT ? 0 : errno;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return EEXIST;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return errno;
    }
    int rc = connect(fd, (const struct sockaddr *)at, sizeof *at);
    int number = errno;
    close(fd);
    if (rc == 0 || number != ECONNREFUSED) {
        return EADDRINUSE;
    }
    return unlink(at->sun_path) == 0 ? 0 : errno;
}

/* 0 or an errno. */
static int
bind_unix(int *fd, const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (path[0] == '\0' || strlen(path) >= sizeof at.sun_path) {
        return ENAMETOOLONG;
    }
    memcpy(at.sun_path, path, strlen(path));
    int number = make_way(&at);
    if (number != 0) {
        return number;
    }
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0) {
        return errno;
    }
    if (bind(*fd, (const struct sockaddr *)&at, sizeof at) != 0 ||
        listen(*fd, LISTEN_BACKLOG) != 0) {
        number = errno;
        close(*fd);
    }
    return number;
}

/* All loops accept from one socket, each through a descriptor of its own. */
static enum err
listen_unix(int *fds, size_t n, const char *spec, struct listen_text address,
            struct listen_text why)
{
    int number = bind_unix(&fds[0], listen_unix_path(spec));
    for (size_t i = 1; i < n && number == 0; i++) {
        fds[i] = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
        if (fds[i] < 0) {
            number = errno;
            close_all(fds, i);
            unlink(listen_unix_path(spec));
        }
    }
    if (number != 0) {
        explain(why, spec, number);
        return ERR_UNAVAILABLE;
    }
    snprintf(address.at, address.size, "%s", spec);
    return OK;
}

enum err
listen_open(int *fds, size_t n, const char *spec, struct listen_text address,
            struct listen_text why)
{
    if (listen_unix_path(spec) != NULL) {
        return listen_unix(fds, n, spec, address, why);
    }
    return listen_tcp(fds, n, spec, address, why);
}
