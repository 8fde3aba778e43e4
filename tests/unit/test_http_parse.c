/* Requests, good and bad, each given whole, byte by byte and cut in two at every place: what the
 * parser says must not depend on it. */
#include "../http_feed.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MAX_BODY 1000
#define HEAD "POST /events HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED HEAD "Transfer-Encoding: chunked\r\n\r\n"
#define REQUEST(name, bytes, text) {name, {bytes, sizeof(bytes) - 1}, text, 0}
#define REFUSED(name, bytes, status, text) {name, {bytes, sizeof(bytes) - 1}, text, status}

struct http_case {
    const char *name;
    struct span bytes;
    const char *text; /* the last request as the feed writes it down, or the error's text */
    int status;       /* 0: a good request */
};

/* clang-format off */
static const struct http_case good[] = {
    REQUEST("get", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "0 GET / ? 1.1 keep expected=0 body=0:"),
    REQUEST("head", "HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n", "1 HEAD /livez ? 1.1 keep expected=0 body=0:"),
    REQUEST("post", HEAD "Content-Length: 5\r\n\r\nhello", "2 POST /events ? 1.1 keep length expected=5 body=5:hello\n"),
    REQUEST("another method", "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "3 DELETE / ? 1.1"),
    REQUEST("methods have case", "get / HTTP/1.1\r\nHost: a\r\n\r\n", "3 get / ? 1.1"),
    REQUEST("post without length", HEAD "\r\n", "2 POST /events ? 1.1 keep expected=0 body=0:\n"),
    REQUEST("empty body", HEAD "Content-Length: 0\r\n\r\n", "keep length expected=0 body=0:\n"),
    REQUEST("zeros before a length", HEAD "Content-Length: 00003\r\n\r\nabc", "expected=3 body=3:abc\n"),
    REQUEST("field names have no case", HEAD "cONTENT-lENGTH:\t3 \t\r\n\r\nabc", "expected=3 body=3:abc\n"),
    REQUEST("an empty line before", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "0 GET / ?"),
    REQUEST("query", "GET /events?type=A&limit=%zz HTTP/1.1\r\nHost: a\r\n\r\n", " /events ?type=A&limit=%zz 1.1"),
    REQUEST("empty query", "GET /? HTTP/1.1\r\nHost: a\r\n\r\n", " / ? 1.1"),
    REQUEST("query with a question mark", "GET /a?b?c HTTP/1.1\r\nHost: a\r\n\r\n", " /a ?b?c 1.1"),
    REQUEST("escaped path", "GET /events/a%2fb%20%C3%a9?x=%41 HTTP/1.1\r\nHost: a\r\n\r\n", " /events/a/b \xc3\xa9 ?x=%41 1.1"),
    REQUEST("escaped path with body", "POST /%65vents HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", " /events ? 1.1 keep length expected=2 body=2:hi\n"),
    REQUEST("absolute form", "GET http://u.example:80/a?b HTTP/1.1\r\nHost: other\r\n\r\n", " /a ?b 1.1"),
    REQUEST("absolute form without path", "GET HTTPS://u.example HTTP/1.1\r\nHost: a\r\n\r\n", " / ? 1.1"),
    REQUEST("absolute form with query only", "GET http://[::1]:80?q HTTP/1.1\r\nHost: a\r\n\r\n", " / ?q 1.1"),
    REQUEST("asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "3 OPTIONS * ? 1.1"),
    REQUEST("host name and port", "GET / HTTP/1.1\r\nHost: weir.example:3000\r\n\r\n", "GET / ?"),
    REQUEST("host address and port", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:3000\r\n\r\n", "GET / ?"),
    REQUEST("host with an empty port", "GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "GET / ?"),
    REQUEST("old version needs no host", "GET / HTTP/1.0\r\n\r\n", " / ? 1.0 close expected=0"),
    REQUEST("old version kept alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", " / ? 1.0 keep"),
    REQUEST("old version with body", "POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", " / ? 1.0 close length expected=2 body=2:hi\n"),
    REQUEST("close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "1.1 close"),
    REQUEST("close in a list", "GET / HTTP/1.1\r\nHost: a\r\nConnection: te ,\tCLOSE,x\r\n\r\n", "1.1 close"),
    REQUEST("close beats keep-alive", "GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", "1.0 close"),
    REQUEST("close only as a whole word", "GET / HTTP/1.1\r\nHost: a\r\nConnection: closed, x-close\r\n\r\n", "1.1 keep"),
    REQUEST("expect", HEAD "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx", " keep expect length expected=1 body=1:x\n"),
    REQUEST("expect in the old version", "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", "1.0 close length expected=1"),
    REQUEST("any field value", HEAD "X: \t a\tb \x80\xff\"\\\r\nEmpty:\r\n\r\n", "body=0:\nfields=Host: a\r\nX: \t a\tb \x80\xff\"\\\r\nEmpty:\r\n\n"),
    REQUEST("chunks", CHUNKED "5\r\nhello\r\n00a\r\n, world123\r\n0\r\n\r\n", " length expected=0 body=15:hello, world123\n"),
    REQUEST("no chunks", CHUNKED "0\r\n\r\n", " length expected=0 body=0:\n"),
    REQUEST("chunks of binary", CHUNKED "3\r\n\r\n\r\r\n2\r\n\0\n\r\n0\r\n\r\n", "body=5:\r\n\r"),
    REQUEST("chunk extensions", CHUNKED "1;a=b;c=\"d e\"\r\nx\r\n0;z\r\n\r\n", "body=1:x\n"),
    REQUEST("trailers", CHUNKED "1\r\nx\r\n0\r\nContent-Length: 7\r\nX:\r\n\r\n", "body=1:x\nfields=Host: a\r\nTransfer-Encoding: chunked\r\n\n"),
    REQUEST("coding without case", HEAD "TRANSFER-encoding:  Chunked \r\n\r\n1\r\nx\r\n0\r\n\r\n", "body=1:x\n"),
    REQUEST("pipelined", HEAD "Content-Length: 2\r\n\r\nhi" CHUNKED "1\r\nx\r\n0\r\n\r\n" "\r\nGET /%41 HTTP/1.1\r\nHost: a\r\n\r\n", " /A ? 1.1 keep expected=0 body=0:"),
};

static const struct http_case bad[] = {
    /* line ends and characters */
    REFUSED("bare line feed after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "line feed without carriage return"),
    REFUSED("bare line feed after a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", 400, "line feed without carriage return"),
    REFUSED("bare line feed at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "line feed without carriage return"),
    REFUSED("bare line feed before", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "line feed without carriage return"),
    REFUSED("bare carriage return in a value", HEAD "X: a\rb\r\n\r\n", 400, "carriage return without line feed"),
    REFUSED("carriage return twice", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400, "carriage return without line feed"),
    REFUSED("bare carriage return before", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "carriage return without line feed"),
    REFUSED("two empty lines before", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("NUL in a value", HEAD "X: a\0b\r\n\r\n", 400, "control character in the head"),
    REFUSED("NUL in a name", HEAD "X\0: a\r\n\r\n", 400, "control character in the head"),
    REFUSED("NUL in the target", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "control character in the head"),
    REFUSED("escape character in a value", HEAD "X: a long value \x1b[0m of some length\r\n\r\n", 400, "control character in the head"),
    REFUSED("delete in a value", HEAD "X: a\x7f\r\n\r\n", 400, "control character in the head"),
    REFUSED("vertical tab before a coding", HEAD "Transfer-Encoding: \vchunked\r\n\r\n", 400, "control character in the head"),
    REFUSED("a TLS greeting", "\x16\x03\x01\x02\x00\x01\x00\x01", 400, "control character in the head"),
    /* the request line */
    REFUSED("no version", "GET /\r\nHost: a\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("no method", " / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("no spaces", "GET\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("method not a token", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("two spaces before the target", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("tab for a space", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("space after the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("version in small letters", "GET / http/1.1\r\nHost: a\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("version with two digits", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("another protocol", "GET / ICAP/1.1\r\nHost: a\r\n\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
    REFUSED("HTTP/0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
    REFUSED("HTTP/2 greeting", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
    REFUSED("target without slash", "GET events HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request target is not valid"),
    REFUSED("fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request target is not valid"),
    REFUSED("backslash", "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request target is not valid"),
    REFUSED("raw UTF-8 in the target", "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request target is not valid"),
    REFUSED("raw bytes in the query", "GET /?\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request target is not valid"),
    REFUSED("tab in the target", "GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request target is not valid"),
    REFUSED("asterisk of another method", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request target is not valid"),
    REFUSED("authority form", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request target is not valid"),
    REFUSED("another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request target is not valid"),
    REFUSED("absolute form with a user", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request target is not valid"),
    REFUSED("absolute form without host", "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", 400, "the request target is not valid"),
    REFUSED("escape cut off", "GET /a%4 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad percent-encoding in the path"),
    REFUSED("escape cut off by the query", "GET /a%4?1 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad percent-encoding in the path"),
    REFUSED("escape without digits", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad percent-encoding in the path"),
    REFUSED("escaped NUL", "GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad percent-encoding in the path"),
    /* fields */
    REFUSED("space before the colon", HEAD "Content-Length : 2\r\n\r\nhi", 400, "a header line must begin with a name and a colon"),
    REFUSED("tab before the colon", HEAD "X\t: 2\r\n\r\n", 400, "a header line must begin with a name and a colon"),
    REFUSED("no colon", HEAD "X\r\n\r\n", 400, "a header line must begin with a name and a colon"),
    REFUSED("no name", HEAD ": x\r\n\r\n", 400, "a header line must begin with a name and a colon"),
    REFUSED("name not a token", HEAD "X@: x\r\n\r\n", 400, "a header line must begin with a name and a colon"),
    REFUSED("raw bytes in a name", HEAD "X\xc3\xa9: x\r\n\r\n", 400, "a header line must begin with a name and a colon"),
    REFUSED("folded line", HEAD "X: a\r\n b\r\n\r\n", 400, "header line begins with white space"),
    REFUSED("line folded by a tab", HEAD "X: a\r\n\tb\r\n\r\n", 400, "header line begins with white space"),
    REFUSED("space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "header line begins with white space"),
    REFUSED("line of spaces", HEAD "  \r\n\r\n", 400, "header line begins with white space"),
    REFUSED("no host", "GET / HTTP/1.1\r\n\r\n", 400, "Host is missing"),
    REFUSED("no host in absolute form", "GET http://a/ HTTP/1.1\r\n\r\n", 400, "Host is missing"),
    REFUSED("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400, "Host is given twice"),
    REFUSED("two hosts in the old version", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, "Host is given twice"),
    REFUSED("empty host", "GET / HTTP/1.1\r\nHost: \r\n\r\n", 400, "Host is not valid"),
    REFUSED("list of hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, "Host is not valid"),
    REFUSED("host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "Host is not valid"),
    REFUSED("host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, "Host is not valid"),
    REFUSED("host with a bad escape", "GET / HTTP/1.1\r\nHost: a%4\r\n\r\n", 400, "Host is not valid"),
    REFUSED("host with a bad port", "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", 400, "Host is not valid"),
    REFUSED("host with a huge port", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400, "Host is not valid"),
    REFUSED("host with two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", 400, "Host is not valid"),
    REFUSED("host of a port only", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400, "Host is not valid"),
    REFUSED("host address not closed", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, "Host is not valid"),
    REFUSED("host address wrong", "GET / HTTP/1.1\r\nHost: [::1::]\r\n\r\n", 400, "Host is not valid"),
    REFUSED("host address and more", "GET / HTTP/1.1\r\nHost: [::1]a\r\n\r\n", 400, "Host is not valid"),
    REFUSED("host address empty", "GET / HTTP/1.1\r\nHost: []\r\n\r\n", 400, "Host is not valid"),
    REFUSED("another expectation", HEAD "Expect: gold\r\nContent-Length: 1\r\n\r\nx", 417, "only 100-continue can be expected here"),
    REFUSED("a second expectation", HEAD "Expect: 100-continue, gold\r\n\r\n", 417, "only 100-continue can be expected here"),
    /* framing */
    REFUSED("length and coding", HEAD "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "both Content-Length and Transfer-Encoding"),
    REFUSED("coding and length", HEAD "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, "both Content-Length and Transfer-Encoding"),
    REFUSED("two lengths", HEAD "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400, "Content-Length is given twice"),
    REFUSED("the same length twice", HEAD "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, "Content-Length is given twice"),
    REFUSED("list of lengths", HEAD "Content-Length: 5, 5\r\n\r\nhello", 400, "Content-Length is not a number"),
    REFUSED("empty length", HEAD "Content-Length:\r\n\r\n", 400, "Content-Length is not a number"),
    REFUSED("length with plus", HEAD "Content-Length: +5\r\n\r\nhello", 400, "Content-Length is not a number"),
    REFUSED("length with minus", HEAD "Content-Length: -5\r\n\r\nhello", 400, "Content-Length is not a number"),
    REFUSED("length in hexadecimal", HEAD "Content-Length: 0x5\r\n\r\nhello", 400, "Content-Length is not a number"),
    REFUSED("length with underscore", HEAD "Content-Length: 1_0\r\n\r\n0123456789", 400, "Content-Length is not a number"),
    REFUSED("length with space", HEAD "Content-Length: 1 0\r\n\r\n0123456789", 400, "Content-Length is not a number"),
    REFUSED("length with point", HEAD "Content-Length: 5.0\r\n\r\nhello", 400, "Content-Length is not a number"),
    REFUSED("length of 65 bits", HEAD "Content-Length: 18446744073709551616\r\n\r\n", 400, "Content-Length is not a number"),
    REFUSED("length of very many digits", HEAD "Content-Length: 99999999999999999999999999999999\r\n\r\n", 400, "Content-Length is not a number"),
    REFUSED("length of 64 bits", HEAD "Content-Length: 18446744073709551615\r\n\r\n", 413, "the body is too large"),
    REFUSED("length over the limit", HEAD "Content-Length: 1001\r\n\r\n", 413, "the body is too large"),
    REFUSED("coding in the old version", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding in an HTTP/1.0 request"),
    REFUSED("empty coding", HEAD "Transfer-Encoding:\r\n\r\n", 400, "Transfer-Encoding is not valid"),
    REFUSED("empty coding in a list", HEAD "Transfer-Encoding: , chunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding is not valid"),
    REFUSED("chunked with a parameter", HEAD "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding is not valid"),
    REFUSED("quoted coding", HEAD "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding is not valid"),
    REFUSED("two words of coding", HEAD "Transfer-Encoding: chunked chunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding is not valid"),
    REFUSED("chunked not last", HEAD "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400, "the last transfer coding must be chunked"),
    REFUSED("chunked twice", HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "the last transfer coding must be chunked"),
    REFUSED("not chunked", HEAD "Transfer-Encoding: gzip\r\n\r\n", 400, "the last transfer coding must be chunked"),
    REFUSED("identity", HEAD "Transfer-Encoding: identity\r\n\r\n", 400, "the last transfer coding must be chunked"),
    REFUSED("nearly chunked", HEAD "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, "the last transfer coding must be chunked"),
    REFUSED("unknown coding", HEAD "Transfer-Encoding: gzip;level=1, chunked\r\n\r\n0\r\n\r\n", 501, "no transfer coding but chunked is known here"),
    REFUSED("unknown coding in another line", HEAD "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501, "no transfer coding but chunked is known here"),
    /* chunks */
    REFUSED("chunk size with prefix", CHUNKED "0x5\r\nhello\r\n0\r\n\r\n", 400, "bad chunk size"),
    REFUSED("chunk size with underscore", CHUNKED "1_0\r\n0123456789abcdef\r\n0\r\n\r\n", 400, "bad chunk size"),
    REFUSED("chunk size with plus", CHUNKED "+5\r\nhello\r\n0\r\n\r\n", 400, "bad chunk size"),
    REFUSED("chunk size with minus", CHUNKED "-5\r\nhello\r\n0\r\n\r\n", 400, "bad chunk size"),
    REFUSED("space after the chunk size", CHUNKED "5 \r\nhello\r\n0\r\n\r\n", 400, "bad chunk size"),
    REFUSED("space before an extension", CHUNKED "5 ;a\r\nhello\r\n0\r\n\r\n", 400, "bad chunk size"),
    REFUSED("space before the chunk size", CHUNKED " 5\r\nhello\r\n0\r\n\r\n", 400, "bad chunk size"),
    REFUSED("empty chunk size", CHUNKED "\r\nhello\r\n0\r\n\r\n", 400, "bad chunk size"),
    REFUSED("chunk size of an extension only", CHUNKED ";a\r\nhello\r\n0\r\n\r\n", 400, "bad chunk size"),
    REFUSED("chunk size of 17 digits", CHUNKED "00000000000000005\r\nhello\r\n0\r\n\r\n", 400, "bad chunk size"),
    REFUSED("chunk size over 64 bits", CHUNKED "10000000000000005\r\nhello\r\n0\r\n\r\n", 400, "bad chunk size"),
    REFUSED("chunk size of 64 bits", CHUNKED "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", 413, "the body is too large"),
    REFUSED("chunk over the limit", CHUNKED "3e9\r\n", 413, "the body is too large"),
    REFUSED("chunks over the limit", CHUNKED "1\r\nx\r\n3e8\r\n", 413, "the body is too large"),
    REFUSED("chunk sizes that add up to nothing", CHUNKED "1\r\nx\r\nffffffffffffffff\r\n", 413, "the body is too large"),
    REFUSED("bare line feed after the chunk size", CHUNKED "5\nhello\r\n0\r\n\r\n", 400, "bad chunk size"),
    REFUSED("bare carriage return after the chunk size", CHUNKED "5\rhello\r\n0\r\n\r\n", 400, "carriage return without line feed"),
    REFUSED("bare line feed in an extension", CHUNKED "5;a\nhello\r\n0\r\n\r\n", 400, "bad or too long chunk extensions"),
    REFUSED("NUL in an extension", CHUNKED "5;a\0\r\nhello\r\n0\r\n\r\n", 400, "bad or too long chunk extensions"),
    REFUSED("chunk longer than its size", CHUNKED "4\r\nhello\r\n0\r\n\r\n", 400, "a chunk must end with its line end"),
    REFUSED("bare line feed after a chunk", CHUNKED "5\r\nhello\n0\r\n\r\n", 400, "a chunk must end with its line end"),
    REFUSED("bare carriage return after a chunk", CHUNKED "5\r\nhello\r0\r\n\r\n", 400, "carriage return without line feed"),
    REFUSED("bare line feed at the end of the chunks", CHUNKED "0\r\n\n", 400, "bad trailer field"),
    REFUSED("bare carriage return at the end of the chunks", CHUNKED "0\r\n\rx", 400, "carriage return without line feed"),
    REFUSED("folded trailer", CHUNKED "0\r\nX: a\r\n b\r\n\r\n", 400, "bad trailer field"),
    REFUSED("trailer without colon", CHUNKED "0\r\nX\r\n\r\n", 400, "bad trailer field"),
    REFUSED("trailer with space before its colon", CHUNKED "0\r\nX : a\r\n\r\n", 400, "bad trailer field"),
    REFUSED("trailer with NUL", CHUNKED "0\r\nX: \0\r\n\r\n", 400, "bad trailer field"),
    REFUSED("trailer with bare line feed", CHUNKED "0\r\nX: a\n\r\n", 400, "bad trailer field"),
    REFUSED("trailer with bare carriage return", CHUNKED "0\r\nX: a\rb\r\n\r\n", 400, "carriage return without line feed"),
    /* after a good request */
    REFUSED("a body longer than its length", HEAD "Content-Length: 2\r\n\r\nhi!\r\n", 400, "the request line is not \"METHOD target HTTP/1.1\""),
    REFUSED("garbage after a request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n\x01", 400, "control character in the head"),
};
/* clang-format on */

static size_t
whole(void *data, size_t left)
{
    (void)data;
    return left;
}

static size_t
single(void *data, size_t left)
{
    (void)data;
    (void)left;
    return 1;
}

/* data: the length of the first piece; then the rest at once. */
static size_t
first_then_rest(void *data, size_t left)
{
    size_t first = *(size_t *)data;
    *(size_t *)data = left;
    return first;
}

static bool
has(const struct http_fed *fed, const char *text)
{
    return memmem(fed->text.at, fed->text.len, text, strlen(text)) != NULL;
}

static void
check_same(const char *name, const struct http_fed *want, struct http_fed got)
{
    if (!span_eq(buf_span(&want->text), buf_span(&got.text))) {
        fail_msg("%s: split matters:\n%.*s\n--- against\n%.*s", name, SPAN_FMT(got.text),
                 SPAN_FMT(want->text));
    }
    buf_fini(&got.text);
}

/* The same in any split; what it says when whole. Free with buf_fini. */
static struct http_fed
feed_every_way(const char *name, struct span bytes)
{
    struct http_fed fed = http_feed(bytes, MAX_BODY, whole, NULL);
    check_same(name, &fed, http_feed(bytes, MAX_BODY, single, NULL));
    for (size_t cut = 1; cut < bytes.len; cut++) {
        size_t first = cut;
        check_same(name, &fed, http_feed(bytes, MAX_BODY, first_then_rest, &first));
    }
    return fed;
}

static void
good_requests_are_read_the_same_in_any_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct http_fed fed = feed_every_way(good[i].name, good[i].bytes);
        if (fed.status != 0 || fed.requests == 0 || !has(&fed, good[i].text) ||
            !has(&fed, "end idle")) {
            fail_msg("%s: %.*s", good[i].name, SPAN_FMT(fed.text));
        }
        buf_fini(&fed.text);
    }
}

static void
bad_requests_are_refused_the_same_in_any_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct http_fed fed = feed_every_way(bad[i].name, bad[i].bytes);
        if (fed.status != bad[i].status || strcmp(fed.error, bad[i].text) != 0) {
            fail_msg("%s: %.*s", bad[i].name, SPAN_FMT(fed.text));
        }
        buf_fini(&fed.text);
    }
}

static void
truncated_requests_are_never_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct http_fed all = http_feed(good[i].bytes, MAX_BODY, whole, NULL);
        for (size_t len = 0; len < good[i].bytes.len; len++) {
            struct span part = {good[i].bytes.at, len};
            struct http_fed fed = http_feed(part, MAX_BODY, whole, NULL);
            check_same(good[i].name, &fed, http_feed(part, MAX_BODY, single, NULL));
            assert_int_equal(fed.status, 0);
            assert_true(fed.requests < all.requests);
            buf_fini(&fed.text);
        }
        buf_fini(&all.text);
    }
}

/* --- limits: `unit` n times between two texts --- */

static struct http_fed
feed_repeated(const char *before, const char *unit, size_t n, const char *after)
{
    struct buf bytes;
    buf_init(&bytes, 0);
    buf_add_text(&bytes, before);
    for (size_t i = 0; i < n; i++) {
        buf_add_text(&bytes, unit);
    }
    buf_add_text(&bytes, after);
    assert_true(buf_ok(&bytes));
    struct http_fed fed = http_feed(buf_span(&bytes), MAX_BODY, whole, NULL);
    check_same(before, &fed, http_feed(buf_span(&bytes), MAX_BODY, single, NULL));
    size_t first = bytes.len / 2;
    check_same(before, &fed, http_feed(buf_span(&bytes), MAX_BODY, first_then_rest, &first));
    buf_fini(&bytes);
    return fed;
}

/* n units are the most that is taken; one more is answered with status. */
static void
check_limit(const char *before, const char *unit, size_t n, const char *after, int status)
{
    struct http_fed fits = feed_repeated(before, unit, n, after);
    assert_int_equal(fits.status, 0);
    assert_int_equal(fits.requests, 1);
    buf_fini(&fits.text);
    struct http_fed over = feed_repeated(before, unit, n + 1, after);
    assert_int_equal(over.status, status);
    assert_int_equal(over.requests, 0);
    buf_fini(&over.text);
}

static void
targets_are_8192_bytes_at_most(void **state)
{
    (void)state;
    check_limit("GET /", "a", 8191, " HTTP/1.1\r\nHost: a\r\n\r\n", 414);
    check_limit("GET /?", "a", 8190, " HTTP/1.1\r\nHost: a\r\n\r\n", 414);
}

static void
methods_are_32_bytes_at_most(void **state)
{
    (void)state;
    check_limit("", "M", 32, " / HTTP/1.1\r\nHost: a\r\n\r\n", 501);
}

static void
heads_are_16384_bytes_at_most(void **state)
{
    (void)state;
    const char *before = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    check_limit(before, "x", 16384 - strlen(before) - 4, "\r\n\r\n", 431);
}

static void
heads_have_64_fields_at_most(void **state)
{
    (void)state;
    check_limit("GET / HTTP/1.1\r\nHost: a\r\n", "X: y\r\n", 63, "\r\n", 431);
}

static void
chunk_extensions_are_256_bytes_at_most_in_all(void **state)
{
    (void)state;
    check_limit(CHUNKED "1;", "e", 256, "\r\nx\r\n0\r\n\r\n", 400);
    check_limit(CHUNKED, "1;e\r\nx\r\n", 256, "0\r\n\r\n", 400);
}

static void
trailers_are_16_and_4096_bytes_at_most(void **state)
{
    (void)state;
    check_limit(CHUNKED "0\r\n", "X: y\r\n", 16, "\r\n", 431);
    check_limit(CHUNKED "0\r\nX: ", "y", 4093, "\r\n\r\n", 431);
}

static void
a_request_line_without_end_is_refused_at_its_limit(void **state)
{
    (void)state;
    const struct {
        const char *before, *unit;
        int status;
    } endless[] = {{"GET /", "a", 414}, {"", "A", 501}, {"", "/", 400}, {"GET", "\"", 400}};
    for (size_t i = 0; i < sizeof endless / sizeof endless[0]; i++) {
        struct http_fed fed = feed_repeated(endless[i].before, endless[i].unit, 20000, "");
        assert_int_equal(fed.status, endless[i].status);
        assert_true(fed.consumed <= 8192 + 64);
        buf_fini(&fed.text);
    }
}

static void
fields_without_end_are_refused_at_the_heads_limit(void **state)
{
    (void)state;
    struct http_fed fed = feed_repeated("GET / HTTP/1.1\r\nX: ", "a", 40000, "");
    assert_int_equal(fed.status, 431);
    assert_int_equal(fed.consumed, 16384);
    buf_fini(&fed.text);
}

/* --- bodies --- */

static void
write_fixed(struct buf *out, struct span body)
{
    buf_addf(out, HEAD "Content-Length: %zu\r\n\r\n", body.len);
    buf_add_span(out, body);
}

/* In chunks of growing length. */
static void
write_chunked(struct buf *out, struct span body)
{
    buf_add_text(out, CHUNKED);
    size_t len = 1;
    for (size_t at = 0; at < body.len; at += len) {
        len = len * 3 / 2 + 1;
        len = len > body.len - at ? body.len - at : len;
        buf_addf(out, "%zX\r\n", len);
        buf_add(out, body.at + at, len);
        buf_add_text(out, "\r\n");
    }
    buf_add_text(out, "0\r\n\r\n");
}

static void
check_body(struct span bytes, struct span body, size_t max_body, http_piece *piece, void *data)
{
    struct http_fed fed = http_feed(bytes, max_body, piece, data);
    if (body.len > max_body) {
        assert_int_equal(fed.status, 413);
        assert_int_equal(fed.requests, 0);
    } else {
        assert_int_equal(fed.requests, 1);
        assert_true(body.len == 0 || memmem(fed.text.at, fed.text.len, body.at, body.len) != NULL);
        char text[32];
        snprintf(text, sizeof text, " body=%zu:", body.len);
        assert_true(has(&fed, text));
    }
    buf_fini(&fed.text);
}

static void
check_body_of(size_t len, size_t max_body)
{
    char *body = malloc(len + 1);
    assert_non_null(body);
    for (size_t i = 0; i < len; i++) {
        body[i] = (char)(i * 7 + i / 251);
    }
    void (*const writers[])(struct buf *, struct span) = {write_fixed, write_chunked};
    for (size_t i = 0; i < 2; i++) {
        struct buf bytes;
        buf_init(&bytes, 0);
        writers[i](&bytes, (struct span){body, len});
        assert_true(buf_ok(&bytes));
        struct span all = buf_span(&bytes);
        size_t first = all.len - len / 2 - 1;
        check_body(all, (struct span){body, len}, max_body, whole, NULL);
        check_body(all, (struct span){body, len}, max_body, single, NULL);
        check_body(all, (struct span){body, len}, max_body, first_then_rest, &first);
        buf_fini(&bytes);
    }
    free(body);
}

static void
bodies_of_every_size_are_read_up_to_the_limit(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 310; len++) {
        check_body_of(len, 300);
    }
    const size_t turns[] = {16383, 16384, 16385, 32768, 65535, 65536, 65537};
    for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++) {
        check_body_of(turns[i], 65536);
    }
    check_body_of(0, 0);
    check_body_of(1, 0);
}

/* --- the parser as an object --- */

static const char post[] = HEAD "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

static enum http_parse_result
parse(struct http_parser *p, struct span *in)
{
    enum http_parse_result result = http_parse(p, in);
    return result == HTTP_HEADERS ? http_parse(p, in) : result;
}

static void
a_whole_request_is_neither_copied_nor_allocated(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_open(MAX_BODY);
    size_t before = mallinfo2().uordblks;
    struct span in = SPAN(post);
    assert_int_equal(parse(p, &in), HTTP_REQUEST);
    const struct http_request *r = http_parser_request(p);
    assert_ptr_equal(r->method_name.at, post);
    assert_ptr_equal(r->body.at, post + sizeof post - 3);
    assert_int_equal(http_parser_body_bytes(p), 0);
    assert_int_equal(mallinfo2().uordblks, before);
    http_parser_close(p);
}

static void
an_idle_parser_is_small(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_open(1 << 20);
    struct http_fed fed = {.error = ""};
    for (size_t i = 0; i + 1 < sizeof post; i++) {
        assert_true(http_fed_piece(&fed, p, (struct span){post + i, 1}));
    }
    assert_int_equal(fed.requests, 1);
    assert_true(http_parser_idle(p));
    assert_true(malloc_usable_size(p) <= 320);
    http_parser_close(p);
    buf_fini(&fed.text);
}

static void
promised_bodies_take_no_memory_before_they_come(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_open(1 << 30);
    struct span in = SPAN(HEAD "Content-Length: 1000000000\r\n\r\n");
    assert_int_equal(parse(p, &in), HTTP_MORE);
    assert_int_equal(http_parser_body_bytes(p), 0);
    assert_int_equal(http_parser_request(p)->body_expected, 1000000000);
    in = SPAN("{");
    assert_int_equal(parse(p, &in), HTTP_MORE);
    assert_true(http_parser_body_bytes(p) <= 16384);
    http_parser_close(p);
}

static void
states_are_idle_head_body_and_idle_again(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_open(MAX_BODY);
    struct span in = SPAN("\r\n");
    assert_int_equal(http_parse(p, &in), HTTP_MORE);
    assert_true(http_parser_idle(p));
    in = (struct span){post, 1};
    assert_int_equal(http_parse(p, &in), HTTP_MORE);
    assert_true(!http_parser_idle(p) && !http_parser_in_body(p));
    in = (struct span){post + 1, sizeof post - 2};
    assert_int_equal(http_parse(p, &in), HTTP_HEADERS);
    assert_true(!http_parser_idle(p) && http_parser_in_body(p));
    assert_int_equal(in.len, 2);
    assert_int_equal(http_parse(p, &in), HTTP_REQUEST);
    assert_true(!http_parser_idle(p) && !http_parser_in_body(p));
    http_parser_next(p);
    assert_true(http_parser_idle(p) && !http_parser_in_body(p));
    http_parser_close(p);
}

static void
an_error_stays(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_open(MAX_BODY);
    struct span in = SPAN("GET / HTTP/3.0\r\nHost: a\r\n\r\n");
    assert_int_equal(http_parse(p, &in), HTTP_ERROR);
    assert_int_equal(in.len, 11);
    in = SPAN(post);
    assert_int_equal(http_parse(p, &in), HTTP_ERROR);
    assert_int_equal(in.len, sizeof post - 1);
    assert_int_equal(http_parser_status(p), 505);
    http_parser_close(p);
}

static void
close_takes_nothing(void **state)
{
    (void)state;
    http_parser_close(NULL);
}

/* --- looking things up --- */

static void
fields_are_found_without_case_and_trimmed(void **state)
{
    (void)state;
    struct http_parser *p = http_parser_open(MAX_BODY);
    struct span in = SPAN("GET / HTTP/1.1\r\nHost: a\r\nX-Long: no\r\nX-L: \t yes \t\r\nX-l: "
                          "second\r\nEmpty:\r\n\r\n");
    assert_int_equal(http_parse(p, &in), HTTP_REQUEST);
    const struct http_request *r = http_parser_request(p);
    assert_true(span_eq(http_request_field(r, "x-l"), SPAN("yes")));
    assert_true(span_eq(http_request_field(r, "HOST"), SPAN("a")));
    assert_non_null(http_request_field(r, "empty").at);
    assert_int_equal(http_request_field(r, "empty").len, 0);
    assert_null(http_request_field(r, "x").at);
    assert_null(http_request_field(r, "absent").at);
    assert_null(http_request_field(r, "").at);
    http_parser_close(p);
}

static void
query_parameters_are_decoded_and_found_once(void **state)
{
    (void)state;
    const struct {
        const char *query, *name, *value;
        int found;
    } cases[] = {
        {"type=A&limit=10", "limit", "10", 1},
        {"type=A&limit=10", "type", "A", 1},
        {"type=A", "typ", "", 0},
        {"typ=A", "type", "", 0},
        {"", "type", "", 0},
        {"&&type=A&", "type", "A", 1},
        {"type", "type", "", 1},
        {"type=", "type", "", 1},
        {"type=a=b", "type", "a=b", 1},
        {"t%79pe=%41+%2b%e9", "type", "A +\xe9", 1},
        {"type=12345678901", "type", "12345678901", 1},
        {"type=%31%32%33%34%35%36%37%38%39%30%31", "type", "12345678901", 1},
        {"type=123456789012", "type", "", -1},
        {"type=A&type=A", "type", "", -1},
        {"type=A&%74ype=B", "type", "", -1},
        {"type=%4", "type", "", -1},
        {"type=%4&x", "type", "", -1},
        {"type=%zz", "type", "", -1},
        {"type=a%00b", "type", "", -1},
        {"x=%zz&type=A", "type", "A", 1},
        {"%zz=1&typ%4=2&type=A", "type", "A", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[12] = "unset";
        int found = http_query_get(span_of(cases[i].query), cases[i].name, out, sizeof out);
        if (found != cases[i].found || (found == 1 && strcmp(out, cases[i].value) != 0)) {
            fail_msg("%s: %d %s", cases[i].query, found, out);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_requests_are_read_the_same_in_any_split),
        cmocka_unit_test(bad_requests_are_refused_the_same_in_any_split),
        cmocka_unit_test(truncated_requests_are_never_requests),
        cmocka_unit_test(targets_are_8192_bytes_at_most),
        cmocka_unit_test(methods_are_32_bytes_at_most),
        cmocka_unit_test(heads_are_16384_bytes_at_most),
        cmocka_unit_test(heads_have_64_fields_at_most),
        cmocka_unit_test(chunk_extensions_are_256_bytes_at_most_in_all),
        cmocka_unit_test(trailers_are_16_and_4096_bytes_at_most),
        cmocka_unit_test(a_request_line_without_end_is_refused_at_its_limit),
        cmocka_unit_test(fields_without_end_are_refused_at_the_heads_limit),
        cmocka_unit_test(bodies_of_every_size_are_read_up_to_the_limit),
        cmocka_unit_test(a_whole_request_is_neither_copied_nor_allocated),
        cmocka_unit_test(an_idle_parser_is_small),
        cmocka_unit_test(promised_bodies_take_no_memory_before_they_come),
        cmocka_unit_test(states_are_idle_head_body_and_idle_again),
        cmocka_unit_test(an_error_stays),
        cmocka_unit_test(close_takes_nothing),
        cmocka_unit_test(fields_are_found_without_case_and_trimmed),
        cmocka_unit_test(query_parameters_are_decoded_and_found_once),
    };
    return cmocka_run_group_tests_name("http_parse", tests, NULL, NULL);
}
