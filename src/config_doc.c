/* config_doc.c - what the table says about itself: help, example file, table for pages, man page. */
#include "config_parts.h"

#define LINE_WIDTH 90
#define HELP_INDENT 33

/* Fills lines up to LINE_WIDTH with the words of `text`; `column` is where the cursor stands, and
 * `lead` starts every further line. */
static void
add_wrapped(struct buf *out, const char *text, size_t column, const char *lead)
{
    bool first = true;
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        if (!first && column + 1 + len > LINE_WIDTH) {
            buf_addf(out, "\n%s", lead);
            column = strlen(lead);
        } else if (!first) {
            buf_add_text(out, " ");
            column++;
        }
        buf_add(out, text, len);
        column += len;
        first = false;
        text += len + strspn(text + len, " ");
    }
}

static void
add_default(struct buf *out, const struct config_setting *s)
{
    buf_add_span(out, s->type == CONFIG_CHOICE ? config_word(s, 0) : span_of(s->dflt));
}

/* "1KiB to 64MiB", "info, debug, warn or error"; nothing for a text. */
static void
add_range(struct buf *out, const struct config_setting *s)
{
    if (s->type == CONFIG_CHOICE) {
        config_add_expected(out, s);
    } else if (s->type != CONFIG_TEXT) {
        config_add_number(out, s->type, s->least);
        buf_add_text(out, " to ");
        config_add_number(out, s->type, s->most);
    }
}

static const char *
placeholder(enum config_type type)
{
    static const char *const names[] = {[CONFIG_TEXT] = "TEXT",
                                        [CONFIG_COUNT] = "NUMBER",
                                        [CONFIG_SIZE] = "SIZE",
                                        [CONFIG_TIME] = "TIME",
                                        [CONFIG_CHOICE] = "WORD"};
    return names[type];
}

/* "largest event (default 256KiB; 1KiB to 16MiB)" */
static void
describe(struct buf *out, const struct config_setting *s, bool with_default)
{
    buf_add_text(out, s->help);
    if (!with_default && s->type == CONFIG_TEXT) {
        return;
    }
    buf_add_text(out, " (");
    if (with_default) {
        buf_add_text(out, "default ");
        add_default(out, s);
        buf_add_text(out, s->type == CONFIG_TEXT ? "" : "; ");
    }
    add_range(out, s);
    buf_add_text(out, ")");
}

static void
add_description(struct buf *out, const struct config_setting *s, bool with_default,
                const char *lead)
{
    struct buf text;
    buf_init(&text, 0);
    describe(&text, s, with_default);
    buf_add(&text, "", 1);
    if (buf_ok(&text)) {
        add_wrapped(out, text.at, strlen(lead), lead);
    } else {
        out->failed = true;
    }
    buf_fini(&text);
}

/* "http.max_body" is of the group "http"; a key without a dot is of none. */
static struct span
group_of(unsigned row)
{
    const char *key = config_settings[row].key;
    const char *dot = strchr(key, '.');
    return (struct span){key, dot == NULL ? 0 : (size_t)(dot - key)};
}

static bool
starts_group(unsigned row)
{
    if (row == 0 || span_eq(group_of(row), group_of(row - 1))) {
        return false;
    }
    return !span_eq(group_of(row), span_of(config_settings[row - 1].key)); /* spool, spool.after */
}

static void
help_row(struct buf *out, unsigned row)
{
    const struct config_setting *s = &config_settings[row];
    char flag[CONFIG_NAME_MAX];
    char lead[HELP_INDENT + 1];
    memset(lead, ' ', HELP_INDENT);
    lead[HELP_INDENT] = '\0';
    config_spell(flag, CONFIG_AS_FLAG, row);
    size_t start = out->len;
    buf_addf(out, "  %s %s", flag, placeholder(s->type));
    size_t len = out->len - start;
    buf_addf(out, "%*s", len < HELP_INDENT ? (int)(HELP_INDENT - len) : 2, "");
    add_description(out, s, true, lead);
    buf_add_text(out, "\n");
}

