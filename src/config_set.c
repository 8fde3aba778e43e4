/* config_set.c - checks one value and keeps it, or says where it stands and what was expected. */
#include "config_parts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define ERRORS_MAX 100 /* lines of errors; the rest is counted */

/* Starts a line of error; false when there are too many already. */
static bool
begin_error(struct config_load *l)
{
    return ++l->errors_count <= ERRORS_MAX;
}

static void
add_place(struct config_load *l, struct config_place p)
{
    if (p.source == CONFIG_FROM_FILE) {
        config_add_shown(l->errors, span_of(l->cfg->file));
        buf_addf(l->errors, ":%u: ", p.line);
    }
}

static enum config_spelling
spelling_of(enum config_source source)
{
    if (source == CONFIG_FROM_FLAG) {
        return CONFIG_AS_FLAG;
    }
    return source == CONFIG_FROM_ENVIRONMENT ? CONFIG_AS_VARIABLE : CONFIG_AS_KEY;
}

/* weir.conf:3: http.max_body: "4MB" is not a size; expected … */
static void
refuse_value(struct config_load *l, enum config_row row, struct config_place p, struct span text,
             const char *why)
{
    l->bad[row] = true;
    if (!begin_error(l)) {
        return;
    }
    char name[CONFIG_NAME_MAX];
    config_spell(name, spelling_of(p.source), row);
    add_place(l, p);
    buf_addf(l->errors, "%s: \"", name);
    config_add_shown(l->errors, text);
    buf_addf(l->errors, "\" %s", why);
    if (strstr(why, "expected") == NULL) {
        buf_add_text(l->errors, "; expected ");
        config_add_expected(l->errors, &config_settings[row]);
    }
    buf_add_text(l->errors, "\n");
}

void
config_refuse_name(struct config_load *l, struct config_place p, struct span name)
{
    static const char *const kinds[] = {
        [CONFIG_AS_KEY] = "setting", [CONFIG_AS_FLAG] = "flag", [CONFIG_AS_VARIABLE] = "setting"};
    enum config_spelling as = spelling_of(p.source);
    if (!begin_error(l)) {
        return;
    }
    add_place(l, p);
    config_add_shown(l->errors, name);
    buf_addf(l->errors, ": no such %s; ", kinds[as]);
    int nearest = config_nearest(as, name);
    if (nearest < 0) {
        buf_add_text(l->errors, "weir help settings lists them\n");
        return;
    }
    char known[CONFIG_NAME_MAX];
    config_spell(known, as, (enum config_row)nearest);
    buf_addf(l->errors, "did you mean %s?\n", known);
}

/* Frees the old value and keeps a copy of the new one. */
static bool
keep_text(struct config_load *l, enum config_row row, struct span text)
{
    char **field = config_field(l->cfg, row);
    char *copy = strndup(text.at, text.len);
    if (copy == NULL) {
        l->nomem = true;
        return false;
    }
    free(*field);
    *field = copy;
    return true;
}

static const char *
text_problem(enum config_row row, struct span text)
{
    const struct config_setting *s = &config_settings[row];
    if ((int64_t)text.len < s->least) {
        return text.len == 0 ? "is empty" : "is too short";
    }
    return (int64_t)text.len > s->most ? "is too long" : config_check_text(row, text);
}

static const char *
choice_problem(enum config_row row, struct span text)
{
    const struct config_setting *s = &config_settings[row];
    for (size_t i = 0; config_word(s, i).len > 0; i++) {
        if (span_eq(config_word(s, i), text)) {
            return NULL;
        }
    }
    return "is not known";
}

static const char *
set_number(struct config_load *l, enum config_row row, struct span text)
{
    const struct config_setting *s = &config_settings[row];
    int64_t n = 0;
    const char *why = config_parse_number(&n, s->type, text);
    if (why == NULL && (n < s->least || n > s->most)) {
        why = n < s->least ? "is too small" : "is too large";
    }
    if (why == NULL) {
        *(int64_t *)config_field(l->cfg, row) = n;
    }
    return why;
}

/* A value from the file, the environment or a flag; the later of these calls wins. */
void
config_set(struct config_load *l, enum config_row row, struct span text, struct config_place p)
{
    const char *why = NULL;
    enum config_type type = config_settings[row].type;
    if (type == CONFIG_TEXT || type == CONFIG_CHOICE) {
        why = type == CONFIG_TEXT ? text_problem(row, text) : choice_problem(row, text);
        if (why == NULL && !keep_text(l, row, text)) {
            return;
        }
    } else {
        why = set_number(l, row, text);
    }
    if (why != NULL) {
        refuse_value(l, row, p, text, why);
        return;
    }
    l->cfg->source[row] = p.source;
    l->cfg->line[row] = p.line;
}

void
config_set_defaults(struct config_load *l)
{
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        const struct config_setting *s = &config_settings[row];
        struct span dflt = s->type == CONFIG_CHOICE ? config_word(s, 0) : span_of(s->dflt);
        config_set(l, row, dflt, (struct config_place){CONFIG_FROM_DEFAULT, 0});
    }
    assert(l->errors_count == 0); /* the table's own defaults are valid */
}

void
config_refuse(struct config_load *l, struct config_place p, struct span what, const char *why)
{
    if (!begin_error(l)) {
        return;
    }
    add_place(l, p);
    config_add_shown(l->errors, what);
    buf_addf(l->errors, ": %s\n", why);
}

void
config_end_errors(struct config_load *l)
{
    if (l->errors_count > ERRORS_MAX) {
        buf_addf(l->errors, "and %zu more errors\n", l->errors_count - ERRORS_MAX);
    }
}
