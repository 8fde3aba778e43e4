/* amqp_pair.c - what RabbitMQ itself can do with single messages: a plain librabbitmq publisher and
 * a plain consumer, each a thread with a connection of its own, on a quorum queue of their own that
 * is deleted afterwards.
 * Usage: amqp_pair URL ceiling SECONDS WINDOW   as fast as WINDOW unconfirmed messages allow
 *        amqp_pair URL lone COUNT PAUSE_MS      one at a time, on an otherwise idle queue
 * Prints JSON: for ceiling the messages, the seconds until the last was confirmed and until the last
 * was consumed and acked; for lone the milliseconds from publish to confirm of each message.
 * The messages are the events that weir bench sends. */
#include "buf.h"
#include "clock.h"
#include "thread.h"

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHANNEL 1
#define PREFETCH 1000
#define ACK_EVERY 100
#define PATIENCE_S 30
#define COUNT_MAX 100000
#define ID_AT 13 /* in the event, after {"event_id":" */
#define ID_LEN 32

struct pair {
    const char *url;
    char queue[64];
    atomic_bool published; /* all: n_published is the number */
    _Atomic uint64_t n_published;
    int64_t consumed_ns; /* when the last was acked */
    uint64_t n_consumed;
};

_Noreturn static void
die(const char *what, const char *why)
{
    fprintf(stderr, "amqp_pair: %s: %s\n", what, why);
    exit(1);
}

static void
check_status(const char *what, int status)
{
    if (status != AMQP_STATUS_OK) {
        die(what, amqp_error_string2(status));
    }
}

static void
check_reply(const char *what, amqp_rpc_reply_t reply)
{
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) {
        die(what, amqp_error_string2(reply.library_error));
    }
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) {
        die(what, "RabbitMQ refuses");
    }
}

static amqp_connection_state_t
connect_to(const char *url)
{
    char text[1024];
    struct amqp_connection_info at;
    snprintf(text, sizeof text, "%s", url); /* the parser writes into it */
    check_status("URL", amqp_parse_url(text, &at));
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *s = c == NULL ? NULL : amqp_tcp_socket_new(c);
    if (s == NULL) {
        die("connect", "out of memory");
    }
    check_status("connect", amqp_socket_open(s, at.host, at.port));
    check_reply("login",
                amqp_login(c, at.vhost[0] == '\0' ? "/" : at.vhost, 0, AMQP_DEFAULT_FRAME_SIZE, 0,
                           AMQP_SASL_METHOD_PLAIN, at.user, at.password));
    amqp_channel_open(c, CHANNEL);
    check_reply("channel", amqp_get_rpc_reply(c));
    return c;
}

static void
disconnect(amqp_connection_state_t c)
{
    amqp_connection_close(c, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c);
}

static void
declare_queue(amqp_connection_state_t c, const char *name)
{
    amqp_table_entry_t quorum = {.key = amqp_cstring_bytes("x-queue-type")};
    quorum.value.kind = AMQP_FIELD_KIND_UTF8;
    quorum.value.value.bytes = amqp_cstring_bytes("quorum");
    amqp_queue_declare(c, CHANNEL, amqp_cstring_bytes(name), 0, 1, 0, 0,
                       (amqp_table_t){1, &quorum});
    check_reply("declare", amqp_get_rpc_reply(c));
}

/* ---- the consumer ---- */

/* False: nothing came for a while. */
static bool
consume_one(amqp_connection_state_t c, uint64_t *tag)
{
    const struct timeval wait = {.tv_usec = 100000};
    amqp_envelope_t e;
    amqp_maybe_release_buffers(c);
    amqp_rpc_reply_t reply = amqp_consume_message(c, &e, &wait, 0);
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION &&
        reply.library_error == AMQP_STATUS_TIMEOUT) {
        return false;
    }
    check_reply("consume", reply);
    *tag = e.delivery_tag;
    amqp_destroy_envelope(&e);
    return true;
}

