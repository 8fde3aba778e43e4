/* check.c - weir check: the effective configuration and where each value comes from. */
#include "cmd/cmd.h"

#include "cmd/print.h"
#include "config.h"

#define EXIT_WRONG 2

static int
refuse(struct buf *errors, enum err e)
{
    if (e == ERR_NOMEM) {
        fprintf(stderr, "weir check: %s\n", err_text(e));
    } else {
        fwrite(errors->at, 1, errors->len, stderr);
    }
    buf_fini(errors);
    return e == ERR_NOMEM ? 1 : EXIT_WRONG;
}

int
cmd_check(int argc, char **argv, char *const *envp)
{
    struct config cfg;
    struct buf errors;
    buf_init(&errors, 0);
    enum err e = config_load(&cfg, &argc, argv, envp, &errors);
    if (argc > 0) {
        buf_addf(&errors, "%s: not a flag; expected --setting value\n", argv[0]);
        e = e == OK ? ERR_CONFIG : e;
    }
    if (e != OK) {
        config_free(&cfg);
        return refuse(&errors, e);
    }
    struct buf text;
    buf_init(&text, 0);
    config_print(&text, &cfg);
    config_free(&cfg);
    buf_fini(&errors);
    return print_and_free(&text);
}
