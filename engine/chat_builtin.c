/* chat_builtin.c - the formats by name, as Jinja for our own interpreter. */
#include "engine/chat_builtin.h"

#include <stdio.h>
#include <string.h>

/* A system message that the format has no place for goes in front of the
 * first message of the user. */
#define SYSTEM_INTO_FIRST                                                      \
    "{%- set system = '' %}"                                                   \
    "{%- if messages and messages[0]['role'] == 'system' %}"                   \
    "{%- set system = messages[0]['content'] | trim + '\n\n' %}"               \
    "{%- set messages = messages[1:] %}"                                       \
    "{%- endif %}"
#define MUST_ALTERNATE                                                         \
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"          \
    "{{- raise_exception('the roles user and assistant must alternate, user "  \
    "first') }}"                                                               \
    "{%- endif %}"

static const struct chat_builtin formats[] = {
    {"chatml", "<|im_start|>",
     "{%- for message in messages %}"
     "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + "
     "'<|im_end|>\n' }}"
     "{%- endfor %}"
     "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
     "{%- endif %}"},
    {"llama3", "<|start_header_id|>",
     "{{- bos_token }}"
     "{%- for message in messages %}"
     "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
     "message['content'] | trim + '<|eot_id|>' }}"
     "{%- endfor %}"
     "{%- if add_generation_prompt %}"
     "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
     "{%- endif %}"},
    {"gemma", "<start_of_turn>",
     "{{- bos_token }}" SYSTEM_INTO_FIRST
     "{%- for message in messages %}" MUST_ALTERNATE "{{- '<start_of_turn>' }}"
     "{{- 'model' if message['role'] == 'assistant' else message['role'] }}"
     "{{- '\n' + (system if loop.first else '') + message['content'] | trim + "
     "'<end_of_turn>\n' }}"
     "{%- endfor %}"
     "{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}"
     "{%- endif %}"},
    {"mistral-v3", "[INST]",
     "{{- bos_token }}" SYSTEM_INTO_FIRST
     "{%- for message in messages %}" MUST_ALTERNATE
     "{%- if message['role'] == 'user' %}"
     "{{- '[INST] ' + (system if loop.last else '') + message['content'] + "
     "'[/INST]' }}"
     "{%- else %}{{- ' ' + message['content'] + eos_token }}{%- endif %}"
     "{%- endfor %}"},
    {"mistral-v1", NULL,
     "{{- bos_token }}" SYSTEM_INTO_FIRST
     "{%- for message in messages %}" MUST_ALTERNATE
     "{%- if message['role'] == 'user' %}"
     "{{- ' [INST] ' + (system if loop.first else '') + message['content'] + "
     "' [/INST]' }}"
     "{%- else %}{{- ' ' + message['content'] + eos_token }}{%- endif %}"
     "{%- endfor %}"},
    {"llama2", NULL,
     "{%- set system = '' %}"
     "{%- if messages and messages[0]['role'] == 'system' %}"
     "{%- set system = '<<SYS>>\n' + messages[0]['content'] + "
     "'\n<</SYS>>\n\n' %}"
     "{%- set messages = messages[1:] %}"
     "{%- endif %}"
     "{%- for message in messages %}" MUST_ALTERNATE
     "{%- if message['role'] == 'user' %}"
     "{{- bos_token + '[INST] ' + (system if loop.first else '') + "
     "message['content'] | trim + ' [/INST]' }}"
     "{%- else %}"
     "{{- ' ' + message['content'] | trim + ' ' + eos_token }}"
     "{%- endif %}"
     "{%- endfor %}"},
    {"zephyr", NULL,
     "{%- for message in messages %}"
     "{{- '<|' + message['role'] + '|>\n' + message['content'] + eos_token + "
     "'\n' }}"
     "{%- endfor %}"
     "{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}"},
    {"phi3", "<|assistant|>",
     "{%- for message in messages %}"
     "{{- '<|' + message['role'] + '|>\n' + message['content'] + "
     "'<|end|>\n' }}"
     "{%- endfor %}"
     "{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}"},
    {"vicuna", NULL,
     "{%- for message in messages %}"
     "{%- if message['role'] == 'system' %}{{- message['content'] + '\n\n' }}"
     "{%- elif message['role'] == 'user' %}"
     "{{- 'USER: ' + message['content'] + '\n' }}"
     "{%- else %}{{- 'ASSISTANT: ' + message['content'] + eos_token + '\n' }}"
     "{%- endif %}"
     "{%- endfor %}"
     "{%- if add_generation_prompt %}{{- 'ASSISTANT:' }}{%- endif %}"},
};

static bool is(struct gguf_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

const struct chat_builtin *chat_builtin_by_name(struct gguf_str name)
{
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        if (is(name, formats[i].name)) return &formats[i];
    }
    return NULL;
}

const struct chat_builtin *chat_builtin_by_vocabulary(const struct gguf *g)
{
    const struct gguf_array *tokens;
    const struct chat_builtin *found = NULL;
    if (gguf_get_array(g, "tokenizer.ggml.tokens", GGUF_STRING, &tokens,
                       NULL) != ST_OK) {
        return NULL;
    }
    for (uint64_t i = 0; i < gguf_array_len(tokens); i++) {
        const struct gguf_str piece = gguf_array_str(tokens, i);
        for (size_t k = 0; k < COUNT_OF(formats); k++) {
            if (!formats[k].token || !is(piece, formats[k].token)) continue;
            /* the table's order decides, not the vocabulary's */
            if (!found || &formats[k] < found) found = &formats[k];
        }
    }
    return found;
}

const char *chat_builtin_names(char text[128])
{
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(formats) && n < 128; i++) {
        const int got =
            snprintf(text + n, 128 - n, "%s%s", i ? ", " : "", formats[i].name);
        n += got > 0 ? (size_t)got : 0;
    }
    return text;
}