static void
ack(struct pair *p, amqp_connection_state_t c, uint64_t tag)
{
    check_status("ack", amqp_basic_ack(c, CHANNEL, tag, 1));
    p->n_consumed = tag; /* delivery tags count from 1 */
    p->consumed_ns = clock_mono_ns();
}

static bool
is_consumed(struct pair *p)
{
    return atomic_load(&p->published) && p->n_consumed >= atomic_load(&p->n_published);
}

static void
consume(void *data)
{
    struct pair *p = data;
    uint64_t tag = 0;
    int64_t heard_ns = clock_mono_ns();
    amqp_connection_state_t c = connect_to(p->url);
    amqp_basic_qos(c, CHANNEL, 0, PREFETCH, 0);
    check_reply("prefetch", amqp_get_rpc_reply(c));
    amqp_basic_consume(c, CHANNEL, amqp_cstring_bytes(p->queue), amqp_empty_bytes, 0, 0, 0,
                       amqp_empty_table);
    check_reply("consume", amqp_get_rpc_reply(c));
    while (!is_consumed(p)) {
        bool came = consume_one(c, &tag);
        heard_ns = came ? clock_mono_ns() : heard_ns;
        bool more = amqp_frames_enqueued(c) || amqp_data_in_buffer(c);
        if (tag > p->n_consumed && (!more || tag - p->n_consumed >= ACK_EVERY)) {
            ack(p, c, tag);
        }
        if (clock_mono_ns() - heard_ns > (int64_t)PATIENCE_S * 1000000000) {
            die("consume", "not everything came back");
        }
    }
    disconnect(c);
}

/* ---- the publisher ---- */

static void
write_event(struct buf *b)
{
    char now[CLOCK_RFC3339_MAX];
    clock_format_rfc3339(now, clock_wall_ms());
    buf_addf(b,
             "{\"event_id\":\"%0*d\",\"type\":\"GRIEVANCE\",\"timestamp\":\"%s\","
             "\"payload\":{\"message\":\"Water issue\"}}",
             ID_LEN, 0, now);
    if (!buf_ok(b)) {
        die("event", "out of memory");
    }
}

static void
publish(amqp_connection_state_t c, const struct pair *p, struct buf *event, uint64_t number)
{
    char id[ID_LEN + 1];
    snprintf(id, sizeof id, "%0*llu", ID_LEN, (unsigned long long)number);
    memcpy(event->at + ID_AT, id, ID_LEN);
    const amqp_basic_properties_t how = {
        ._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CONTENT_TYPE_FLAG |
                  AMQP_BASIC_MESSAGE_ID_FLAG,
        .delivery_mode = AMQP_DELIVERY_PERSISTENT,
        .content_type = amqp_cstring_bytes("application/json"),
        .message_id = {ID_LEN, id},
    };
    check_status("publish",
                 amqp_basic_publish(c, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes(p->queue), 1,
                                    0, &how, (amqp_bytes_t){event->len, event->at}));
}

/* Waits for one confirm, and takes those that came with it. Returns up to where all is confirmed;
 * the broker may confirm out of order, so that is a count, which is enough for a window. */
static uint64_t
hear_confirms(amqp_connection_state_t c, uint64_t confirmed)
{
    const struct timeval wait = {.tv_sec = PATIENCE_S};
    uint64_t before = confirmed;
    while (confirmed == before || amqp_frames_enqueued(c) || amqp_data_in_buffer(c)) {
        amqp_frame_t f;
        amqp_maybe_release_buffers(c);
        check_status("confirm", amqp_simple_wait_frame_noblock(c, &f, &wait));
        if (f.frame_type != AMQP_FRAME_METHOD || f.payload.method.id != AMQP_BASIC_ACK_METHOD) {
            die("confirm", "RabbitMQ said something else");
        }
        const amqp_basic_ack_t *a = f.payload.method.decoded;
        if (!a->multiple) {
            confirmed++;
        } else if (a->delivery_tag > confirmed) {
            confirmed = a->delivery_tag;
        }
    }
    return confirmed;
}

