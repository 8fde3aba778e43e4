/* amqp_frames.c - what the broker says, frame by frame: librabbitmq 0.11 has no call that
 * understands confirms, returns and deliveries together. A message comes as a method, a header and
 * bodies; frames of channel 0 may stand between them, so its state is kept in the link. */
#include "amqp/amqp_link_parts.h"

#include <stdlib.h>
#include <string.h>

#define BODY_KEPT_BYTES ((size_t)1024 * 1024) /* from message to message */

static enum err
bad_frame(struct amqp_link *l)
{
    return amqp_link_fail(l, ERR_UNAVAILABLE, "RabbitMQ sent a frame that does not belong here");
}

static enum err
closed_by_broker(struct amqp_link *l, const char *what, uint16_t code, amqp_bytes_t text)
{
    char words[256];
    return amqp_link_fail(l, ERR_UNAVAILABLE, "RabbitMQ closed the %s: %u %s", what, code,
                          amqp_clean(words, sizeof words, text));
}

static enum err
begin_message(struct amqp_link *l, enum amqp_said said, uint64_t tag, bool redelivered)
{
    if (l->content.event.said != AMQP_SAID_NOTHING) {
        return bad_frame(l);
    }
    l->content.event = (struct amqp_event){.said = said, .tag = tag, .redelivered = redelivered};
    l->content.has_header = false;
    l->content.left = 0;
    if (l->body.cap > BODY_KEPT_BYTES) {
        buf_fini(&l->body);
        buf_init(&l->body, AMQP_BODY_MAX);
    }
    buf_reset(&l->body);
    return OK;
}

static enum err
take_connection_method(struct amqp_link *l, struct amqp_event *out, const amqp_method_t *m)
{
    if (m->id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *c = m->decoded;
        return closed_by_broker(l, "connection", c->reply_code, c->reply_text);
    }
    if (m->id == AMQP_CONNECTION_BLOCKED_METHOD) {
        out->said = AMQP_SAID_BLOCKED;
    } else if (m->id == AMQP_CONNECTION_UNBLOCKED_METHOD) {
        out->said = AMQP_SAID_UNBLOCKED;
    }
    return OK;
}

static enum err
take_confirm(struct amqp_link *l, struct amqp_event *out, const amqp_method_t *m)
{
    (void)l;
    if (m->id == AMQP_BASIC_ACK_METHOD) {
        const amqp_basic_ack_t *ack = m->decoded;
        *out = (struct amqp_event){
            .said = AMQP_SAID_ACK, .tag = ack->delivery_tag, .multiple = ack->multiple != 0};
    } else {
        const amqp_basic_nack_t *nack = m->decoded;
        *out = (struct amqp_event){
            .said = AMQP_SAID_NACK, .tag = nack->delivery_tag, .multiple = nack->multiple != 0};
    }
    return OK;
}

static enum err
take_channel_method(struct amqp_link *l, struct amqp_event *out, const amqp_method_t *m)
{
    switch (m->id) {
    case AMQP_BASIC_ACK_METHOD:
    case AMQP_BASIC_NACK_METHOD:
        return take_confirm(l, out, m);
    case AMQP_BASIC_RETURN_METHOD:
        return begin_message(l, AMQP_SAID_RETURN, 0, false);
    case AMQP_BASIC_DELIVER_METHOD: {
        const amqp_basic_deliver_t *d = m->decoded;
        return begin_message(l, AMQP_SAID_DELIVERY, d->delivery_tag, d->redelivered != 0);
    }
    case AMQP_BASIC_CANCEL_METHOD:
        out->said = AMQP_SAID_CANCELLED;
        return OK;
    case AMQP_QUEUE_DECLARE_OK_METHOD:
        l->depth = ((const amqp_queue_declare_ok_t *)m->decoded)->message_count;
        l->asked_depth = false;
        return OK;
    case AMQP_CHANNEL_CLOSE_METHOD: {
        const amqp_channel_close_t *c = m->decoded;
        return closed_by_broker(l, "channel", c->reply_code, c->reply_text);
    }
    default:
        return OK; /* nothing that we ask for: channel.flow, answers that nobody waits for */
    }
}

static void
copy_name(char out[AMQP_NAME_MAX + 1], struct span *span, amqp_bytes_t from)
{
    size_t len = from.len < AMQP_NAME_MAX ? from.len : AMQP_NAME_MAX;
    if (len > 0) {
        memcpy(out, from.bytes, len);
    }
    out[len] = '\0';
    *span = (struct span){out, len};
}

