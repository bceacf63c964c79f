/* Host options that take features away from a back end, for tests: "-nrip,-1g". */
#include "core/vm.h"

bool vmm_option_takes_away(const char *option, const char *name)
{
    size_t length = __builtin_strlen(name);

    while (option != NULL && *option != '\0') {
        if (option[0] == '-' && __builtin_strncmp(option + 1, name, length) == 0 &&
            (option[length + 1] == ',' || option[length + 1] == '\0')) {
            return true;
        }
        while (*option != '\0' && *option++ != ',') {
        }
    }
    return false;
}
