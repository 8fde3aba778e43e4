#include "cmd/settings.h"

#include <stdio.h>
#include <sysexits.h>

#define EXIT_WRONG 2

static int
refuse(const struct buf *errors, enum err e)
{
    if (e == ERR_NOMEM || !buf_ok(errors)) {
        fprintf(stderr, "weir: %s\n", err_text(ERR_NOMEM));
        return EX_OSERR;
    }
    fwrite(errors->at, 1, errors->len, stderr);
    return EXIT_WRONG;
}

int
settings_load(struct config *cfg, int argc, char **argv, char *const *envp)
{
    struct buf errors;
    buf_init(&errors, 0);
    int code = 0;
    enum err e = config_load(cfg, &argc, argv, envp, &errors);
    if (argc > 0) {
        buf_addf(&errors, "%s: not a flag; expected --setting value\n", argv[0]);
        e = e == OK ? ERR_CONFIG : e;
    }
    if (e != OK) {
        code = refuse(&errors, e);
        config_free(cfg);
    }
    buf_fini(&errors);
    return code;
}
