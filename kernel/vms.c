#include "kernel/vms.h"

#include <string.h>

#include "base/list.h"
#include "base/platform.h"
#include "kernel/console.h"
#include "kernel/format.h"
#include "kernel/module.h"
#include "kernel/power.h"
#include "kernel/vmm_host.h"
#include "mm/slab.h"
#include "sched/sync.h"

/* What the node keeps of a VM; the library carries the pointer as the VM's cookie. */
struct managed_vm {
    struct nk_list link;
    struct vm *vm;
    struct vmm_host_vm host; /* what the library's hooks get for it */
    uint32_t changed;        /* set by vm_event, taken by vms_handle_events() */
    char manifest[];
};

static struct {
    struct nk_mutex lock; /* the list, and the life of every VM on it */
    struct nk_list list;
    struct vmm *vmm;
    struct vmm_error why_none;
    struct nk_semaphore events;
} vms = {.list = NK_LIST_INIT(vms.list)};

/* From a vCPU's thread, which must not destroy its own VM: leave a note for the node's thread. */
static void vm_event(void *host, void *vm_cookie, int state, int reason)
{
    (void)host;
    (void)state;
    (void)reason;
    struct managed_vm *m = vm_cookie;
    __atomic_store_n(&m->changed, 1, __ATOMIC_RELEASE);
    nk_semaphore_up(&vms.events);
}

void vms_init(void)
{
    nk_mutex_init(&vms.lock);
    nk_semaphore_init(&vms.events, 0);
    if (vmm_create(vmm_host_ops(vm_event), NULL, &vms.vmm, &vms.why_none) < 0) {
        vms.vmm = NULL;
        nk_warn("no virtual machines on this node: %s", vms.why_none.text);
        return;
    }
    nk_info("virtualisation: %s", vmm_describe(vms.vmm));
}

struct vmm *vms_instance(void)
{
    return vms.vmm;
}

const char *vms_why_none(void)
{
    return vms.why_none.text;
}

void vms_lock(void)
{
    nk_mutex_lock(&vms.lock);
}

void vms_unlock(void)
{
    nk_mutex_unlock(&vms.lock);
}

/* The library holds nothing of the VM any more; a leak of its has been logged when this returns. */
static void free_managed(struct managed_vm *m)
{
    vmm_host_vm_close(&m->host);
    kfree(m);
}

static int create_parsed(const char *manifest, struct vm_config *config, struct vm **out,
                         struct vmm_error *err)
{
    struct managed_vm *m = kzalloc(sizeof(*m) + strlen(manifest) + 1);
    if (!m) {
        nk_snprintf(err->text, sizeof(err->text), "%s: out of memory", config->name);
        return -VMM_ENOMEM;
    }
    strcpy(m->manifest, manifest);
    config->cookie = m;
    config->host = &m->host;
    vmm_host_vm_open(&m->host, config->name);
    int status = vmm_vm_create(vms.vmm, config, &m->vm, err);
    if (status < 0) {
        free_managed(m);
        return status;
    }
    nk_list_push_back(&vms.list, &m->link);
    *out = m->vm;
    return 0;
}

int vms_create(const char *manifest, struct vm **out, struct vmm_error *err)
{
    if (!vms.vmm) {
        nk_snprintf(err->text, sizeof(err->text), "%s: %s", manifest, vms.why_none.text);
        return -VMM_ENODEV;
    }
    struct nk_module file;
    if (!nk_module_find(manifest, &file)) {
        nk_snprintf(err->text, sizeof(err->text), "%s: no such boot module", manifest);
        return -VMM_ENOENT;
    }
    /* Too large for a kernel stack. */
    struct vm_config *config = kzalloc(sizeof(*config));
    if (!config) {
        nk_snprintf(err->text, sizeof(err->text), "%s: out of memory", manifest);
        return -VMM_ENOMEM;
    }
    int status = vmm_manifest_parse(vms.vmm, manifest, file.data, file.size, config, err);
    if (status == 0) {
        status = create_parsed(manifest, config, out, err);
    }
    kfree(config);
    return status;
}

static int forget_if(struct managed_vm *m, int status)
{
    if (status == 0) {
        nk_list_remove(&m->link);
        free_managed(m);
    }
    return status;
}

int vms_destroy(struct vm *vm)
{
    struct managed_vm *m = vmm_vm_config(vm)->cookie;
    return forget_if(m, vmm_vm_destroy(vm));
}

int vms_kill(struct vm *vm)
{
    struct managed_vm *m = vmm_vm_config(vm)->cookie;
    return forget_if(m, vmm_vm_kill(vm));
}

const char *vms_manifest(const struct vm *vm)
{
    const struct managed_vm *m = vmm_vm_config(vm)->cookie;
    return m->manifest;
}

/* --- at boot ---------------------------------------------------------------------------------- */

