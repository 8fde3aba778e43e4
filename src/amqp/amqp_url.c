#include "amqp/amqp_url.h"

#include "amqp/amqp_link.h"

#include <string.h>

#define FORM "amqp://user:password@host:port/vhost"
#define PORT_PLAIN 5672
#define PORT_TLS 5671

/* Ends `text` at the first of `marks` and returns what follows it; NULL when there is none. */
static char *
cut(char *text, const char *marks)
{
    char *at = strpbrk(text, marks);
    if (at == NULL) {
        return NULL;
    }
    *at = '\0';
    return at + 1;
}

static int
hex_digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, c | 0x20);
    return at == NULL || c < '0' ? -1 : (int)(at - digits);
}

/* Percent-decodes in place: it only gets shorter. False: a % without two digits, or a NUL. */
static bool
decode(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        int high = hex_digit(from[1]);
        int low = high < 0 ? -1 : hex_digit(from[2]);
        if (low < 0 || high * 16 + low == 0) {
            return false;
        }
        *to++ = (char)(high * 16 + low);
        from += 2;
    }
    *to = '\0';
    return true;
}

/* 0: not a port. */
static int
read_port(const char *text)
{
    int port = 0;
    for (; *text >= '0' && *text <= '9' && port <= 65535; text++) {
        port = port * 10 + (*text - '0');
    }
    return *text == '\0' && port <= 65535 ? port : 0;
}

static const char *
parse_host(struct amqp_url *u, char *text)
{
    char *port = NULL;
    if (*text == '[') {
        text++;
        port = cut(text, "]");
        if (port == NULL || (*port != '\0' && *port != ':')) {
            return "has no valid host; expected [v6]:port";
        }
        port = *port == ':' ? port + 1 : NULL;
    } else {
        port = cut(text, ":");
    }
    if (*text == '\0') {
        return "has no host; expected " FORM;
    }
    if (u->hosts == AMQP_HOSTS_MAX) {
        return "names more than 8 hosts";
    }
    int number = port == NULL ? (u->tls ? PORT_TLS : PORT_PLAIN) : read_port(port);
    if (number == 0) {
        return "has no valid port; expected one from 1 to 65535 in " FORM;
    }
    u->host[u->hosts++] = (struct amqp_host){text, number};
    return NULL;
}

static const char *
parse_hosts(struct amqp_url *u, char *text)
{
    const char *wrong = NULL;
    while (text != NULL && wrong == NULL) {
        char *more = cut(text, ",");
        wrong = parse_host(u, text);
        text = more;
    }
    return wrong;
}

static const char *
parse_user(struct amqp_url *u, char *text)
{
    char *password = cut(text, ":");
    u->user = text;
    u->password = password == NULL ? u->password : password;
    bool good = decode(text) && (password == NULL || decode(password));
    return good ? NULL : "has a % without two hexadecimal digits; expected %25 for a % itself";
}

static const char *
parse_vhost(struct amqp_url *u, char *text)
{
    if (strchr(text, '/') != NULL) {
        return "has a / in its vhost; expected %2F for it";
    }
    if (!decode(text)) {
        return "has a % without two hexadecimal digits; expected %25 for a % itself";
    }
    if (*text != '\0') {
        u->vhost = text;
    }
    return NULL;
}

static const char *
parse_verify(struct amqp_url *u, const char *value)
{
    u->verify = strcmp(value, "verify_none") != 0;
    bool known = !u->verify || strcmp(value, "verify_peer") == 0;
    return known ? NULL : "has no valid verify; expected verify_peer or verify_none";
}

static const char *
parse_parameter(struct amqp_url *u, const char *name, char *value)
{
    if (value == NULL || !decode(value) || *value == '\0') {
        return "has a parameter without a value; expected name=value";
    }
    if (!u->tls) {
        return "has parameters, which are for amqps:// only";
    }
    if (strcmp(name, "verify") == 0) {
        return parse_verify(u, value);
    }
    const struct {
        const char *name;
        const char **field;
    } files[] = {
        {"cacertfile", &u->ca_file},
        {"certfile", &u->cert_file},
        {"keyfile", &u->key_file},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (strcmp(name, files[i].name) == 0) {
            *files[i].field = value;
            return NULL;
        }
    }
    return "has an unknown parameter; expected cacertfile, certfile, keyfile or verify";
}

static const char *
parse_parameters(struct amqp_url *u, char *text)
{
    const char *wrong = NULL;
    while (text != NULL && wrong == NULL) {
        char *more = cut(text, "&");
        char *value = cut(text, "=");
        wrong = parse_parameter(u, text, value);
        text = more;
    }
    if (wrong == NULL && (u->cert_file == NULL) != (u->key_file == NULL)) {
        wrong = "has one of certfile and keyfile; expected both or none";
    }
    return wrong;
}

static const char *
parse_scheme(struct amqp_url *u, const char *url)
{
    u->tls = strncmp(url, "amqps://", 8) == 0;
    if (!u->tls && strncmp(url, "amqp://", 7) != 0) {
        return "is not a RabbitMQ URL; expected " FORM;
    }
    const char *rest = url + (u->tls ? 8 : 7);
    size_t len = strlen(rest);
    if (len > AMQP_URL_MAX) {
        return "is too long; expected at most 1024 bytes";
    }
    memcpy(u->text, rest, len + 1);
    return NULL;
}

const char *
amqp_url_parse(struct amqp_url *out, const char *url)
{
    memset(out, 0, sizeof *out);
    out->verify = true;
    out->user = "guest";
    out->password = "guest";
    out->vhost = "/";
    const char *wrong = parse_scheme(out, url);
    if (wrong != NULL) {
        return wrong;
    }
    char *parameters = cut(out->text, "?");
    char *vhost = cut(out->text, "/");
    char *at = strrchr(out->text, '@');
    char *hosts = out->text;
    if (at != NULL) {
        *at = '\0';
        hosts = at + 1;
        wrong = parse_user(out, out->text);
    }
    wrong = wrong == NULL ? parse_hosts(out, hosts) : wrong;
    wrong = wrong == NULL && vhost != NULL ? parse_vhost(out, vhost) : wrong;
    return wrong == NULL && parameters != NULL ? parse_parameters(out, parameters) : wrong;
}

const char *
amqp_url_check(const char *url)
{
    struct amqp_url u;
    return amqp_url_parse(&u, url);
}
