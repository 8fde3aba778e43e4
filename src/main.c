/* main.c - finds the subcommand in a table; nothing else. */
#include "cmd/cmd.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#define X(function, name, arguments, help) {function, name, arguments, help},
const struct cmd cmd_table[] = {CMD_TABLE(X){0}};
#undef X

int
main(int argc, char **argv, char **envp)
{
    const char *name = argc > 1 ? argv[1] : "help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        name = "help";
    }
    if (strcmp(name, "--version") == 0) {
        name = "version";
    }
    for (const struct cmd *c = cmd_table; c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0) {
            return c->run(argc > 2 ? argc - 2 : 0, argv + (argc > 2 ? 2 : argc), envp);
        }
    }
    fprintf(stderr, "weir: no command \"%s\"; weir help lists them\n", name);
    return EX_USAGE;
}
