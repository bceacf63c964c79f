/* Release builds: the processor's own check at each entry is enough. */
#include "vmx/vmx.h"

bool vmx_audit_launch(struct vcpu *v)
{
    (void)v;
    return true;
}
