/* http.c - libcurl, one transfer at a time.
 *
 * The multi interface, though there is one transfer only: its wait ends every
 * 100 ms, so that a signal ends any wait at once, and a progress callback
 * would come once a second. */
#include "client/http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/clock.h"

#define CONNECT_S 10L
#define WAIT_MS   100
#define POLL_NS   UINT64_C(250000000)

struct exchange {
    const struct http_pool *pool;
    const struct http_request *request;
    struct http_reply reply;
    CURL *easy;
    enum exit_code code; /* of data, or of an overlong body */
    struct error *err;
};

char *plain_line(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c < 0x20 || *c == 0x7f) *c = '?';
        /* C1 controls, which some terminals obey, are c2 80 to c2 9f */
        if (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0) *c = c[1] = '?';
    }
    return text;
}

enum status http_pool_find(struct http_pool *out, const char *host,
                           struct error *err)
{
    const char *key = getenv("POTLUCK_API_KEY");
    if (!host) host = getenv("POTLUCK_HOST");
    if (!host || !*host) host = HTTP_HOST_DEFAULT;
    const bool scheme = strncasecmp(host, "http://", 7) == 0 ||
                        strncasecmp(host, "https://", 8) == 0;
    size_t n = strlen(host);
    while (n > 0 && host[n - 1] == '/') n--;
    if (n == 0 || n > HTTP_URL_MAX - 7 || (!scheme && strstr(host, "://")) ||
        strpbrk(host, " \t\r\n\"<>\\^`{|}?#")) {
        return error_set(err, ST_USAGE,
                         "--host %.100s: wants a URL as in " HTTP_HOST_DEFAULT,
                         host);
    }
    if (key && strpbrk(key, "\r\n")) {
        return error_set(err, ST_USAGE, "POTLUCK_API_KEY is several lines");
    }
    snprintf(out->url, sizeof out->url, "%s%.*s", scheme ? "" : "http://",
             (int)n, host);
    out->key = key && *key ? key : NULL;
    return ST_OK;
}

/* ----------------------------------------------------------- exchange */

/* curl's callback: the type is its own. */
static size_t take(char *bytes, size_t size, size_t n, void *arg)
{
    struct exchange *x = arg;
    n *= size; /* size is 1 */
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &x->reply.status);
    if (x->reply.status == 200 && x->request->data) {
        x->code = x->request->data(x->request->arg, bytes, n, x->err);
        if (x->code == EXIT_CODE_OK && interrupted()) {
            error_set(x->err, ST_INTERRUPTED, "interrupted");
            x->code = EXIT_CODE_INTERRUPTED;
        }
        return x->code == EXIT_CODE_OK ? n : 0;
    }
    const enum status st = buf_append(&x->reply.body, bytes, n);
    if (st == ST_OK) return n;
    x->code = EXIT_CODE_FAILURE;
    error_set(x->err, st, "the answer of %s is longer than %u bytes",
              x->pool->url, HTTP_REPLY_MAX);
    return 0;
}

/* "Connection refused" in mid-sentence. */
static const char *reason(char text[CURL_ERROR_SIZE], CURL *easy, CURLcode c)
{
    long os = 0;
    curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os);
    if (c == CURLE_COULDNT_CONNECT && os != 0) {
        snprintf(text, CURL_ERROR_SIZE, "%s", strerror((int)os));
    } else if (text[0] == '\0') {
        snprintf(text, CURL_ERROR_SIZE, "%s", curl_easy_strerror(c));
    }
    text[0] = (char)tolower((unsigned char)text[0]);
    return plain_line(text);
}

static enum exit_code judge(const struct exchange *x, CURLcode c,
                            char text[CURL_ERROR_SIZE])
{
    const char *url = x->pool->url;
    if (x->code != EXIT_CODE_OK) return x->code; /* err has been set */
    if (c == CURLE_OK) return EXIT_CODE_OK;
    long status = 0;
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
    switch ((int)c) { /* curl has about a hundred */
    case CURLE_OUT_OF_MEMORY:
        error_set(x->err, ST_NO_MEMORY, "no memory for a request to %s", url);
        return EXIT_CODE_FAILURE;
    case CURLE_URL_MALFORMAT:
        error_set(x->err, ST_USAGE, "--host %.100s: not a URL of a host", url);
        return EXIT_CODE_USAGE;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9, as curl reads garbage */
        error_set(x->err, ST_INVALID,
                  "what answers at %s does not speak HTTP (%s)", url,
                  reason(text, x->easy, c));
        return EXIT_CODE_FAILURE;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
        error_set(x->err, ST_INVALID, "%s: %s", url, reason(text, x->easy, c));
        return EXIT_CODE_FAILURE;
    default:
        break;
    }
    long sent = 0;
    curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &sent);
    if (status == 0 && (sent == 0 || !x->request->body)) {
        error_set(x->err, ST_IO,
                  "no pool answers at %s: is `potluck serve` running there? "
                  "(%s)",
                  url, reason(text, x->easy, c));
        return EXIT_CODE_UNREACHABLE;
    }
    error_set(x->err, ST_IO, "the connection to %s broke off (%s)", url,
              reason(text, x->easy, c));
    return EXIT_CODE_BROKE_OFF;
}

