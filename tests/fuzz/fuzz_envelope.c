/* The body of a message, from anybody.
 * Oracles: a body is refused as a whole, with a reason, or every event of it is written, in each
 * form, and read as the same events; a refused body leaves the list as it was. */
#include "amqp/envelope.h"

#include <stdlib.h>

#define MAX_EVENT_BYTES 8192
#define ALL_EVENTS 256

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            __builtin_trap();                                                                      \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct event_parser *parser; /* kept, so that one body can hurt the next */
static struct event_parser *parser_again;

static struct event *
event_of(struct mail *mail)
{
    return (struct event *)(void *)mail;
}

static void
drop(struct mail_list *list)
{
    for (struct mail *mail; (mail = mail_list_pop(list)) != NULL;) {
        event_free(event_of(mail));
    }
}

/* The same payload, but for line breaks between its tokens, where `lines` says so. */
static void
check_payload(struct span first, struct span again, bool lines)
{
    CHECK(first.len == again.len);
    for (size_t i = 0; i < first.len; i++) {
        bool is_break = first.at[i] == '\n' || first.at[i] == '\r';
        CHECK(first.at[i] == again.at[i] || (lines && is_break && again.at[i] == ' '));
    }
}

static void
check_same(struct mail *first, struct mail *again, bool lines)
{
    for (; first != NULL; first = first->next, again = again->next) {
        CHECK(again != NULL);
        CHECK(span_eq(event_id(event_of(first)), event_id(event_of(again))));
        CHECK(span_eq(event_type(event_of(first)), event_type(event_of(again))));
        CHECK(span_eq(event_timestamp(event_of(first)), event_timestamp(event_of(again))));
        check_payload(event_payload(event_of(first)), event_payload(event_of(again)), lines);
    }
    CHECK(again == NULL);
}

/* Escaping may make it larger than it came: the second parser allows for that. */
static void
check_round_trip(const struct mail_list *list, size_t max_events, bool nest)
{
    struct mail_list again = {0};
    struct event_errors wrong;
    struct buf out;
    buf_init(&out, 0);
    for (const struct mail *at = list->first; at != NULL;) {
        const struct mail *from = at;
        buf_reset(&out);
        size_t n = envelope_write(&out, &at, max_events, nest);
        CHECK(n >= 1 && n <= max_events);
        CHECK(n == 1 || out.len <= ENVELOPE_BYTES);
        for (size_t i = 0; i < n; i++) {
            from = from->next;
        }
        CHECK(from == at);
        size_t before = again.count;
        CHECK(envelope_read(parser_again, &again, &wrong, buf_span(&out)) == OK);
        CHECK(again.count == before + n);
    }
    check_same(list->first, again.first, max_events > 1);
    drop(&again);
    buf_fini(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (parser == NULL) {
        parser = event_parser_open(MAX_EVENT_BYTES);
        parser_again = event_parser_open((size_t)8 * MAX_EVENT_BYTES);
    }
    char *body = malloc(size + BUF_SLACK);
    CHECK(body != NULL);
    memcpy(body, data, size);
    memset(body + size, size > 0 ? data[0] : 0, BUF_SLACK);
    struct mail_list list = {0};
    struct event_errors wrong = {0};
    enum err e = envelope_read(parser, &list, &wrong, (struct span){body, size});
    free(body);
    CHECK(e == OK || e == ERR_INVALID);
    CHECK((e == OK) == (list.count > 0));
    CHECK(e == OK || (wrong.n > 0 && wrong.item[0].detail[0] != '\0'));
    check_round_trip(&list, 1, false);
    check_round_trip(&list, 1, true);
    check_round_trip(&list, ALL_EVENTS, false);
    drop(&list);
    return 0;
}
