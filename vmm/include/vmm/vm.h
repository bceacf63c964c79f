/* What the library offers its host: one VMM instance, VMs in it, control over them.
 *
 * Threading: any thread; control calls on one VM wait for each other, and sleep meanwhile. None may
 * be called from interrupt context or from a vCPU's own thread, vm_event included. What only looks
 * (a const struct vm) may be called anywhere. A struct vm is valid until vmm_vm_destroy() or
 * vmm_vm_kill() returns 0: the host sees to it that nobody uses it then.
 *
 * Errors: 0 or a negative number of enum vmm_errno. Calls that take a struct vmm_error fill it with
 * one line when they fail, which begins with the VM's name; it may be NULL, but in vmm_create(). */
#pragma once

#include <vmm/host.h>
#include <vmm/types.h>

struct vmm; /* the instance: hooks, backend, per-CPU state */
struct vm;

/* --- the instance ------------------------------------------------------------------------------
 */

/* Validate the hooks, find the hardware virtualisation and switch it on, on every CPU.
 * Errors: -VMM_EINVAL bad hook table, -VMM_ENODEV no hardware virtualisation (err says why:
 * absent, or disabled by firmware), -VMM_ENOMEM. */
int vmm_create(const struct vmm_host_ops *ops, void *host, struct vmm **out,
               struct vmm_error *err) VMM_MUST_CHECK;
/* Switch it off again on every CPU. Errors: -VMM_EBUSY while VMs exist. */
int vmm_destroy(struct vmm *vmm) VMM_MUST_CHECK;

/* "AMD SVM: nested paging, 16 ASIDs, ..." for the boot log; valid as long as the instance. */
const char *vmm_describe(const struct vmm *vmm);

/* --- configuration -----------------------------------------------------------------------------
 */

enum vm_power_action {
    VM_POWER_STOP, /* the guest's power-off ends the VM */
    VM_POWER_NODE, /* ... and the host is asked to power the node off */
};

/* How the kernel is entered. */
enum vm_protocol {
    VM_PROTOCOL_AUTO, /* as its file says */
    VM_PROTOCOL_LINUX64,
    VM_PROTOCOL_LINUX32,
    VM_PROTOCOL_LINUX16, /* its setup code, with BIOS services */
    VM_PROTOCOL_PVH,
    VM_PROTOCOL_MULTIBOOT,
    VM_PROTOCOL_MULTIBOOT2,
    VM_PROTOCOL_FLAT32, /* at load_address, protected mode */
    VM_PROTOCOL_FLAT16, /* at load_address, real mode with BIOS services */
};

/* The largest pages that back RAM. */
enum vm_huge_pages {
    VM_HUGE_PAGES_ANY, /* that the processor has; of lazy memory 2 MiB */
    VM_HUGE_PAGES_2M,
    VM_HUGE_PAGES_NONE, /* 4 KiB */
};

#define VMM_RAM_NODES_MAX 8
#define VMM_MODULES_MAX   7

/* All of a VM. Zeroed, it wants a name, memory, vCPUs with their cpu[], node = -1, a kernel. */
struct vm_config {
    char name[VMM_NAME_MAX];
    unsigned vcpu_count;
    uint64_t mem_bytes;
    int cpu[VMM_VCPUS_MAX];  /* pinning: host CPU of each vCPU, -1: any */
    int node;                /* NUMA node of guest RAM and its tables, -1: any */
    unsigned ram_node_count; /* RAM in as many equal shares, by address, each from a node; 0: no */
    uint8_t ram_node[VMM_RAM_NODES_MAX];
    bool lazy_memory; /* back RAM on first touch, a page at a time */
    enum vm_huge_pages huge_pages;
    uint64_t balloon_bytes; /* RAM that the guest's balloon driver gives back at once */
    enum vm_power_action power;
    enum vm_protocol protocol;
    uint64_t load_address;    /* of a flat image */
    uint64_t hidden_features; /* bit n: the n-th of vmm_feature_name() is not offered */
    bool ignore_unknown_msrs; /* they read as 0 and take any value; else #GP, as in hardware */
    bool no_msi;              /* PCI functions interrupt by their pins alone */
    char kernel_path[128];
    char firmware_path[128]; /* in place of a kernel */
    char initrd_path[128];
    char module[VMM_MODULES_MAX][128]; /* further ones: path, then perhaps a blank and its text */
    unsigned module_count;
    char boot_args[1024];
    void *cookie; /* the host's; comes back in vm_event */
    void *host;   /* what hooks get as `host` in calls for this VM; NULL: what vmm_create() got */
};