static struct curl_slist *headers(const struct exchange *x)
{
    /* curl would ask before it sends a long body, and wait for a second */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    if (list && x->request->body) {
        struct curl_slist *more =
            curl_slist_append(list, "Content-Type: application/json");
        if (!more) curl_slist_free_all(list);
        list = more;
    }
    return list;
}

static CURLcode prepare(struct exchange *x, struct curl_slist *list,
                        char text[CURL_ERROR_SIZE])
{
    char url[HTTP_URL_MAX + 128];
    const struct http_request *r = x->request;
    CURL *e = x->easy;
    snprintf(url, sizeof url, "%s%s", x->pool->url, r->path);
    CURLcode c = curl_easy_setopt(e, CURLOPT_URL, url);
#define SET(option, value)                                                     \
    c = c == CURLE_OK ? curl_easy_setopt(e, option, value) : c
    SET(CURLOPT_ERRORBUFFER, text);
    SET(CURLOPT_NOSIGNAL, 1L); /* a closed pipe downstream ends us, quietly */
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_HTTPHEADER, list);
    SET(CURLOPT_USERAGENT, "potluck/0.1");
    SET(CURLOPT_CONNECTTIMEOUT, CONNECT_S);
    SET(CURLOPT_TIMEOUT, (long)r->total_s);
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, (long)r->silence_s);
    SET(CURLOPT_TCP_KEEPALIVE, 1L); /* a cable that was pulled */
    SET(CURLOPT_TCP_KEEPIDLE, 15L);
    SET(CURLOPT_TCP_KEEPINTVL, 5L);
    SET(CURLOPT_WRITEFUNCTION, take);
    SET(CURLOPT_WRITEDATA, x);
    if (x->pool->key) {
        SET(CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        SET(CURLOPT_XOAUTH2_BEARER, x->pool->key);
    }
    if (r->body) {
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->n_body);
        SET(CURLOPT_POSTFIELDS, r->body);
    }
#undef SET
    return c;
}

/* To the end of the transfer, or a signal. */
static CURLcode transfer(struct exchange *x, CURLM *multi)
{
    if (curl_multi_add_handle(multi, x->easy) != CURLM_OK) {
        return CURLE_OUT_OF_MEMORY;
    }
    CURLcode result = CURLE_OK;
    for (int running = 1; running != 0;) {
        if (interrupted() && x->code == EXIT_CODE_OK) {
            error_set(x->err, ST_INTERRUPTED, "interrupted");
            x->code = EXIT_CODE_INTERRUPTED;
            break;
        }
        if (curl_multi_perform(multi, &running) != CURLM_OK ||
            (running &&
             curl_multi_poll(multi, NULL, 0, WAIT_MS, NULL) != CURLM_OK)) {
            result = CURLE_OUT_OF_MEMORY; /* the only cause left */
            break;
        }
    }
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(multi, &left));) {
        if (m->msg == CURLMSG_DONE) result = m->data.result;
    }
    curl_multi_remove_handle(multi, x->easy);
    return result;
}

enum exit_code http_exchange(const struct http_pool *p,
                             const struct http_request *r,
                             struct http_reply *reply, struct error *err)
{
    char text[CURL_ERROR_SIZE] = "";
    struct exchange x = {.pool = p, .request = r, .err = err};
    buf_init(&x.reply.body, HTTP_REPLY_MAX);
    CURLcode c = curl_global_init(CURL_GLOBAL_DEFAULT);
    const bool global = c == CURLE_OK;
    CURLM *multi = global ? curl_multi_init() : NULL;
    x.easy = multi ? curl_easy_init() : NULL;
    struct curl_slist *list = x.easy ? headers(&x) : NULL;
    enum exit_code code = EXIT_CODE_FAILURE;
    if (!list || buf_append(&x.reply.body, "", 0) != ST_OK) {
        error_set(err, ST_NO_MEMORY, "no memory for a request to %s", p->url);
    } else {
        c = prepare(&x, list, text);
        if (c == CURLE_OK) c = transfer(&x, multi);
        code = judge(&x, c, text);
        curl_easy_getinfo(x.easy, CURLINFO_RESPONSE_CODE, &x.reply.status);
    }
    if (x.easy) curl_easy_cleanup(x.easy);
    if (multi) curl_multi_cleanup(multi);
    curl_slist_free_all(list);
    if (global) curl_global_cleanup();
    if (code == EXIT_CODE_OK)
        *reply = x.reply;
    else
        buf_fini(&x.reply.body);
    return code;
}

