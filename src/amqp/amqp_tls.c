#include "amqp/amqp_link_parts.h"

#include <amqp_ssl_socket.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

/* The certificates of the authorities that are trusted: the file named, or the system's. */
static bool
set_trust(struct amqp_link *l, amqp_socket_t *s, const struct amqp_url *u)
{
    amqp_ssl_socket_set_verify_peer(s, u->verify);
    amqp_ssl_socket_set_verify_hostname(s, u->verify);
    if (u->ca_file == NULL) {
        /* librabbitmq 0.11 trusts nobody by itself */
        return SSL_CTX_set_default_verify_paths(amqp_ssl_socket_get_context(s)) == 1;
    }
    if (amqp_ssl_socket_set_cacert(s, u->ca_file) == AMQP_STATUS_OK) {
        return true;
    }
    snprintf(l->failure, sizeof l->failure, "cacertfile %s cannot be read", u->ca_file);
    return false;
}

static bool
set_key(struct amqp_link *l, amqp_socket_t *s, const struct amqp_url *u)
{
    if (u->cert_file == NULL ||
        amqp_ssl_socket_set_key(s, u->cert_file, u->key_file) == AMQP_STATUS_OK) {
        return true;
    }
    snprintf(l->failure, sizeof l->failure,
             "certfile %s and keyfile %s cannot be read, or do not belong together", u->cert_file,
             u->key_file);
    return false;
}

amqp_socket_t *
amqp_tls_socket(struct amqp_link *l, const struct amqp_url *u)
{
    ERR_clear_error();
    snprintf(l->failure, sizeof l->failure, "TLS cannot be set up");
    amqp_socket_t *s = amqp_ssl_socket_new(l->conn); /* the connection's */
    if (s == NULL) {
        return NULL;
    }
    bool good = amqp_ssl_socket_set_ssl_versions(s, AMQP_TLSv1_2, AMQP_TLSvLATEST) == 0;
    return good && set_trust(l, s, u) && set_key(l, s, u) ? s : NULL;
}

bool
amqp_tls_refused(char *out, size_t size, int status)
{
    if (status == AMQP_STATUS_SSL_PEER_VERIFY_FAILED) {
        snprintf(out, size, "its certificate is not signed by a trusted authority (cacertfile)");
        return true;
    }
    if (status == AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED) {
        snprintf(out, size, "its certificate is for another host name");
        return true;
    }
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_reason_error_string(code);
    snprintf(out, size, "the TLS handshake failed%s%s", reason == NULL ? "" : ": ",
             reason == NULL ? "" : reason);
    /* no reason, or the end of the stream: it went away while we spoke, and may come back */
    return reason != NULL && ERR_GET_REASON(code) != SSL_R_UNEXPECTED_EOF_WHILE_READING;
}
