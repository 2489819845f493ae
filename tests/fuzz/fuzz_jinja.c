/* fuzz_jinja.c - any bytes as a chat template, over fixed messages. */
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok) abort();
}

static const char messages[] =
    "[{\"role\":\"system\",\"content\":\" S<|x|>\\n \"},"
    "{\"role\":\"user\",\"content\":\"h\\u00e9llo, w\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":7,"
    "\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1,2.5,true,{}]}}}]},"
    "{\"role\":\"tool\",\"content\":\"\"}]";

/* The marks tell of whole input: where no input is read, none is marked. */
static void check(const struct jinja_output *o)
{
    size_t last = 0;
    for (size_t i = 0; i < o->n_spans; i++) {
        must(o->span[i].begin < o->span[i].end);
        must(i == 0 || o->span[i].begin > last);
        last = o->span[i].end;
    }
    must(last <= o->text.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_t *list;
    if (!list) list = json_loads(messages, 0, NULL);
    must(list != NULL);
    const size_t before = mem_in_use();
    const struct jinja_var var[] = {
        {.name = "messages", .json = list, .input = true},
        {.name = "tools"},
        {.name = "add_generation_prompt", .json = json_true()},
        {.name = "bos_token", .text = "<s>", .len = 3},
        {.name = "eos_token", .text = "</s>", .len = 4},
    };
    struct jinja *t = NULL;
    struct error err = {0};
    enum status st = jinja_parse(&t, (const char *)data, size, &err);
    must(st != ST_NO_MEMORY);
    if (st == ST_OK) {
        struct jinja_output out = {0};
        st = jinja_render(t, var, COUNT_OF(var), 1721952000, &out, &err);
        must(st != ST_NO_MEMORY);
        if (st == ST_OK) check(&out);
        must(st == ST_OK || (out.text.data == NULL && err.text[0]));
        jinja_output_fini(&out);
    }
    jinja_free(t);
    must(mem_in_use() == before);
    return 0;
}
