/* What a host may ask about a VM without stopping it. */
#include "core/dirty.h"
#include "core/vm.h"

enum vm_state vmm_vm_state(const struct vm *vm)
{
    return (enum vm_state)__atomic_load_n(&vm->state, __ATOMIC_SEQ_CST);
}

enum vm_reason vmm_vm_reason(const struct vm *vm)
{
    return (enum vm_reason)__atomic_load_n(&vm->reason, __ATOMIC_SEQ_CST);
}

uint32_t vmm_vm_exit_code(const struct vm *vm)
{
    return __atomic_load_n(&vm->exit_code, __ATOMIC_SEQ_CST);
}

const char *vmm_state_name(enum vm_state s)
{
    static const char *const name_table[] = {
        [VM_CREATED] = "created", [VM_RUNNING] = "running", [VM_PAUSED] = "paused",
        [VM_STOPPED] = "stopped", [VM_CRASHED] = "crashed",
    };

    return (unsigned)s < VMM_ARRAY_COUNT(name_table) ? name_table[s] : "?";
}

const char *vmm_reason_name(enum vm_reason r)
{
    static const char *const name_table[] = {
        [VM_REASON_NONE] = "no reason",
        [VM_REASON_POWER_OFF] = "powered off by the guest",
        [VM_REASON_EXIT] = "ended by the guest",
        [VM_REASON_STOPPED] = "stopped by the host",
        [VM_REASON_TRIPLE_FAULT] = "triple fault",
        [VM_REASON_ENTRY_FAILED] = "guest state refused by the hardware",
        [VM_REASON_UNKNOWN_EXIT] = "unknown exit",
        [VM_REASON_EMULATION] = "instruction that is not emulated",
        [VM_REASON_HOST_ERROR] = "host error",
    };

    return (unsigned)r < VMM_ARRAY_COUNT(name_table) ? name_table[r] : "?";
}

const struct vm_config *vmm_vm_config(const struct vm *vm)
{
    return &vm->config;
}

const char *vmm_exit_name(enum vmm_exit_kind kind)
{
    static const char *const name_table[VMM_EXIT_COUNT] = {
#define X(name) #name,
        VMM_EXIT_LIST(X)
#undef X
    };

    return (unsigned)kind < VMM_EXIT_COUNT ? name_table[kind] : "?";
}

bool vmm_vm_exit_count(const struct vm *vm, int vcpu, unsigned i, struct vm_exit_count *out)
{
    if (i >= VMM_EXIT_COUNT || vcpu >= (int)vm->vcpu_count) {
        return false;
    }
    *out = (struct vm_exit_count){.name = vmm_exit_name((enum vmm_exit_kind)i)};
    for (int n = 0; n < (int)vm->vcpu_count; n++) {
        if (vcpu < 0 || n == vcpu) {
            out->count += vm->vcpu[n]->stat[i].count;
            out->cycles += vm->vcpu[n]->stat[i].cycles;
        }
    }
    return true;
}

uint64_t vmm_vm_memory_held(const struct vm *vm)
{
    return vm->small_bytes + vmm_nested_bytes(vm);
}

uint64_t vmm_vm_create_cycles(const struct vm *vm)
{
    return vm->create_cycles;
}

int vmm_vm_read_memory(struct vm *vm, uint64_t gpa, void *out, uint64_t length)
{
    vmm_control_enter(vm);
    return vmm_control_leave(vm, vmm_memory_read(vm, VMM_GPA(gpa), out, length));
}

static int count_region(struct vm *vm, const struct vmm_region *r, uint64_t *pages)
{
    uint64_t words = vmm_dirty_words(r);
    uint64_t *bits = vmm_vm_alloc(vm, words * sizeof(*bits));
    int error;

    if (bits == NULL) {
        return -VMM_ENOMEM;
    }
    error = vmm_dirty_fetch(vm, r, bits);
    for (uint64_t i = 0; error == 0 && i < words; i++) {
        for (uint64_t left = bits[i]; left != 0; left &= left - 1) {
            ++*pages;
        }
    }
    vmm_vm_free(vm, bits, words * sizeof(*bits));
    return error;
}

int vmm_vm_count_written(struct vm *vm, uint64_t *pages, bool *known)
{
    const struct vmm_region *r;
    int error = 0;

    vmm_control_enter(vm);
    *pages = 0;
    *known = vm->memory.logging;
    if (!*known) {
        return vmm_control_leave(vm, vmm_dirty_start(vm));
    }
    for (unsigned i = 0; error == 0 && (r = vmm_memory_region(vm, i)) != NULL; i++) {
        if (vmm_dirty_bits(r) != NULL) {
            error = count_region(vm, r, pages);
        }
    }
    return vmm_control_leave(vm, error);
}

void vmm_vm_forget_written(struct vm *vm)
{
    vmm_control_enter(vm);
    if (vm->memory.logging) {
        vmm_dirty_stop(vm);
    }
    (void)vmm_control_leave(vm, 0);
}
