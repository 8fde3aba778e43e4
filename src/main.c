/* main.c - finds the subcommand in a table; nothing else. */
#include "cmd/cmd.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#define X(function, name, arguments, help) {function, name, arguments, help},
const struct cmd cmd_table[] = {CMD_TABLE(X){0}};
#undef X

/* The other commands have a --help of their own. */
static bool
wants_help(const struct cmd *c, int argc, char **argv)
{
    return argc == 3 && strstr(c->arguments, "--setting") != NULL &&
           (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0);
}

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
        if (strcmp(c->name, name) == 0 && wants_help(c, argc, argv)) {
            return cmd_help(1, argv + 1, envp);
        }
        if (strcmp(c->name, name) == 0) {
            return c->run(argc > 2 ? argc - 2 : 0, argv + (argc > 2 ? 2 : argc), envp);
        }
    }
    fprintf(stderr, "weir: no command \"%s\"; weir help lists them\n", name);
    return EX_USAGE;
}