/* -------------------------------------------------------------- errors */

static enum exit_code code_of(long status)
{
    if (status == 503) return EXIT_CODE_NOT_READY;
    if (status >= 400 && status < 500) return EXIT_CODE_REFUSED;
    return status == 0 ? EXIT_CODE_BROKE_OFF : EXIT_CODE_FAILURE;
}

enum exit_code http_error_object(struct json_t *error, long status,
                                 struct error *err)
{
    const char *said = json_string_value(json_object_get(error, "message"));
    const char *code = json_string_value(json_object_get(error, "code"));
    if (!said) said = json_string_value(error); /* {"error":"text"} */
    if (!said || !*said) said = "the pool gives an error, and no reason";
    error_set(err, ST_IO, "%s", said);
    plain_line(err->text);
    if (code && strcmp(code, "not_ready") == 0) return EXIT_CODE_NOT_READY;
    return code_of(status);
}

enum exit_code http_refusal(const struct http_pool *p,
                            const struct http_reply *reply, struct error *err)
{
    json_t *body =
        json_loadb(reply->body.data, reply->body.len, JSON_ALLOW_NUL, NULL);
    json_t *error = json_object_get(body, "error");
    enum exit_code code = code_of(reply->status);
    if (error) {
        code = http_error_object(error, reply->status, err);
    } else {
        error_set(err, ST_IO, "%s answers with HTTP status %ld", p->url,
                  reply->status);
    }
    json_decref(body);
    return code;
}

/* ---------------------------------------------------------------- JSON */

enum exit_code http_json(const struct http_pool *p, const char *path,
                         struct json_t *body, struct json_t **out,
                         struct error *err)
{
    struct http_request r = {
        .path = path, .silence_s = HTTP_CALL_S, .total_s = HTTP_CALL_S};
    struct buf text;
    buf_init(&text, HTTP_REPLY_MAX);
    if (body) {
        const enum status st = json_write(&text, body);
        json_decref(body);
        if (st != ST_OK) {
            buf_fini(&text);
            error_set(err, st, "no memory for a request");
            return EXIT_CODE_FAILURE;
        }
        r.body = text.data;
        r.n_body = text.len;
    }
    struct http_reply reply;
    enum exit_code code = http_exchange(p, &r, &reply, err);
    buf_fini(&text);
    if (code != EXIT_CODE_OK) return code;
    if (reply.status < 200 || reply.status > 299) {
        code = http_refusal(p, &reply, err);
    } else {
        json_t *o =
            json_loadb(reply.body.data, reply.body.len, JSON_ALLOW_NUL, NULL);
        if (json_is_object(o)) {
            *out = o;
        } else {
            json_decref(o);
            code = EXIT_CODE_FAILURE;
            error_set(err, ST_INVALID, "%s%s: the answer is no JSON object",
                      p->url, path);
        }
    }
    buf_fini(&reply.body);
    return code;
}

enum exit_code http_await_ready(const struct http_pool *p, uint32_t wait_s,
                                struct error *err)
{
    const uint64_t start = clock_now_ns();
    const uint64_t end = start + wait_s * UINT64_C(1000000000);
    const bool show = isatty(STDERR_FILENO);
    enum exit_code code;
    bool shown = false;
    for (;;) {
        const struct http_request r = {
            .path = "/health", .silence_s = CONNECT_S, .total_s = CONNECT_S};
        struct http_reply reply;
        code = http_exchange(p, &r, &reply, err);
        if (code == EXIT_CODE_OK) {
            if (reply.status != 200) code = http_refusal(p, &reply, err);
            buf_fini(&reply.body);
        }
        const uint64_t now = clock_now_ns();
        const bool patient =
            code == EXIT_CODE_NOT_READY || code == EXIT_CODE_UNREACHABLE;
        if (!patient || now >= end) break;
        if (show) {
            fprintf(stderr, "\r%.120s (%.0f s)\033[K", err->text,
                    (double)(now - start) / 1e9);
            shown = true;
        }
        const uint64_t pause = end - now < POLL_NS ? end - now : POLL_NS;
        if (!pause_ns(pause)) {
            error_set(err, ST_INTERRUPTED, "interrupted");
            code = EXIT_CODE_INTERRUPTED;
            break;
        }
    }
    if (shown) fputs("\r\033[K", stderr);
    return code;
}
