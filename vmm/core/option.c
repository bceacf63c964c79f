/* Host options that take features away from a back end, for tests: "-nrip,-1g"; or add one that is
 * off by default: "+posted". */
#include "core/vm.h"

static bool names(const char *option, char sign, const char *name)
{
    size_t length = __builtin_strlen(name);

    while (option != NULL && *option != '\0') {
        if (option[0] == sign && __builtin_strncmp(option + 1, name, length) == 0 &&
            (option[length + 1] == ',' || option[length + 1] == '\0')) {
            return true;
        }
        while (*option != '\0' && *option++ != ',') {
        }
    }
    return false;
}

bool vmm_option_takes_away(const char *option, const char *name)
{
    return names(option, '-', name);
}

bool vmm_option_adds(const char *option, const char *name)
{
    return names(option, '+', name);
}
