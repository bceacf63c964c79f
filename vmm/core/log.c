/* Text through the host's hooks. */
#include "core/vm.h"

#define LINE_MAX_BYTES 256

int vmm_format(struct vmm *vmm, char *out, size_t size, const char *fmt, ...)
{
    va_list ap;
    int length;

    va_start(ap, fmt);
    length = vmm->ops->format(vmm->host, out, size, fmt, ap);
    va_end(ap);
    return length;
}

void vmm_vm_log(struct vm *vm, enum vmm_log_level level, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES];
    int length = vmm_format(vm->vmm, line, sizeof(line), "%s: ", vm->config.name);
    va_list ap;

    va_start(ap, fmt);
    vm->ops->format(vm->host, line + length, sizeof(line) - (size_t)length, fmt, ap);
    va_end(ap);
    vm->ops->print(vm->host, level, line);
}

int vmm_fail(struct vmm *vmm, struct vmm_error *err, int error, const char *fmt, ...)
{
    va_list ap;

    if (err != NULL) {
        va_start(ap, fmt);
        vmm->ops->format(vmm->host, err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
    }
    return -error;
}