/* The last two components are vms/<something>.json. */
static bool is_manifest(const char *path)
{
    size_t length = strlen(path);
    if (length < 5 || strcmp(path + length - 5, ".json") != 0) {
        return false;
    }
    const char *slash = strrchr(path, '/');
    return slash && slash - path >= 3 && strncmp(slash - 3, "vms", 3) == 0 &&
           (slash - path == 3 || slash[-4] == '/');
}

/* "0,2,any": the host CPUs of a VM's vCPUs. */
static void format_cpus(const struct vm_config *config, char *out, size_t size)
{
    size_t at = 0;

    for (unsigned i = 0; i < config->vcpu_count && at < size; i++) {
        const char *comma = i == 0 ? "" : ",";
        at += config->cpu[i] < 0 ? nk_snprintf(out + at, size - at, "%sany", comma)
                                 : nk_snprintf(out + at, size - at, "%s%d", comma, config->cpu[i]);
    }
}

static bool autostart_one(const char *manifest)
{
    struct vmm_error err = {.text = ""};
    struct vm *vm = NULL;
    int status = vms_create(manifest, &vm, &err);
    if (status != 0) {
        nk_error("vm: not created: %s", err.text);
        return false;
    }
    nk_debug("vm: power on, from %s", manifest);
    status = vmm_vm_start(vm, &err);
    const struct vm_config *config = vmm_vm_config(vm);
    const char *name = config->name;
    char cpus[64];
    if (status < 0) {
        nk_error("vm: not started: %s", err.text); /* it begins with the name */
        return false;
    }
    format_cpus(config, cpus, sizeof(cpus));
    nk_info("vm %s: %u vCPU%s on CPU %s, %llu MiB, from %s", name, config->vcpu_count,
            config->vcpu_count == 1 ? "" : "s", cpus, (unsigned long long)(config->mem_bytes >> 20),
            manifest);
    return true;
}

void vms_autostart(void)
{
    struct nk_module file;
    char front[VMM_NAME_MAX] = "";
    for (unsigned i = 0; nk_module_get(i, &file); i++) {
        if (!is_manifest(file.name)) {
            continue;
        }
        vms_lock();
        if (autostart_one(file.name)) {
            struct managed_vm *last = nk_list_entry(vms.list.prev, struct managed_vm, link);
            nk_snprintf(front, sizeof(front), "%s", vmm_vm_config(last->vm)->name);
        }
        vms_unlock();
    }
    if (*front && console_bring_front(front) < 0) {
        nk_warn("vm %s: has no console", front);
    }
}

/* --- events ----------------------------------------------------------------------------------- */

static void show_shell(void)
{
    if (console_bring_front("shell") < 0) {
        nk_panic("the shell's console is gone");
    }
}

/* An emulator's exit status has room for 7 bits of it; what is more must not look like success. */
static uint8_t status_of(uint32_t code)
{
    return code > 0x7f ? 0x7f : (uint8_t)code;
}

static void handle_end(struct vm *vm)
{
    const struct vm_config *config = vmm_vm_config(vm);
    enum vm_state state = vmm_vm_state(vm);
    enum vm_reason reason = vmm_vm_reason(vm);
    if (state != VM_STOPPED && state != VM_CRASHED) {
        return; /* it may have a reason already: its end is an event of its own */
    }
    if (reason == VM_REASON_EXIT) {
        nk_info("vm %s: stopped: %s with code %u", config->name, vmm_reason_name(reason),
                vmm_vm_exit_code(vm));
    } else if (state == VM_CRASHED) {
        nk_error("vm %s: crashed: %s", config->name, vmm_reason_name(reason));
    } else {
        nk_info("vm %s: stopped: %s", config->name, vmm_reason_name(reason));
    }
    bool ends_node = config->power == VM_POWER_NODE;
    if (ends_node && (reason == VM_REASON_EXIT || reason == VM_REASON_POWER_OFF)) {
        console_flush(); /* the guest's last words, before the kernel's */
        show_shell();    /* where the log tells how it ended */
        if (reason == VM_REASON_POWER_OFF) {
            nk_power_off();
        }
        nk_debug_exit(status_of(vmm_vm_exit_code(vm)));
    }
    if (strcmp(console_front_name(), config->name) == 0) {
        console_flush();
        show_shell();
    }
}

void vms_handle_events(void)
{
    vms_lock();
    struct nk_list *pos;
    nk_list_for_each(pos, &vms.list)
    {
        struct managed_vm *m = nk_list_entry(pos, struct managed_vm, link);
        if (__atomic_exchange_n(&m->changed, 0, __ATOMIC_ACQUIRE)) {
            handle_end(m->vm);
        }
    }
    vms_unlock();
}

void vms_events_wait(void)
{
    nk_semaphore_down(&vms.events);
}
