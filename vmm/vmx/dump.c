/* The VMCS for a person who wants to know why a guest died; after a refused entry with the rules
 * that it broke. */
#include "vmx/vmx.h"

typedef unsigned long long ull; /* for the formatter */

static const struct {
    uint32_t id;
    const char *name;
} field_table[] = {
#define F(width, name, encoding) {encoding, #name},
    VMCS_FIELD_LIST(F)
#undef F
};

/* Printing may be slow: the VMCS is held for one field at a time. */
static uint64_t read_field(void *arg, uint32_t field)
{
    uint64_t flags = vmx_acquire(arg);
    uint64_t value = vmcs_read_if_there(field);

    vmx_release(flags);
    return value;
}

static void report(void *arg, const char *section, const char *field, uint64_t value,
                   const char *rule)
{
    struct vcpu *v = arg;

    vmm_vm_log(v->vm, VMM_LOG_ERROR, "  VMCS: %s is 0x%llx, SDM vol. 3 section %s wants: %s", field,
               (ull)value, section, rule);
}

/* The entry's event is gone from the VMCS once it was refused: it counts as it was. */
static uint64_t read_as_entered(void *arg, uint32_t field)
{
    if (field == VMCS_ENTRY_INTR_INFO.id) {
        return (uint32_t)vmx_vcpu(arg)->entered_with;
    }
    return read_field(arg, field);
}

void vmx_dump(struct vcpu *v, enum vmm_log_level level)
{
    for (unsigned i = 0; i + 1 < VMM_ARRAY_COUNT(field_table); i += 2) {
        vmm_vm_log(v->vm, level, "  VMCS: %-24s %16llx  %-24s %16llx", field_table[i].name,
                   (ull)read_field(v, field_table[i].id), field_table[i + 1].name,
                   (ull)read_field(v, field_table[i + 1].id));
    }
    if (v->exit_last != NULL && v->exit_last->kind == VMM_EXIT_entry_failed &&
        !vmx_vcpu(v)->cannot_run) {
        vmx_audit(&vmx_vcpu(v)->vmx->caps, read_as_entered, v, report);
    }
}