static amqp_connection_state_t
open_publisher(const struct pair *p)
{
    amqp_connection_state_t c = connect_to(p->url);
    declare_queue(c, p->queue);
    amqp_confirm_select(c, CHANNEL);
    check_reply("confirms", amqp_get_rpc_reply(c));
    return c;
}

static void
close_publisher(amqp_connection_state_t c, const struct pair *p)
{
    amqp_queue_delete(c, CHANNEL, amqp_cstring_bytes(p->queue), 0, 0);
    disconnect(c);
}

static void
start(struct pair *p, struct thread *consumer)
{
    if (thread_start(consumer, "consumer", consume, p) != OK) {
        die("thread", "cannot start");
    }
}

static void
finish(struct pair *p, struct thread *consumer, uint64_t n)
{
    atomic_store(&p->n_published, n);
    atomic_store(&p->published, true);
    thread_join(consumer);
}

static void
measure_ceiling(struct pair *p, double seconds, uint64_t window)
{
    struct thread consumer = {0};
    struct buf event;
    uint64_t sent = 0, confirmed = 0;
    amqp_connection_state_t c = open_publisher(p);
    buf_init(&event, 0);
    write_event(&event);
    start(p, &consumer);
    int64_t began_ns = clock_mono_ns();
    int64_t until_ns = began_ns + (int64_t)(seconds * 1e9);
    while (clock_mono_ns() < until_ns) {
        while (sent - confirmed < window) {
            publish(c, p, &event, sent++);
        }
        confirmed = hear_confirms(c, confirmed);
    }
    while (confirmed < sent) {
        confirmed = hear_confirms(c, confirmed);
    }
    int64_t confirmed_ns = clock_mono_ns();
    finish(p, &consumer, sent);
    printf("{\"messages\":%llu,\"confirmed_seconds\":%.4f,\"consumed_seconds\":%.4f}\n",
           (unsigned long long)sent, (double)(confirmed_ns - began_ns) / 1e9,
           (double)(p->consumed_ns - began_ns) / 1e9);
    buf_fini(&event);
    close_publisher(c, p);
}

static void
measure_lone(struct pair *p, unsigned count, unsigned pause_ms)
{
    struct thread consumer = {0};
    struct buf event;
    amqp_connection_state_t c = open_publisher(p);
    const struct timespec pause = {pause_ms / 1000, (long)(pause_ms % 1000) * 1000000};
    buf_init(&event, 0);
    write_event(&event);
    start(p, &consumer);
    for (unsigned i = 0; i < count; i++) {
        nanosleep(&pause, NULL);
        int64_t began_ns = clock_mono_ns();
        publish(c, p, &event, i);
        hear_confirms(c, i);
        printf("%s%.4f", i == 0 ? "{\"ms\":[" : ",", (double)(clock_mono_ns() - began_ns) / 1e6);
    }
    printf("]}\n");
    finish(p, &consumer, count);
    buf_fini(&event);
    close_publisher(c, p);
}

static int
usage(void)
{
    fprintf(stderr, "usage: amqp_pair URL ceiling SECONDS WINDOW\n"
                    "       amqp_pair URL lone COUNT PAUSE_MS\n");
    return 2;
}

int
main(int argc, char **argv)
{
    static struct pair p;
    if (argc != 5) {
        return usage();
    }
    p.url = argv[1];
    snprintf(p.queue, sizeof p.queue, "bench.pair.%d", (int)getpid());
    double first = strtod(argv[3], NULL);
    unsigned long second = strtoul(argv[4], NULL, 10);
    if (!(first > 0) || first > COUNT_MAX || second > COUNT_MAX) {
        return usage();
    }
    if (strcmp(argv[2], "lone") == 0) {
        measure_lone(&p, (unsigned)first, (unsigned)second);
    } else if (strcmp(argv[2], "ceiling") == 0 && second > 0) {
        measure_ceiling(&p, first, second);
    } else {
        return usage();
    }
    return 0;
}
