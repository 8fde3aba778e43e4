#include "history/history.h"

#include <stdlib.h>

void
question_free(struct question *q)
{
    if (q == NULL) {
        return;
    }
    for (size_t i = 0; i < q->n; i++) {
        event_free(q->rows[i].ev);
    }
    free(q->rows);
    free(q);
}