/* Manifest text (JSON, docs/manifest.md) to a checked configuration; cookie and host are left NULL.
 * Errors: -VMM_EINVAL what it says, -VMM_E2BIG more than 64 KiB.
 * Needs extended (FPU) state in the calling thread: cJSON keeps numbers as doubles.
 * err: "vms/linux.json: line 3: machine-config.mem_size_mib: 99999 MiB asked, 900 MiB free". */
int vmm_manifest_parse(struct vmm *vmm, const char *file_name, const char *text, size_t length,
                       struct vm_config *out, struct vmm_error *err) VMM_MUST_CHECK;

/* The names of CPU features that can be hidden, in order; NULL past the last. */
const char *vmm_feature_name(unsigned i);

/* --- life of a VM ------------------------------------------------------------------------------
 */

enum vm_state { VM_CREATED, VM_RUNNING, VM_PAUSED, VM_STOPPED, VM_CRASHED };

/* Why it is STOPPED or CRASHED. */
enum vm_reason {
    VM_REASON_NONE,
    VM_REASON_POWER_OFF, /* guest: ACPI S5 */
    VM_REASON_EXIT,      /* guest: its exit code to port 0xf4 */
    VM_REASON_STOPPED,   /* host: stop or kill */
    VM_REASON_TRIPLE_FAULT,
    VM_REASON_ENTRY_FAILED, /* hardware refused the guest state */
    VM_REASON_UNKNOWN_EXIT,
    VM_REASON_EMULATION,  /* an instruction the emulator does not do */
    VM_REASON_HOST_ERROR, /* memory ran out, ... */
};

/* Which calls lead from where to where; each is refused elsewhere, and the VM stays as it was.
 *
 *   CREATED, STOPPED, CRASHED --start--> RUNNING --pause--> PAUSED --resume--> RUNNING
 *   RUNNING, PAUSED --stop, or the guest's own end--> STOPPED or CRASHED
 *   CREATED, STOPPED, CRASHED --restore--> PAUSED, or --destroy--> gone
 *
 * Every change is announced by vm_event. */

/* All or nothing. The VM is CREATED: its memory is there unless it is lazy, its devices are reset;
 * the kernel is loaded when it starts. *config is copied.
 * Errors: -VMM_EINVAL what err says, -VMM_EEXIST the name, -VMM_ENOMEM. */
int vmm_vm_create(struct vmm *vmm, const struct vm_config *config, struct vm **out,
                  struct vmm_error *err) VMM_MUST_CHECK;
/* Power on: devices and vCPUs are reset, the guest is loaded, its clock and TSC begin at zero.
 * Errors: -VMM_EBUSY running or paused, -VMM_ENOENT a file, -VMM_EINVAL a file is no such kernel,
 * -VMM_ENOSPC it does not fit into RAM, -VMM_ENOMEM. */
int vmm_vm_start(struct vm *vm, struct vmm_error *err) VMM_MUST_CHECK;
/* Returns when no vCPU runs any more; clock and TSC stand until it is resumed.
 * Errors of both: -VMM_EINVAL it is not running, or not paused. */
int vmm_vm_pause(struct vm *vm) VMM_MUST_CHECK;
int vmm_vm_resume(struct vm *vm) VMM_MUST_CHECK;
/* As if its reset line was pulsed: a RUNNING one reboots, a PAUSED one does when it is resumed.
 * A guest that cannot be loaded again ends. Errors: -VMM_EINVAL neither running nor paused. */