static void
help_document(struct buf *out)
{
    buf_add_text(
        out,
        "A setting is a flag, a variable or a line of the file: --http-max-body 4MiB is\n"
        "WEIR_HTTP_MAX_BODY=4MiB or http.max_body = 4MiB. A flag wins over a variable, a variable\n"
        "over the file, the file over the default. The file is what --config FILE (or\n"
        "WEIR_CONFIG=FILE) names, else weir.conf in the working folder if there is one.\n"
        "Sizes are written 512B, 64KiB, 4MiB, 1GiB; times 50ms, 10s, 5m, 1h, 30d.\n"
        "weir check prints what is in effect.\n\n");
    buf_addf(out, "  --config FILE%*sfile with settings\n", HELP_INDENT - 15, "");
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        help_row(out, row);
    }
}

static void
conf_document(struct buf *out)
{
    buf_add_text(out,
                 "# weir.conf - every setting with its default. Remove the # in front of those "
                 "to change.\n"
                 "# A flag or a variable (--data, WEIR_DATA) wins over this file. Check it "
                 "with: weir check\n"
                 "# Generated from the table of settings; ./dev docs writes it again.\n");
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        const struct config_setting *s = &config_settings[row];
        buf_add_text(out, starts_group(row) ? "\n\n# " : "\n# ");
        add_description(out, s, false, "# ");
        buf_addf(out, "\n#%s = ", s->key);
        add_default(out, s);
        buf_add_text(out, "\n");
    }
}

static void
markdown_document(struct buf *out)
{
    buf_add_text(out, "| setting | default | range | what it is |\n|---|---|---|---|\n");
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        const struct config_setting *s = &config_settings[row];
        buf_addf(out, "| `%s` | `", s->key);
        add_default(out, s);
        buf_add_text(out, "` | ");
        add_range(out, s);
        buf_addf(out, " | %s |\n", s->help);
    }
}

void
config_add_roff(struct buf *out, const char *text)
{
    static const char ellipsis[] = "…";
    for (; *text != '\0'; text++) {
        if (strncmp(text, ellipsis, sizeof ellipsis - 1) == 0) {
            buf_add_text(out, "...");
            text += sizeof ellipsis - 2;
        } else if (*text == '-' || *text == '\\') {
            buf_add_text(out, *text == '-' ? "\\-" : "\\e");
        } else {
            buf_add(out, text, 1);
        }
    }
}

static void
man_row(struct buf *out, unsigned row)
{
    const struct config_setting *s = &config_settings[row];
    char flag[CONFIG_NAME_MAX];
    config_spell(flag, CONFIG_AS_FLAG, row);
    buf_add_text(out, ".TP\n\\fB");
    config_add_roff(out, flag);
    buf_addf(out, "\\fR \\fI%s\\fR\n", placeholder(s->type));
    struct buf text;
    buf_init(&text, 0);
    describe(&text, s, true);
    buf_add(&text, "", 1);
    if (buf_ok(&text)) {
        config_add_roff(out, text.at);
    }
    out->failed = out->failed || text.failed;
    buf_fini(&text);
    buf_add_text(out, "\n");
}

static void
man_document(struct buf *out)
{
    buf_add_text(out, ".SH OPTIONS\n"
                      "Each setting is a flag, a variable of the environment and a key of the "
                      "file;\nthe first of these that is there wins, and the default comes last.\n"
                      ".TP\n\\fB\\-\\-config\\fR \\fIFILE\\fR\nfile with settings\n");
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        man_row(out, row);
    }
}

void
config_document(struct buf *out, enum config_doc form)
{
    static void (*const documents[])(struct buf *) = {
        [CONFIG_DOC_HELP] = help_document,
        [CONFIG_DOC_CONF] = conf_document,
        [CONFIG_DOC_MARKDOWN] = markdown_document,
        [CONFIG_DOC_MAN] = man_document,
    };
    documents[form](out);
}
