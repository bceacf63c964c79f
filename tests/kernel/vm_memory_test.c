/* Every allocation in a VM's life fails in turn, whoever makes it: the VM's creation, its loading
 * and start, its guest's first touches, regions, the log of writes, the balloon, the store. The
 * node and a second VM notice nothing, and everything comes back. The guest's code runs on the real
 * back end. */
#include <errno.h>
#include <string.h>
#include <vmm/vm.h>

#include "kernel/vmm_host.h"
#include "mm/buddy.h"
#include "sched/thread.h"
#include "tests/kernel/fault.h"
#include "tests/kernel/ktest.h"

#define LOAD_AT NK_MIB(1)
#define RAM     NK_MIB(4)
#define EXTRA   NK_GIB(1)

/* 32-bit protected mode: write to 16 pages from 2 MiB on, then exit with code 1; without that port,
 * halt. */
static const uint8_t toucher[] = {
    0xbf, 0x00, 0x00, 0x20, 0x00,       /* mov edi, 0x200000 */
    0x89, 0x3f,                         /* next: mov [edi], edi */
    0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, /* add edi, 0x1000 */
    0x81, 0xff, 0x00, 0x00, 0x21, 0x00, /* cmp edi, 0x210000 */
    0x72, 0xf0,                         /* jb next */
    0xb0, 0x01, 0xe6, 0xf4,             /* mov al, 1; out 0xf4, al */
    0xf4, 0xeb, 0xfd,                   /* halt: hlt; jmp halt */
};
static const uint8_t sleeper[] = {0xf4, 0xeb, 0xfd};

static struct vmm *vmm;
static struct vm *neighbour;
static struct vm_config config;

static int open_image(void *host, const char *name, const void **data, uint64_t *size)
{
    (void)host;
    bool touches = strcmp(name, "toucher") == 0;
    *data = touches ? toucher : sleeper;
    *size = touches ? sizeof(toucher) : sizeof(sleeper);
    return 0;
}

static void close_image(void *host, const char *name, const void *data)
{
    (void)host, (void)name, (void)data;
}

static void no_event(void *host, void *vm_cookie, int state, int reason)
{
    (void)host, (void)vm_cookie, (void)state, (void)reason;
}

static int make_instance(void)
{
    static const struct vmm_host_files images = {open_image, close_image};
    static struct vmm_host_ops ops;
    struct vmm_error why;
    ops = *vmm_host_ops(no_event);
    ops.files = &images;
    return vmm_create(&ops, NULL, &vmm, &why);
}

static void configure(const char *name, const char *image, bool lazy)
{
    config = (struct vm_config){.vcpu_count = 1, .mem_bytes = RAM, .node = -1};
    strcpy(config.name, name);
    strcpy(config.kernel_path, image);
    config.protocol = VM_PROTOCOL_FLAT32;
    config.load_address = LOAD_AT;
    config.lazy_memory = lazy;
    memset(config.cpu, 0xff, sizeof(config.cpu));
}

/* The guest has ended by itself, or for want of memory. */
static int run_guest(struct vm *vm)
{
    struct vmm_error why;
    int err = vmm_vm_start(vm, &why);
    if (err != 0) {
        return err;
    }
    while (vmm_vm_state(vm) == VM_RUNNING) {
        nk_thread_sleep_ns(1000000);
    }
    if (vmm_vm_reason(vm) == VM_REASON_HOST_ERROR) {
        return -ENOMEM;
    }
    EXPECT_EQ(vmm_vm_reason(vm), VM_REASON_EXIT);
    EXPECT_EQ(vmm_vm_exit_code(vm), 1);
    return 0;
}