/* Other clients write whole numbers in the size they like. */
static int64_t
number_of(const amqp_field_value_t *v)
{
    switch (v->kind) {
    case AMQP_FIELD_KIND_I8:
        return v->value.i8;
    case AMQP_FIELD_KIND_U8:
        return v->value.u8;
    case AMQP_FIELD_KIND_I16:
        return v->value.i16;
    case AMQP_FIELD_KIND_U16:
        return v->value.u16;
    case AMQP_FIELD_KIND_I32:
        return v->value.i32;
    case AMQP_FIELD_KIND_U32:
        return v->value.u32;
    case AMQP_FIELD_KIND_I64:
    case AMQP_FIELD_KIND_U64:
    case AMQP_FIELD_KIND_TIMESTAMP:
        return v->value.i64 > 0 ? v->value.i64 : 0;
    default:
        return 0;
    }
}

static int64_t
header_number(const amqp_table_t *headers, const char *name)
{
    struct span wanted = span_of(name);
    for (int i = 0; i < headers->num_entries; i++) {
        const amqp_table_entry_t *e = &headers->entries[i];
        if (span_eq(wanted, (struct span){e->key.bytes, e->key.len})) {
            int64_t n = number_of(&e->value);
            return n > 0 ? n : 0;
        }
    }
    return 0;
}

static void
read_headers(struct amqp_event *ev, const amqp_table_t *headers)
{
    int64_t attempt = header_number(headers, "x-weir-attempt");
    ev->attempt = attempt < UINT32_MAX ? (uint32_t)attempt : UINT32_MAX;
    ev->accepted_ms = header_number(headers, "x-weir-accepted");
    ev->first_failed_ms = header_number(headers, "x-weir-first-failed");
}

static void
read_properties(struct amqp_content *c, const amqp_basic_properties_t *p)
{
    struct amqp_event *ev = &c->event;
    const amqp_bytes_t none = {0};
    copy_name(c->content_type, &ev->content_type,
              p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG ? p->content_type : none);
    copy_name(c->message_id, &ev->message_id,
              p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG ? p->message_id : none);
    if (p->_flags & AMQP_BASIC_HEADERS_FLAG) {
        read_headers(ev, &p->headers);
    }
}

/* A return carries no delivery tag: we wrote it into the message (amqp_link_publish). */
static uint64_t
returned_tag(const amqp_basic_properties_t *p)
{
    char text[24] = "";
    if ((p->_flags & AMQP_BASIC_CORRELATION_ID_FLAG) && p->correlation_id.len < sizeof text) {
        memcpy(text, p->correlation_id.bytes, p->correlation_id.len);
    }
    return strtoull(text, NULL, 10);
}

static enum err
end_message(struct amqp_link *l, struct amqp_event *out)
{
    struct amqp_content *c = &l->content;
    c->event.body = buf_span(&l->body);
    *out = c->event;
    c->event.said = AMQP_SAID_NOTHING;
    return OK;
}

static enum err
take_header(struct amqp_link *l, struct amqp_event *out, const amqp_frame_t *f)
{
    struct amqp_content *c = &l->content;
    const amqp_basic_properties_t *p = f->payload.properties.decoded;
    if (c->event.said == AMQP_SAID_NOTHING || c->has_header ||
        f->payload.properties.class_id != AMQP_BASIC_CLASS) {
        return bad_frame(l);
    }
    c->has_header = true;
    c->left = f->payload.properties.body_size;
    if (c->event.said == AMQP_SAID_RETURN) {
        c->event.tag = returned_tag(p);
        return c->left == 0 ? end_message(l, out) : OK;
    }
    read_properties(c, p);
    c->event.too_large = c->left > AMQP_BODY_MAX;
    if (!c->event.too_large && buf_reserve(&l->body, c->left) != OK) {
        return amqp_link_fail(l, ERR_UNAVAILABLE, "out of memory for a message");
    }
    return c->left == 0 ? end_message(l, out) : OK;
}

static enum err
take_body(struct amqp_link *l, struct amqp_event *out, const amqp_frame_t *f)
{
    struct amqp_content *c = &l->content;
    const amqp_bytes_t part = f->payload.body_fragment;
    if (!c->has_header || part.len > c->left) {
        return bad_frame(l);
    }
    if (c->event.said == AMQP_SAID_DELIVERY && !c->event.too_large) {
        buf_add(&l->body, part.bytes, part.len);
    }
    c->left -= part.len;
    return c->left == 0 ? end_message(l, out) : OK;
}

enum err
amqp_take_frame(struct amqp_link *l, struct amqp_event *out, const amqp_frame_t *frame)
{
    bool ours = frame->channel == AMQP_CHANNEL;
    switch (frame->frame_type) {
    case AMQP_FRAME_METHOD:
        return ours                  ? take_channel_method(l, out, &frame->payload.method)
               : frame->channel == 0 ? take_connection_method(l, out, &frame->payload.method)
                                     : OK;
    case AMQP_FRAME_HEADER:
        return ours ? take_header(l, out, frame) : bad_frame(l);
    case AMQP_FRAME_BODY:
        return ours ? take_body(l, out, frame) : bad_frame(l);
    default:
        return OK; /* a heartbeat that waited in the library's queue */
    }
}
