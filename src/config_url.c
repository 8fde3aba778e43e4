/* config_url.c - what addresses and URLs may be: their form, so that a mistake is said before
 * anything is connected. What they name is tried later, by the backends. */
#include "config_parts.h"

#include <arpa/inet.h>
#include <sys/un.h>

static bool
starts_with(struct span text, const char *prefix)
{
    size_t len = strlen(prefix);
    return text.len >= len && memcmp(text.at, prefix, len) == 0;
}

/* The port's number, or -1 where it is none. */
static int
port_of(struct span text)
{
    int port = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9' || i == 5) {
            return -1;
        }
        port = port * 10 + (text.at[i] - '0');
    }
    return text.len >= 1 && port <= 65535 ? port : -1;
}

static bool
is_ipv6(struct span text)
{
    char address[INET6_ADDRSTRLEN];
    struct in6_addr unused;
    const char *zone = memchr(text.at, '%', text.len); /* fe80::1%eth0 */
    if (zone != NULL && zone + 1 < text.at + text.len) {
        text.len = (size_t)(zone - text.at);
    }
    if (text.len >= sizeof address) {
        return false;
    }
    memcpy(address, text.at, text.len);
    address[text.len] = '\0';
    return inet_pton(AF_INET6, address, &unused) == 1;
}

static bool
is_host(struct span text)
{
    if (text.len >= 2 && text.at[0] == '[') {
        return text.at[text.len - 1] == ']' && is_ipv6((struct span){text.at + 1, text.len - 2});
    }
    for (size_t i = 0; i < text.len; i++) {
        if (strchr(":/[]@ ", text.at[i]) != NULL) {
            return false;
        }
    }
    return true;
}

static const char *
check_unix(struct span path)
{
    struct sockaddr_un sa;
    if (path.len < 1) {
        return "has no path; expected unix:/path";
    }
    return path.len < sizeof sa.sun_path ? NULL
                                         : "is too long; a socket's path is at most 107 bytes";
}

static const char *
check_listen(struct span text)
{
    if (starts_with(text, "unix:")) {
        return check_unix((struct span){text.at + 5, text.len - 5});
    }
    const char *colon = memrchr(text.at, ':', text.len);
    if (colon == NULL) {
        return "is not an address; expected host:port, [v6]:port, :port or unix:/path";
    }
    size_t host_len = (size_t)(colon - text.at);
    if (port_of((struct span){colon + 1, text.len - host_len - 1}) < 0) {
        return "has no valid port; expected host:port with a port from 0 to 65535";
    }
    if (!is_host((struct span){text.at, host_len})) {
        return "has no valid host; expected host:port, [v6]:port, :port or unix:/path";
    }
    return NULL;
}

/* ---- URLs: scheme://user:password@host:port,host:port/path?query ---- */

enum url_problem {
    URL_GOOD,
    URL_NO_HOST,
    URL_BAD_HOST,
    URL_BAD_PORT,
    URL_BAD_USER,
    URL_CUT_USER,
    URL_BAD_ESCAPE,
    URL_HAS_SPACE,
    URL_BAD_PATH,
    URL_HAS_QUERY,
    URL_PROBLEMS
};

struct url_form {
    const char *problems[URL_PROBLEMS];
    bool (*path_fits)(struct span path); /* what follows the first / */
    bool may_lack_host;
    bool may_have_query;
};

#define PROBLEMS(form, path, query)                                                                \
    {                                                                                              \
        [URL_NO_HOST] = "has no host; expected " form,                                             \
        [URL_BAD_HOST] = "has no valid host; expected " form,                                      \
        [URL_BAD_PORT] = "has no valid port; expected one from 1 to 65535 in " form,               \
        [URL_BAD_USER] = "has an @ in its user or password; expected %40 for it",                  \
        [URL_CUT_USER] = "has a / or a ? before its @; expected %2F or %3F for it",                \
        [URL_BAD_ESCAPE] = "has a % without two hexadecimal digits; expected %25 for a % itself",  \
        [URL_HAS_SPACE] = "has a space; expected %20 for it", [URL_BAD_PATH] = path,               \
        [URL_HAS_QUERY] = query,                                                                   \
    }

#define AMQP_FORM "amqp://user:password@host[:port]/vhost"
#define REDIS_FORM "redis://[user:password@]host[:port][/number]"
#define POSTGRES_FORM "postgresql://user:password@host[:port]/database"

static bool
is_one_name(struct span path)
{
    return memchr(path.at, '/', path.len) == NULL;
}

static bool
is_small_number(struct span path)
{
    return path.len == 0 || port_of(path) >= 0;
}

static const struct url_form amqp_form = {
    .problems = PROBLEMS(AMQP_FORM, "has a / in its vhost; expected %2F for it",
                         "has parameters; expected them with amqps:// only"),
    .path_fits = is_one_name,
};
static const struct url_form amqps_form = {
    .problems = PROBLEMS("amqps://user:password@host[:port]/vhost",
                         "has a / in its vhost; expected %2F for it", NULL),
    .path_fits = is_one_name,
    .may_have_query = true, /* certificates */
};
static const struct url_form redis_form = {
    .problems = PROBLEMS(REDIS_FORM, "has no valid database number; expected " REDIS_FORM,
                         "has a ?; expected " REDIS_FORM),
    .path_fits = is_small_number,
};
static const struct url_form postgres_form = {
    .problems = PROBLEMS(POSTGRES_FORM, "has a / in its database; expected %2F for it", NULL),
    .path_fits = is_one_name,
    .may_lack_host = true, /* a socket of this machine */
    .may_have_query = true,
};

