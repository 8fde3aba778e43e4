#include "amqp/letter.h"

enum err
letter_send(struct letters *ls, struct letter *l, struct amqp_link *link,
            const struct amqp_message *m)
{
    enum err e = amqp_link_publish(link, &l->tag, m);
    if (e != OK) {
        return e;
    }
    l->state = LETTER_SENT;
    l->next = NULL;
    if (ls->last != NULL) {
        ls->last->next = l;
    } else {
        ls->first = l;
    }
    ls->last = l;
    return OK;
}

static void
answer(struct letter *l, bool acked)
{
    l->state = acked && l->state == LETTER_SENT ? LETTER_CONFIRMED : LETTER_REFUSED;
}

/* Ends the letters with that tag, or up to it. */
static void
answer_all(struct letters *ls, const struct amqp_event *said)
{
    bool acked = said->said == AMQP_SAID_ACK;
    struct letter *kept = NULL;
    for (struct letter *l = ls->first, *next; l != NULL && l->tag <= said->tag; l = next) {
        next = l->next;
        if (l->tag < said->tag && !said->multiple) {
            kept = l;
            continue;
        }
        answer(l, acked);
        *(kept == NULL ? &ls->first : &kept->next) = next;
        ls->last = next == NULL ? kept : ls->last;
    }
}

static void
returned(struct letters *ls, uint64_t tag)
{
    for (struct letter *l = ls->first; l != NULL; l = l->next) {
        if (l->tag == tag) {
            l->state = LETTER_RETURNED;
            ls->returned = true;
        }
    }
}

void
letters_hear(struct letters *ls, const struct amqp_event *said)
{
    switch (said->said) {
    case AMQP_SAID_ACK:
    case AMQP_SAID_NACK:
        answer_all(ls, said);
        break;
    case AMQP_SAID_RETURN:
        returned(ls, said->tag);
        break;
    case AMQP_SAID_BLOCKED:
        ls->blocked = true;
        break;
    case AMQP_SAID_UNBLOCKED:
        ls->blocked = false;
        break;
    case AMQP_SAID_NOTHING:
    case AMQP_SAID_DELIVERY:
    case AMQP_SAID_CANCELLED:
        break;
    }
}

void
letters_forget(struct letters *ls)
{
    for (struct letter *l = ls->first; l != NULL; l = l->next) {
        l->state = LETTER_NONE;
    }
    *ls = (struct letters){0};
}
