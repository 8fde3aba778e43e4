/* The history of a sink that cannot be asked. */
#include "history/history.h"

#include "mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void
arrived(struct reply *r)
{
    (void)r;
    fail_msg("answered inside the call");
}

static void
without_a_history_every_question_is_answered_in_its_mailbox_and_says_why(void **state)
{
    (void)state;
    struct history *h = NULL;
    struct mailbox *answers = mailbox_open(0, 0, NULL, NULL);
    assert_int_equal(history_none_open(&h), OK);
    for (enum question_kind kind = QUESTION_ONE; kind <= QUESTION_LIST; kind++) {
        struct question *q = calloc(1, sizeof *q);
        q->kind = kind;
        q->reply.on_arrival = arrived;
        q->reply_to = answers;
        assert_int_equal(h->ops->ask(h, q), OK);
        assert_ptr_equal(mailbox_take(answers, 1, SIZE_MAX, 0).first, &q->reply.mail);
        assert_int_equal(q->result, ERR_UNAVAILABLE);
        assert_string_equal(q->why,
                            "this API cannot read where events are stored: name it with --sink");
        assert_int_equal(q->n, 0);
        question_free(q);
    }
    h->ops->close(NULL);
    h->ops->close(h);
    mailbox_close(answers);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_history_every_question_is_answered_in_its_mailbox_and_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