int vmm_vm_reset(struct vm *vm) VMM_MUST_CHECK;
/* STOPPED when it returns, whatever the guest does. Errors: -VMM_EINVAL neither running nor paused,
 * it may just have ended by itself. */
int vmm_vm_stop(struct vm *vm) VMM_MUST_CHECK;
/* All that it holds goes back to the host. Errors: -VMM_EBUSY while it is running or paused. */
int vmm_vm_destroy(struct vm *vm) VMM_MUST_CHECK;
/* Stop, if need be, and destroy. Errors: -VMM_EBUSY somebody has started it in between. */
int vmm_vm_kill(struct vm *vm) VMM_MUST_CHECK;

struct vdev; /* vmm/vdev.h */
struct vdev_class;

/* A device of the host's own, for a VM that does not run. It stays, and goes with the VM; its class
 * must outlive that. Checkpoints have it: a VM that takes one has the same devices, in this order.
 * Errors: -VMM_EBUSY running or paused, -VMM_ENOMEM, its create's. */
int vmm_vm_add_device(struct vm *vm, const struct vdev_class *cls,
                      struct vdev **out) VMM_MUST_CHECK;

struct vdev_stream; /* vmm/vdev.h: its transfer() writes here, or reads; it may sleep */

/* Write all of a RUNNING or PAUSED VM to a stream: memory (pages of zeros aside), vCPUs, devices,
 * clocks. A running one stands still meanwhile and then goes on, its clock not having seen it.
 * Errors: -VMM_EINVAL neither running nor paused, -VMM_ENOMEM, the stream's; err has the line. */
int vmm_vm_checkpoint(struct vm *vm, struct vdev_stream *out, struct vmm_error *err) VMM_MUST_CHECK;
/* CREATED, STOPPED or CRASHED -> PAUSED, where the checkpoint was taken: the VM has the same number
 * of vCPUs and the same memory, the processor the same features. A stream that is damaged or of
 * another VM is refused, and leaves the VM as startable as it was.
 * Errors: -VMM_EBUSY running or paused, -VMM_EINVAL the stream, -VMM_ENOMEM; err has the line. */
int vmm_vm_restore(struct vm *vm, struct vdev_stream *in, struct vmm_error *err) VMM_MUST_CHECK;

/* As it is just now: a guest can end at any time. */
enum vm_state vmm_vm_state(const struct vm *vm);
enum vm_reason vmm_vm_reason(const struct vm *vm);
uint32_t vmm_vm_exit_code(const struct vm *vm);             /* with VM_REASON_EXIT */
const char *vmm_state_name(enum vm_state s);                /* "running" */
const char *vmm_reason_name(enum vm_reason r);              /* "triple fault" */
const struct vm_config *vmm_vm_config(const struct vm *vm); /* the copy; valid as long as the VM */
/* NULL: there is none of this name. */
struct vm *vmm_vm_find(struct vmm *vmm, const char *name);
/* The one behind `after` in the list, of all if that is NULL; NULL past the last. */
struct vm *vmm_vm_next(struct vmm *vmm, struct vm *after);

struct vm_exit_count {
    const char *name;
    uint64_t count;
    uint64_t cycles; /* of the host, that handling them took; without the world switches */
};
/* The i-th exit kind's statistics of one vCPU, -1: the sum of all; false past the last. */
bool vmm_vm_exit_count(const struct vm *vm, int vcpu, unsigned i, struct vm_exit_count *out);
uint64_t vmm_vm_memory_held(const struct vm *vm); /* bytes beyond guest RAM */
/* What of the paravirtual interface vCPU 0 has switched on. */
enum vm_para { VM_PARA_CLOCK = 1, VM_PARA_STEAL_TIME = 2, VM_PARA_EOI = 4 };
unsigned vmm_vm_para(const struct vm *vm);
uint64_t vmm_vm_create_cycles(const struct vm *vm); /* of the host, that making it took */