static int use_memory(struct vm *vm)
{
    uint64_t moved, word, pages;
    bool known;
    int err = vmm_vm_add_memory(vm, EXTRA, NK_MIB(2), NULL);
    if (err == 0) {
        err = vmm_vm_remove_memory(vm, EXTRA);
    }
    if (err == 0) {
        err = vmm_vm_count_written(vm, &pages, &known);
    }
    if (err == 0) {
        vmm_vm_forget_written(vm);
        err = vmm_vm_balloon(vm, NK_MIB(1));
    }
    if (err == 0) {
        err = vmm_vm_swap_out(vm, RAM, &moved);
    }
    for (uint64_t gpa = NK_MIB(2); err == 0 && gpa < NK_MIB(2) + NK_KIB(64); gpa += NK_PAGE_SIZE) {
        err = vmm_vm_read_memory(vm, gpa, &word, sizeof(word));
        EXPECT(err != 0 || (uint32_t)word == gpa);
    }
    return err;
}

static int live(void)
{
    struct vmm_error why;
    struct vm *vm;
    int err = vmm_vm_create(vmm, &config, &vm, &why);
    if (err != 0) {
        EXPECT(why.text[0] != '\0');
        return err;
    }
    err = run_guest(vm);
    if (err == 0) {
        err = use_memory(vm);
    }
    EXPECT_EQ(vmm_vm_destroy(vm), 0);
    EXPECT_EQ(vmm_vm_state(neighbour), VM_RUNNING);
    return err;
}

KTEST(fault_vm_life)
{
    struct vmm_error why;
    KTEST_SKIP_UNLESS(fault_possible(), "not a debug build");
    KTEST_SKIP_UNLESS(make_instance() == 0, "no hardware virtualisation");
    configure("neighbour", "sleeper", false);
    ASSERT_EQ(vmm_vm_create(vmm, &config, &neighbour, &why), 0);
    ASSERT_EQ(vmm_vm_start(neighbour, &why), 0);
    configure("subject", "toucher", true);
    fault_each_of_any_thread("a VM with lazy memory", live, FAULT_TOLERATED);
    configure("subject", "toucher", false);
    fault_each_of_any_thread("a VM with eager memory", live, FAULT_TOLERATED);
    EXPECT_EQ(vmm_vm_stop(neighbour), 0);
    EXPECT_EQ(vmm_vm_destroy(neighbour), 0);
    EXPECT_EQ(vmm_destroy(vmm), 0);
}

/* --- nodes ------------------------------------------------------------------------------------ */

static uint64_t free_bytes(unsigned node)
{
    struct buddy_stats stats;
    buddy_get_stats(node, &stats);
    return stats.free_pages * NK_PAGE_SIZE;
}

/* RAM in shares from the nodes named, and RAM that no single node has. */
KTEST(vm_memory_of_nodes)
{
    struct vmm_error why;
    struct vm *vm;
    KTEST_SKIP_UNLESS(buddy_node_count() >= 4, "needs four nodes");
    KTEST_SKIP_UNLESS(make_instance() == 0, "no hardware virtualisation");
    uint64_t before[4], all = 0, most = 0;
    for (unsigned i = 0; i < 4; i++) {
        before[i] = free_bytes(i);
        all += before[i];
        most = before[i] > most ? before[i] : most;
    }
    configure("shares", "sleeper", false);
    config.mem_bytes = NK_MIB(48);
    config.ram_node_count = 3;
    memcpy(config.ram_node, "\3\1\2", 3);
    ASSERT_EQ(vmm_vm_create(vmm, &config, &vm, &why), 0);
    for (unsigned i = 1; i < 4; i++) {
        EXPECT_GE(before[i] - free_bytes(i), NK_MIB(15));
        EXPECT_LE(before[i] - free_bytes(i), NK_MIB(18));
    }
    EXPECT_EQ(vmm_vm_destroy(vm), 0);
    configure("large", "sleeper", false);
    config.mem_bytes = (most + (all - most) / 2) & -NK_MIB(2);
    ASSERT_EQ(vmm_vm_create(vmm, &config, &vm, &why), 0);
    EXPECT_LE(all - config.mem_bytes - NK_MIB(4),
              free_bytes(0) + free_bytes(1) + free_bytes(2) + free_bytes(3));
    EXPECT_EQ(vmm_vm_destroy(vm), 0);
    EXPECT_EQ(vmm_destroy(vmm), 0);
}
