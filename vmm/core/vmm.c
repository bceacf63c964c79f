/* The instance: hooks, back end, the list of VMs. */
#include <vmm/vm.h>

#include "core/msr.h"
#include "core/vm.h"

/* Every hook that is not optional, so that a host learns by name which one it forgot. */
#define HOOK_LIST(X)                                                                               \
    X(print)                                                                                       \
    X(format)                                                                                      \
    X(panic)                                                                                       \
    X(pages_alloc)                                                                                 \
    X(pages_free)                                                                                  \
    X(pages_split)                                                                                 \
    X(pages_join)                                                                                  \
    X(pages_available)                                                                             \
    X(alloc)                                                                                       \
    X(free)                                                                                        \
    X(hpa_to_va)                                                                                   \
    X(thread_create)                                                                               \
    X(thread_run)                                                                                  \
    X(thread_join)                                                                                 \
    X(thread_park)                                                                                 \
    X(thread_wake)                                                                                 \
    X(thread_yield)                                                                                \
    X(thread_current)                                                                              \
    X(thread_set_xcr0)                                                                             \
    X(thread_cycles)                                                                               \
    X(lock)                                                                                        \
    X(unlock)                                                                                      \
    X(cpu_count)                                                                                   \
    X(cpu_current)                                                                                 \
    X(cpu_kick)                                                                                    \
    X(cpu_call)                                                                                    \
    X(cycles)                                                                                      \
    X(wall_clock_ns)                                                                               \
    X(timer_create)                                                                                \
    X(timer_arm)                                                                                   \
    X(timer_cancel)                                                                                \
    X(timer_destroy)                                                                               \
    X(rdmsr_safe)                                                                                  \
    X(vm_event)

/* Without the hook that formats text, words have to do. */
static int refuse(struct vmm_error *err, int error, const char *why, const char *what)
{
    size_t length = 0;

    for (const char *part = why; part != NULL; part = part == why ? what : NULL) {
        for (const char *c = part; *c != '\0' && length + 1 < sizeof(err->text); c++) {
            err->text[length++] = *c;
        }
    }
    err->text[length] = '\0';
    return -error;
}

static int check_hooks(const struct vmm_host_ops *ops, struct vmm_error *err)
{
    if (ops == NULL || ops->abi_size != sizeof(*ops)) {
        return refuse(err, VMM_EINVAL, "the host's hook table is of another version of ",
                      "vmm/host.h");
    }
    if (ops->flags != 0) {
        return refuse(err, VMM_EINVAL, "the host's hook table has unknown ", "flags");
    }
#define X(hook)                                                                                    \
    if (ops->hook == NULL) {                                                                       \
        return refuse(err, VMM_EINVAL, "the host's hook table lacks ", #hook);                     \
    }
    HOOK_LIST(X)
#undef X
    if (ops->cycles_khz == 0) {
        return refuse(err, VMM_EINVAL, "the host's hook table lacks ", "cycles_khz");
    }
    return 0;
}

/* The first back end whose hardware can be used. What is there but cannot tells the administrator
 * more than what is not there, so it goes first. */
static int choose_backend(struct vmm *vmm, struct vmm_error *err)
{
    struct vmm_error why, absent = {.text = ""}, unusable = {.text = ""};
    bool found = false;

    for (unsigned i = 0; vmm_backend_table[i] != NULL; i++) {
        int error = vmm_backend_table[i]->probe(vmm, &why);

        if (error == 0) {
            vmm->backend = vmm_backend_table[i];
            return 0;
        }
        if (error != -VMM_ENODEV) {
            found = true;
            unusable = why;
        } else {
            struct vmm_error before = absent;
            vmm_format(vmm, absent.text, sizeof(absent.text), "%s%s%s", before.text,
                       before.text[0] == '\0' ? "" : ", no ", why.text);
        }
    }
    if (found) {
        return vmm_fail(vmm, err, VMM_ENODEV, "no hardware virtualisation: %s", unusable.text);
    }
    return vmm_fail(vmm, err, VMM_ENODEV, "no hardware virtualisation: the processor has no %s",
                    absent.text);
}

int vmm_create(const struct vmm_host_ops *ops, void *host, struct vmm **out, struct vmm_error *err)
{
    struct vmm *vmm;
    int error = check_hooks(ops, err);

    if (error != 0) {
        return error;
    }
    vmm = ops->alloc(host, sizeof(*vmm));
    if (vmm == NULL) {
        return refuse(err, VMM_ENOMEM, "no memory for ", "the instance");
    }
    vmm->ops = ops;
    vmm->host = host;
    vmm_msr_create(vmm);
    error = choose_backend(vmm, err);
    if (error == 0) {
        error = vmm->backend->create(vmm, err);
    }
    if (error != 0) {
        ops->free(host, vmm);
        return error;
    }
    vmm->backend->describe(vmm, vmm->description, sizeof(vmm->description));
    *out = vmm;
    return 0;
}

int vmm_destroy(struct vmm *vmm)
{
    if (vmm->vms != NULL) {
        return -VMM_EBUSY;
    }
    vmm->backend->destroy(vmm);
    vmm->ops->free(vmm->host, vmm);
    return 0;
}

const char *vmm_describe(const struct vmm *vmm)
{
    return vmm->description;
}

/* --- the VMs ---------------------------------------------------------------------------------- */

static struct vm *find(const struct vmm *vmm, const char *name)
{
    struct vm *vm = vmm->vms;

    while (vm != NULL && __builtin_strncmp(vm->config.name, name, VMM_NAME_MAX) != 0) {
        vm = vm->next;
    }
    return vm;
}

int vmm_list_add(struct vm *vm)
{
    struct vmm *vmm = vm->vmm;
    bool taken;

    vmm->ops->lock(vmm->host, &vmm->lock);
    taken = find(vmm, vm->config.name) != NULL;
    if (!taken) {
        vm->next = vmm->vms;
        vmm->vms = vm;
    }
    vmm->ops->unlock(vmm->host, &vmm->lock);
    return taken ? -VMM_EEXIST : 0;
}

void vmm_list_remove(struct vm *vm)
{
    struct vmm *vmm = vm->vmm;
    struct vm **link = &vmm->vms;

    vmm->ops->lock(vmm->host, &vmm->lock);
    while (*link != vm) {
        link = &(*link)->next;
    }
    *link = vm->next;
    vmm->ops->unlock(vmm->host, &vmm->lock);
}

struct vm *vmm_vm_find(struct vmm *vmm, const char *name)
{
    struct vm *vm;

    vmm->ops->lock(vmm->host, &vmm->lock);
    vm = find(vmm, name);
    vmm->ops->unlock(vmm->host, &vmm->lock);
    return vm;
}

struct vm *vmm_vm_next(struct vmm *vmm, struct vm *after)
{
    struct vm *vm;

    vmm->ops->lock(vmm->host, &vmm->lock);
    vm = after == NULL ? vmm->vms : after->next;
    vmm->ops->unlock(vmm->host, &vmm->lock);
    return vm;
}
