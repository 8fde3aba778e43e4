/* null_server.c - the least an HTTP server can do: the yardstick for weir run on the same machine.
 * Reads each request to its end (Content-Length) and answers 202 with fixed bytes, as many as
 * weir's answer has. One libuv loop. No parser worth the name: for the bench only.
 * Usage: null_server [PORT [BATCH]]   port 0 takes a free one; prints it
 * With BATCH the answer is one for a batch of that many events. */
#include "buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <uv.h>

static char read_bytes[65536];
static struct buf answer;

struct conn {
    uv_tcp_t tcp;
    size_t body_left;
    struct buf head; /* the beginning of a head that came in parts */
};

static void
on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    buf_fini(&c->head);
    free(c);
}

static void
drop(struct conn *c)
{
    if (!uv_is_closing((uv_handle_t *)&c->tcp)) {
        uv_close((uv_handle_t *)&c->tcp, on_closed);
    }
}

static void
reply(struct conn *c)
{
    uv_buf_t out = uv_buf_init(answer.at, (unsigned)answer.len);
    if (uv_try_write((uv_stream_t *)&c->tcp, &out, 1) != (int)answer.len) {
        drop(c); /* a client that does not read */
    }
}

static size_t
content_length(struct span head)
{
    static const char name[] = "\r\nContent-Length: ";
    const char *at = memmem(head.at, head.len, name, sizeof name - 1);
    return at == NULL ? 0 : strtoul(at + sizeof name - 1, NULL, 10);
}

/* Takes heads and bodies from `in`; returns what is left of an unfinished head. */
static struct span
take(struct conn *c, struct span in)
{
    for (;;) {
        size_t n = c->body_left < in.len ? c->body_left : in.len;
        in = (struct span){in.at + n, in.len - n};
        if (c->body_left > 0) {
            c->body_left -= n;
            if (c->body_left > 0) {
                return in;
            }
            reply(c);
        }
        const char *end = memmem(in.at, in.len, "\r\n\r\n", 4);
        if (end == NULL) {
            return in;
        }
        struct span head = {in.at, (size_t)(end - in.at) + 4};
        in = (struct span){in.at + head.len, in.len - head.len};
        c->body_left = content_length(head);
        if (c->body_left == 0) {
            reply(c);
        }
    }
}

static void
on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (n < 0) {
        drop(c);
    }
    if (n <= 0) {
        return;
    }
    struct span in = {buf->base, (size_t)n};
    if (c->head.len > 0) {
        buf_add_span(&c->head, in);
        in = take(c, buf_span(&c->head));
        buf_consume(&c->head, c->head.len - in.len);
    } else {
        buf_add_span(&c->head, take(c, in));
    }
}

static void
on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
    (void)handle;
    (void)hint;
    *buf = uv_buf_init(read_bytes, sizeof read_bytes);
}

static void
on_connection(uv_stream_t *server, int status)
{
    struct conn *c = status == 0 ? calloc(1, sizeof *c) : NULL;
    if (c == NULL) {
        return;
    }
    buf_init(&c->head, 65536);
    uv_tcp_init(server->loop, &c->tcp);
    c->tcp.data = c;
    if (uv_accept(server, (uv_stream_t *)&c->tcp) != 0 || uv_tcp_nodelay(&c->tcp, 1) != 0 ||
        uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0) {
        drop(c);
    }
}

/* As many bytes as weir's own answer. */
static void
make_answer(unsigned batch)
{
    struct buf body;
    buf_init(&body, 0);
    if (batch > 0) {
        buf_addf(&body, "{\"accepted\":%u,\"rejected\":[],\"durability\":\"fsync\"}", batch);
    } else {
        buf_addf(&body, "{\"event_id\":\"%032d\",\"durability\":\"fsync\"}", 0);
    }
    buf_init(&answer, 0);
    buf_addf(&answer,
             "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\n\r\n%.*s",
             body.len, SPAN_FMT(buf_span(&body)));
    buf_fini(&body);
}

static int
listen_on(uv_loop_t *loop, uv_tcp_t *tcp, int port)
{
    struct sockaddr_in address;
    uv_os_fd_t fd;
    int on = 1;
    int length = sizeof address;
    int error = uv_ip4_addr("127.0.0.1", port, &address);
    if (error == 0) {
        error = uv_tcp_init_ex(loop, tcp, AF_INET);
    }
    if (error == 0) {
        error = uv_fileno((uv_handle_t *)tcp, &fd);
    }
    if (error == 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) {
        error = UV_EINVAL;
    }
    if (error == 0) {
        error = uv_tcp_bind(tcp, (struct sockaddr *)&address, 0);
    }
    if (error == 0) {
        error = uv_listen((uv_stream_t *)tcp, 4096, on_connection);
    }
    if (error == 0) {
        error = uv_tcp_getsockname(tcp, (struct sockaddr *)&address, &length);
    }
    if (error == 0) {
        printf("%d\n", ntohs(address.sin_port));
        fflush(stdout);
    }
    return error;
}

int
main(int argc, char **argv)
{
    int port = argc > 1 ? atoi(argv[1]) : 0;
    make_answer(argc > 2 ? (unsigned)atoi(argv[2]) : 0);
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t tcp;
    int error = listen_on(loop, &tcp, port);
    if (error != 0) {
        fprintf(stderr, "null_server: port %d: %s\n", port, uv_strerror(error));
        return 1;
    }
    return uv_run(loop, UV_RUN_DEFAULT);
}