static bool
is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static enum url_problem
check_characters(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == ' ') {
            return URL_HAS_SPACE;
        }
        if (text.at[i] == '%' &&
            (text.len - i < 3 || !is_hex(text.at[i + 1]) || !is_hex(text.at[i + 2]))) {
            return URL_BAD_ESCAPE;
        }
    }
    return URL_GOOD;
}

/* host, host:port or [v6]:port; a list of them when separated by commas. */
static enum url_problem
check_host(const struct url_form *form, struct span text)
{
    const char *colon = memrchr(text.at, ':', text.len);
    if (colon != NULL && memchr(colon, ']', text.len - (size_t)(colon - text.at)) != NULL) {
        colon = NULL; /* inside [v6] */
    }
    struct span host = {text.at, colon == NULL ? text.len : (size_t)(colon - text.at)};
    if (host.len == 0 && !form->may_lack_host) {
        return URL_NO_HOST;
    }
    if (!is_host(host)) {
        return URL_BAD_HOST;
    }
    if (colon == NULL) {
        return URL_GOOD;
    }
    return port_of((struct span){colon + 1, text.len - host.len - 1}) > 0 ? URL_GOOD : URL_BAD_PORT;
}

static enum url_problem
check_hosts(const struct url_form *form, struct span text)
{
    for (;;) {
        const char *comma = memchr(text.at, ',', text.len);
        size_t len = comma == NULL ? text.len : (size_t)(comma - text.at);
        enum url_problem p = check_host(form, (struct span){text.at, len});
        if (p != URL_GOOD || comma == NULL) {
            return p;
        }
        text = (struct span){comma + 1, text.len - len - 1};
    }
}

/* user:password@hosts: up to the first / or ? */
static enum url_problem
check_authority(const struct url_form *form, struct span text, struct span behind)
{
    const char *at = memrchr(text.at, '@', text.len);
    size_t user_len = at == NULL ? 0 : (size_t)(at - text.at);
    if (memchr(text.at, '@', user_len) != NULL) {
        return URL_BAD_USER;
    }
    if (at != NULL) {
        text = (struct span){at + 1, text.len - user_len - 1};
    }
    enum url_problem p = check_hosts(form, text);
    bool cut = p != URL_GOOD && at == NULL && memchr(behind.at, '@', behind.len) != NULL;
    return cut ? URL_CUT_USER : p;
}

static enum url_problem
check_path(const struct url_form *form, struct span text)
{
    const char *query = memchr(text.at, '?', text.len);
    if (query != NULL && !form->may_have_query) {
        return URL_HAS_QUERY;
    }
    size_t len = query == NULL ? text.len : (size_t)(query - text.at);
    return len == 0 || form->path_fits((struct span){text.at + 1, len - 1}) ? URL_GOOD
                                                                            : URL_BAD_PATH;
}

/* NULL, or what is wrong with it. */
static const char *
check_url(const struct url_form *form, struct span text)
{
    const char *start = (const char *)memmem(text.at, text.len, "://", 3) + 3;
    text = (struct span){start, text.len - (size_t)(start - text.at)};
    size_t len = 0;
    while (len < text.len && text.at[len] != '/' && text.at[len] != '?') {
        len++;
    }
    struct span behind = {text.at + len, text.len - len};
    enum url_problem p = check_characters(text);
    if (p == URL_GOOD) {
        p = check_authority(form, (struct span){text.at, len}, behind);
    }
    if (p == URL_GOOD) {
        p = check_path(form, behind);
    }
    return form->problems[p];
}

#define QUEUES "expected local or " AMQP_FORM
#define DEDUPS "expected local, " REDIS_FORM " or none"
#define SINKS "expected local, " POSTGRES_FORM ", log or log:/path/to/file"

static const char *
check_queue(struct span text)
{
    if (starts_with(text, "amqp://")) {
        return check_url(&amqp_form, text);
    }
    if (starts_with(text, "amqps://")) {
        return check_url(&amqps_form, text);
    }
    return span_eq(text, SPAN("local")) ? NULL : "is not a queue; " QUEUES;
}

/* redis://unix:/path, with or without a password before it */
static bool
is_redis_socket(struct span text)
{
    const char *at = memrchr(text.at, '@', text.len);
    const char *host = at == NULL ? text.at + strlen("redis://") : at + 1;
    return starts_with((struct span){host, text.len - (size_t)(host - text.at)}, "unix:/");
}

static const char *
check_dedup(struct span text)
{
    if (starts_with(text, "redis://")) {
        return is_redis_socket(text) ? NULL : check_url(&redis_form, text);
    }
    if (starts_with(text, "rediss://")) {
        return "is not supported by this version; " DEDUPS;
    }
    bool known = span_eq(text, SPAN("local")) || span_eq(text, SPAN("none"));
    return known ? NULL : "is not known; " DEDUPS;
}

static const char *
check_sink(struct span text)
{
    static const char *const later[] = {"http:", "https:", "exec:"};
    for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
        if (starts_with(text, later[i])) {
            return "is not supported by this version; " SINKS;
        }
    }
    if (starts_with(text, "postgresql://") || starts_with(text, "postgres://")) {
        return check_url(&postgres_form, text);
    }
    if (span_eq(text, SPAN("log:"))) {
        return "has no path; expected log or log:/path/to/file";
    }
    bool known = span_eq(text, SPAN("local")) || span_eq(text, SPAN("log"));
    return known || starts_with(text, "log:") ? NULL : "is not a sink; " SINKS;
}

const char *
config_check_address(enum config_row row, struct span text)
{
    switch (row) {
    case CONFIG_ROW_listen:
        return check_listen(text);
    case CONFIG_ROW_queue:
        return check_queue(text);
    case CONFIG_ROW_dedup:
        return check_dedup(text);
    case CONFIG_ROW_sink:
        return check_sink(text);
    default:
        return NULL;
    }
}
