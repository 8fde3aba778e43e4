#include "dedup/redis_url.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define SCHEME "redis://"

/* -1: not a whole number from least to most. */
static int
number(const char *text, int least, int most)
{
    size_t len = strlen(text);
    if (len == 0 || len > 10 || strspn(text, "0123456789") != len) {
        return -1;
    }
    long n = strtol(text, NULL, 10);
    return n < least || n > most ? -1 : (int)n;
}

static int
hex_digit(char c)
{
    const char *digits = "0123456789abcdef0123456789ABCDEF";
    const char *found = c == '\0' ? NULL : strchr(digits, c);
    return found == NULL ? -1 : (int)((found - digits) % 16);
}

/* In place: it only gets shorter. */
static const char *
decode(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        char c = *from;
        if (c == '%') {
            int high = hex_digit(from[1]);
            int low = high < 0 ? -1 : hex_digit(from[2]);
            if (low < 0 || high + low == 0) {
                return "has a % without two hexadecimal digits; expected %25 for a % itself";
            }
            c = (char)(high * 16 + low);
            from += 2;
        }
        *to++ = c;
    }
    *to = '\0';
    return NULL;
}

static const char *
parse_user(struct redis_url *u, char *text)
{
    char *colon = strchr(text, ':');
    if (colon == NULL) {
        return "has no password after its user; expected user:password@ or :password@";
    }
    *colon = '\0';
    u->user = *text == '\0' ? NULL : text;
    u->password = colon + 1;
    const char *why = decode(text);
    return why == NULL ? decode(colon + 1) : why;
}

/* Cuts host and port apart; *port NULL: none. */
static const char *
cut_address(char **host, char **port, char *text)
{
    *host = text;
    *port = strchr(text, ':');
    if (*text == '[') {
        char *end = strchr(text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':')) {
            return "has a [ without its ]; expected [v6] or [v6]:port";
        }
        *host = text + 1;
        *port = end[1] == ':' ? end + 1 : NULL;
        *end = '\0';
    }
    if (*port != NULL) {
        *(*port)++ = '\0';
    }
    return NULL;
}

static const char *
parse_address(struct redis_address *out, char *text)
{
    char *host;
    char *port;
    const char *why = cut_address(&host, &port, text);
    if (why != NULL) {
        return why;
    }
    *out = (struct redis_address){host, port == NULL ? REDIS_PORT : number(port, 1, 65535)};
    if (out->port < 0) {
        return "has no valid port; expected one from 1 to 65535";
    }
    why = decode(host);
    if (why == NULL && *host == '/') {
        out->port = 0;
    } else if (why == NULL && (*host == '\0' || strpbrk(host, " @/?#") != NULL)) {
        why = "has no valid host; expected host, host:port or [v6]:port";
    }
    return why;
}

static const char *
parse_addresses(struct redis_url *u, char *text)
{
    while (text != NULL) {
        char *comma = strchr(text, ',');
        if (comma != NULL) {
            *comma++ = '\0';
        }
        if (u->n == REDIS_ADDRESSES_MAX) {
            return "has too many addresses; expected at most 16";
        }
        const char *why = parse_address(&u->address[u->n++], text);
        if (why != NULL) {
            return why;
        }
        text = comma;
    }
    return NULL;
}

static const char *
parse_db(struct redis_url *u, char *slash)
{
    if (slash == NULL || slash[1] == '\0') {
        return NULL;
    }
    u->db = number(slash + 1, 0, INT_MAX);
    return u->db < 0 ? "has no valid database; expected a number after the /" : NULL;
}

static const char *
parse(struct redis_url *u)
{
    char *rest = u->text;
    char *at = strrchr(rest, '@');
    if (at != NULL) {
        *at = '\0';
        const char *why = parse_user(u, rest);
        if (why != NULL) {
            return why;
        }
        rest = at + 1;
    }
    char *slash = strchr(rest, '/');
    const char *why = parse_db(u, slash);
    if (slash != NULL) {
        *slash = '\0';
    }
    return why == NULL ? parse_addresses(u, rest) : why;
}

enum err
redis_url_parse(struct redis_url *out, const char *url, const char **why)
{
    *out = (struct redis_url){0};
    if (strncmp(url, SCHEME, strlen(SCHEME)) != 0) {
        *why = "is not a Redis URL; expected redis://[user:password@]host[:port][,…][/db]";
        return ERR_CONFIG;
    }
    out->text = strdup(url + strlen(SCHEME));
    if (out->text == NULL) {
        *why = "out of memory";
        return ERR_NOMEM;
    }
    *why = parse(out);
    if (*why != NULL) {
        redis_url_fini(out);
        return ERR_CONFIG;
    }
    return OK;
}

void
redis_url_fini(struct redis_url *u)
{
    free(u->text);
    *u = (struct redis_url){0};
}
