/* Debug builds: no VMCS is entered for the first time on a CPU that the auditor would not pass.
 * What it breaks is said by the dump of the VM that ends. */
#include "vmx/vmx.h"

static uint64_t read_loaded(void *arg, uint32_t field)
{
    (void)arg;
    return vmcs_read_if_there(field);
}

static void count_only(void *arg, const char *section, const char *field, uint64_t value,
                       const char *rule)
{
    (void)arg;
    (void)section;
    (void)field;
    (void)value;
    (void)rule;
}

bool vmx_audit_launch(struct vcpu *v)
{
    return vmx_audit(&vmx_vcpu(v)->vmx->caps, read_loaded, NULL, count_only) == 0;
}
