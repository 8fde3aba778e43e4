#include "json.h"

#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

#include <cstdlib>
#include <new>

using namespace simdjson;

/* simdjson's DOM validates all of a text and unescapes its strings, but forgets where values
 * stood. Its first stage leaves the offset of every bracket, colon, comma and first byte of a
 * scalar in structural_indexes: walking those beside the DOM gives the raw bytes of a value for
 * about 1 ns a token, without reading the text again. */
struct json_reader {
    dom::parser *parser;
    size_t capacity;
    unsigned small_in_a_row;
    struct span text;
    dom::object::iterator at;
    dom::object::iterator end;
    const uint32_t *token; /* of the next member's name */
};

static bool
resize(json_reader *r, size_t capacity)
{
    delete r->parser;
    r->capacity = 0;
    r->small_in_a_row = 0;
    r->parser = new (std::nothrow) dom::parser();
    if (r->parser == nullptr || r->parser->allocate(capacity, JSON_DEPTH_MAX) != SUCCESS ||
        r->parser->doc.allocate(capacity) != SUCCESS) {
        return false;
    }
    r->capacity = capacity;
    return true;
}

static bool
fit(json_reader *r, size_t bytes)
{
    if (r->capacity == 0 || bytes > r->capacity) {
        size_t capacity = JSON_SMALL_BYTES;
        while (capacity < bytes) {
            capacity *= 2;
        }
        return resize(r, capacity);
    }
    if (bytes > JSON_SMALL_BYTES || r->capacity == JSON_SMALL_BYTES) {
        r->small_in_a_row = 0;
    } else if (++r->small_in_a_row == JSON_SHRINK_AFTER) {
        return resize(r, JSON_SMALL_BYTES);
    }
    return true;
}

json_reader *
json_open(void)
{
    json_reader *r = new (std::nothrow) json_reader();
    if (r != nullptr && !resize(r, JSON_SMALL_BYTES)) {
        json_close(r);
        return nullptr;
    }
    return r;
}

void
json_close(json_reader *r)
{
    if (r != nullptr) {
        delete r->parser;
        delete r;
    }
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *
skip_digits(const char *at, const char *end)
{
    while (at < end && is_digit(*at)) {
        at++;
    }
    return at;
}

/* The end of the number that begins at `at`, or NULL where it breaks the grammar. */
static const char *
number_end(const char *at, const char *end)
{
    at += *at == '-';
    const char *whole = at;
    at = skip_digits(at, end);
    if (at == whole || (*whole == '0' && at - whole > 1)) {
        return nullptr;
    }
    if (at < end && *at == '.') {
        const char *fraction = ++at;
        at = skip_digits(at, end);
        if (at == fraction) {
            return nullptr;
        }
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        at += at < end && (*at == '+' || *at == '-');
        const char *exponent = at;
        at = skip_digits(at, end);
        if (at == exponent) {
            return nullptr;
        }
    }
    bool ends = at == end || strchr(",]} \t\r\n", *at) != nullptr;
    return ends && (at == end || *at != '\0') ? at : nullptr;
}

/* simdjson refuses numbers that fit no C type, such as integers of 30 digits. To us a number is
 * text: where all of them keep to the grammar, the text is read again with a 0 in their places, so
 * that every other token stays where it was. */
static error_code
read_without_numbers(json_reader *r, struct span text)
{
    char *copy = static_cast<char *>(malloc(text.len + SIMDJSON_PADDING));
    if (copy == nullptr) {
        return MEMALLOC;
    }
    memcpy(copy, text.at, text.len);
    memset(copy + text.len, 0, SIMDJSON_PADDING);
    const auto &stage1 = r->parser->implementation;
    error_code e = SUCCESS;
    for (uint32_t i = 0; e == SUCCESS && i < stage1->n_structural_indexes; i++) {
        size_t from = stage1->structural_indexes[i];
        if (text.at[from] != '-' && !is_digit(text.at[from])) {
            continue;
        }
        const char *stop = number_end(text.at + from, text.at + text.len);
        if (stop == nullptr) {
            e = NUMBER_ERROR;
        } else {
            copy[from] = '0';
            memset(copy + from + 1, ' ', static_cast<size_t>(stop - text.at) - from - 1);
        }
    }
    if (e == SUCCESS) {
        e = r->parser->parse(copy, text.len, false).error();
    }
    free(copy);
    return e;
}

static enum json_result
result_of(error_code e)
{
    switch (e) {
    case SUCCESS:
        return JSON_OK;
    case UTF8_ERROR:
        return JSON_BAD_UTF8;
    case DEPTH_ERROR:
        return JSON_TOO_DEEP;
    case MEMALLOC:
    case CAPACITY:
        return JSON_NO_MEMORY;
    default:
        return JSON_BAD_SYNTAX;
    }
}

static enum json_type
type_of(const dom::element &value)
{
    switch (value.type()) {
    case dom::element_type::OBJECT:
        return JSON_OBJECT;
    case dom::element_type::ARRAY:
        return JSON_ARRAY;
    case dom::element_type::STRING:
        return JSON_STRING;
    case dom::element_type::BOOL:
        return JSON_BOOL;
    case dom::element_type::NULL_VALUE:
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

enum json_result
json_read(json_reader *r, struct span text, enum json_type *top)
{
    r->at = r->end = dom::object::iterator();
    if (!fit(r, text.len)) {
        return JSON_NO_MEMORY;
    }
    error_code e = r->parser->parse(text.at, text.len, false).error();
    if (e == NUMBER_ERROR) {
        e = read_without_numbers(r, text);
    }
    if (e != SUCCESS) {
        return result_of(e);
    }
    dom::element root = r->parser->doc.root();
    *top = type_of(root);
    dom::object object;
    if (root.get(object) == SUCCESS) {
        r->at = object.begin();
        r->end = object.end();
        r->text = text;
        r->token = r->parser->implementation->structural_indexes.get() + 1;
    }
    return JSON_OK;
}

/* Moves r->token from the opening bracket of an object or array behind its closing one; the tokens
 * are known to be balanced. */
static void
skip_container(json_reader *r, struct json_member *out)
{
    const char *text = r->text.at;
    size_t from = *r->token;
    unsigned depth = 0;
    unsigned deepest = 0;
    do {
        char c = static_cast<char>(text[*r->token++] | 0x20); /* [ and { differ in this bit */
        depth += c == '{';
        deepest = depth > deepest ? depth : deepest;
        depth -= c == '}';
    } while (depth > 0);
    out->text = {text + from, r->token[-1] + 1 - from};
    out->depth = deepest;
}

static void
skip_scalar(json_reader *r, struct json_member *out)
{
    const char *from = r->text.at + *r->token++;
    const char *to = r->text.at + *r->token; /* a comma or a brace */
    while (to[-1] == ' ' || to[-1] == '\t' || to[-1] == '\r' || to[-1] == '\n') {
        to--;
    }
    out->text = {from, static_cast<size_t>(to - from)};
    out->depth = 0;
}

bool
json_next(json_reader *r, struct json_member *out)
{
    if (!(r->at != r->end)) {
        return false;
    }
    std::string_view name = r->at.key();
    dom::element value = r->at.value();
    out->name = {name.data(), name.size()};
    out->type = type_of(value);
    r->token += 2; /* the name and the colon */
    if (out->type == JSON_OBJECT || out->type == JSON_ARRAY) {
        skip_container(r, out);
    } else {
        skip_scalar(r, out);
    }
    std::string_view string;
    if (value.get(string) == SUCCESS) {
        out->text = {string.data(), string.size()};
    }
    r->token++; /* the comma */
    ++r->at;
    return true;
}
