/* amqp_url.h - what amqp://user:password@host:port,host:port/vhost?parameters says.
 * Contract: pure. Missing parts become RabbitMQ's defaults: guest, guest, port 5672 (5671 with
 *           TLS), vhost "/". User, password, vhost and parameters are percent-decoded. Parameters,
 *           with amqps only: cacertfile, certfile, keyfile, verify=verify_peer|verify_none.
 * Threads:  pure.
 * Owns:     nothing; the strings lie in `text`, so the struct must not be copied.
 * Bounds:   AMQP_URL_MAX bytes, AMQP_HOSTS_MAX hosts. */
#ifndef WEIR_AMQP_URL_H
#define WEIR_AMQP_URL_H

#include "err.h"

#include <stdbool.h>
#include <stddef.h>

#define AMQP_URL_MAX 1024
#define AMQP_HOSTS_MAX 8

struct amqp_host {
    const char *name; /* without brackets */
    int port;
};

struct amqp_url {
    bool tls;
    bool verify; /* the server's certificate and name */
    const char *user;
    const char *password;
    const char *vhost;
    const char *ca_file; /* NULL: the system's */
    const char *cert_file;
    const char *key_file;
    struct amqp_host host[AMQP_HOSTS_MAX];
    size_t hosts;
    char text[AMQP_URL_MAX + 1];
};

/* NULL, or what is wrong (static text). */
const char *amqp_url_parse(struct amqp_url *out, const char *url) MUST_CHECK;

#endif
