#include "err.h"

#include <stddef.h>

static const struct {
    const char *name;
    const char *text;
    enum fate fate;
} errors[] = {
#define X(code, fate, text) {#code, text, fate},
    ERR_MAP(X)
#undef X
};

enum fate
err_fate(enum err e)
{
    return (size_t)e < sizeof errors / sizeof *errors ? errors[e].fate : FATE_BUG;
}

const char *
err_name(enum err e)
{
    return (size_t)e < sizeof errors / sizeof *errors ? errors[e].name : "ERR_UNKNOWN";
}

const char *
err_text(enum err e)
{
    return (size_t)e < sizeof errors / sizeof *errors ? errors[e].text : "unknown error";
}
