/* Host options that take features away from a back end, for tests: "-nrip,-1g"; or add one that is
 * off by default: "+posted". */
#include "core/vm.h"

static size_t word_length(const char *word)
{
    size_t length = 0;

    while (word[length] != '\0' && word[length] != ',') {
        length++;
    }
    return length;
}

static const char *next_word(const char *word)
{
    word += word_length(word);
    return *word == ',' ? word + 1 : word;
}

static bool names(const char *option, char sign, const char *name, size_t length)
{
    for (const char *word = option; word != NULL && *word != '\0'; word = next_word(word)) {
        if (word[0] == sign && word_length(word) == length + 1 &&
            __builtin_strncmp(word + 1, name, length) == 0) {
            return true;
        }
    }
    return false;
}

const char *vmm_option(struct vmm *vmm, const char *key)
{
    return vmm->ops->option == NULL ? NULL : vmm->ops->option(vmm->host, key);
}

void vmm_option_check(struct vmm *vmm, const char *key, const char *known)
{
    char line[160];

    for (const char *word = vmm_option(vmm, key); word != NULL && *word != '\0';
         word = next_word(word)) {
        size_t length = word_length(word);

        if (length == 0 || !names(known, word[0], word + 1, length - 1)) {
            vmm_format(vmm, line, sizeof(line), "%s: \"%.*s\" is none of %s", key, (int)length,
                       word, known);
            vmm->ops->print(vmm->host, VMM_LOG_WARN, line);
        }
    }
}

bool vmm_option_takes_away(const char *option, const char *name)
{
    return names(option, '-', name, __builtin_strlen(name));
}

bool vmm_option_adds(const char *option, const char *name)
{
    return names(option, '+', name, __builtin_strlen(name));
}