enum vpci_signal { VPCI_PIN, VPCI_MSI, VPCI_MSIX }; /* how the guest has a function interrupt */

struct vm_pci_function {
    const char *name; /* of the device's class */
    unsigned slot;    /* on bus 0 */
    uint16_t vendor, device;
    enum vpci_signal signal;
    unsigned vectors;         /* of that kind */
    uint32_t masked, pending; /* a bit for each */
    uint64_t sent;            /* messages since power-on */
};
/* The i-th function on the PCI bus that is a device of its own; false past the last. */
bool vmm_vm_pci_function(const struct vm *vm, unsigned i, struct vm_pci_function *out);

/* --- memory of a VM that runs -------------------------------------------------------------------
 */

struct vm_memory {   /* bytes */
    uint64_t ram;    /* what the guest thinks it has */
    uint64_t backed; /* host pages behind it (and behind its ROM) now */
    uint64_t stored; /* in the host's store */
    uint64_t balloon_wanted, balloon_actual;
    bool balloon_driver; /* the guest has one, and it works */
};
void vmm_vm_memory(struct vm *vm, struct vm_memory *out); /* in any state */
/* Ask the guest for `bytes` of its RAM, in all; it gives them when and if its driver does. Less
 * than before gives some back. Errors: -VMM_E2BIG not that much, -VMM_ENODEV no such device. */
int vmm_vm_balloon(struct vm *vm, uint64_t bytes) VMM_MUST_CHECK;
/* Move about `bytes` of its RAM to the host's store; touched, they come back. *moved: how much.
 * Errors: -VMM_ENOTSUP the host has no store, -VMM_ENOSPC it is full, -VMM_ENOMEM. */
int vmm_vm_swap_out(struct vm *vm, uint64_t bytes, uint64_t *moved) VMM_MUST_CHECK;
/* RAM or ROM at an address where nothing is, and away again, while the guest runs: multiples of
 * 4 KiB. data: what ROM holds, else NULL. Errors: -VMM_EINVAL, -VMM_EEXIST, -VMM_ENOENT,
 * -VMM_ENOSPC, -VMM_ENOMEM. */
int vmm_vm_add_memory(struct vm *vm, uint64_t gpa, uint64_t bytes, const void *data) VMM_MUST_CHECK;
int vmm_vm_remove_memory(struct vm *vm, uint64_t gpa) VMM_MUST_CHECK;

/* What of every vCPU. */
enum vm_dump {
    VM_DUMP_REGISTERS = 1 << 0, /* and the code at RIP */
    VM_DUMP_HARDWARE = 1 << 1,  /* the back end's control block */
    VM_DUMP_EXITS = 1 << 2,     /* the last ones, latest first */
    VM_DUMP_BACKTRACE = 1 << 3, /* return addresses, as far as the stack tells */
    VM_DUMP_ALL = 15,
};
/* Through the print hook. The vCPUs of a running VM stand still meanwhile, its clock does not. */
void vmm_vm_dump(struct vm *vm, unsigned what);

/* How many of its pages were written since the last call, which the first one cannot tell (false in
 * *known): writes are logged from then on. Errors: -VMM_ENOMEM. */
int vmm_vm_count_written(struct vm *vm, uint64_t *pages, bool *known) VMM_MUST_CHECK;
/* The log ends, and with it what it costs. */
void vmm_vm_forget_written(struct vm *vm);

/* As if its NMI button was pressed; a PAUSED one has it when it is resumed.
 * Errors: -VMM_EINVAL neither running nor paused, no such vCPU. */
int vmm_vm_inject_nmi(struct vm *vm, unsigned vcpu) VMM_MUST_CHECK;
/* Guest-physical memory, RAM and ROM only; of a running VM as it is just now.
 * Errors: -VMM_EFAULT some of it is neither. */
int vmm_vm_read_memory(struct vm *vm, uint64_t gpa, void *out, uint64_t length) VMM_MUST_CHECK;
