/* The shell's actions on a running VM's memory: vm balloon, swap, add-memory, remove-memory. */
#include <errno.h>
#include <stdlib.h>

#include "kernel/shell.h"
#include "kernel/vm_cmd.h"

/* "64", "64M", "1G", "512K": MiB without a letter, whole pages. */
static bool parse_size(const char *text, uint64_t *bytes)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    unsigned shift = *end == 'K' || *end == 'k' ? 10 : *end == 'G' || *end == 'g' ? 30 : 20;
    bool suffix = shift != 20 || *end == 'M' || *end == 'm';
    if (*text < '0' || *text > '9' || end[suffix] != '\0' || errno != 0 ||
        number > UINT64_MAX >> shift) {
        return false;
    }
    *bytes = number << shift & -VMM_PAGE_SIZE;
    return true;
}

static void print_memory(struct vm *vm)
{
    struct vm_memory m;
    vmm_vm_memory(vm, &m);
    shell_printf("  RAM     %llu MiB, %llu MiB of it held in host pages, %llu KiB swapped out\n",
                 (unsigned long long)(m.ram >> 20), (unsigned long long)(m.backed >> 20),
                 (unsigned long long)(m.stored >> 10));
    shell_printf("  balloon %llu MiB given by the guest, %llu MiB wanted%s\n",
                 (unsigned long long)(m.balloon_actual >> 20),
                 (unsigned long long)(m.balloon_wanted >> 20),
                 m.balloon_driver ? "" : "; it has no driver at work");
}

#define AN_ADDRESS "an address such as 0x200000000"
#define A_SIZE     "a size such as 64M or 1G"

int vm_cmd_balloon(struct vm *vm, int argc, char **argv)
{
    uint64_t bytes;
    if (argc == 0) {
        print_memory(vm);
        return 0;
    }
    if (!parse_size(argv[0], &bytes)) {
        return vm_cmd_wrong("balloon", argv[0], A_SIZE);
    }
    int status = vmm_vm_balloon(vm, bytes);
    if (status == -VMM_E2BIG) {
        shell_printf("vm %s: it has %llu MiB, all of which cannot be taken\n", vm_cmd_name(vm),
                     (unsigned long long)(vmm_vm_config(vm)->mem_bytes >> 20));
        return status;
    }
    return vm_cmd_report(vm_cmd_name(vm), "ask for memory", status);
}

int vm_cmd_swap(struct vm *vm, int argc, char **argv)
{
    uint64_t bytes, moved;
    if (argc == 0) {
        print_memory(vm);
        return 0;
    }
    if (!parse_size(argv[0], &bytes)) {
        return vm_cmd_wrong("swap", argv[0], A_SIZE);
    }
    int status = vmm_vm_swap_out(vm, bytes, &moved);
    if (status == 0 || status == -VMM_ENOSPC) {
        shell_printf("vm %s: %llu KiB swapped out%s\n", vm_cmd_name(vm),
                     (unsigned long long)(moved >> 10),
                     status == 0 ? "" : "; the node has no memory to keep more");
        return status;
    }
    return vm_cmd_report(vm_cmd_name(vm), "swap memory out", status);
}

static const char *why(int status)
{
    return status == -VMM_EEXIST   ? "something is there"
           : status == -VMM_ENOENT ? "no region begins there"
           : status == -VMM_EINVAL ? "address and size are to be whole pages"
           : status == -VMM_ENOSPC ? "it has too many regions"
                                   : "the node has no memory left";
}

int vm_cmd_add_memory(struct vm *vm, int argc, char **argv)
{
    uint64_t address, bytes;
    (void)argc;
    if (!shell_number(argv[0], UINT64_MAX, &address)) {
        return vm_cmd_wrong("add-memory", argv[0], AN_ADDRESS);
    }
    if (!parse_size(argv[1], &bytes)) {
        return vm_cmd_wrong("add-memory", argv[1], A_SIZE);
    }
    int status = vmm_vm_add_memory(vm, address, bytes, NULL);
    if (status < 0) {
        shell_printf("vm %s: no memory added: %s\n", vm_cmd_name(vm), why(status));
    }
    return status;
}

int vm_cmd_remove_memory(struct vm *vm, int argc, char **argv)
{
    uint64_t address;
    (void)argc;
    if (!shell_number(argv[0], UINT64_MAX, &address)) {
        return vm_cmd_wrong("remove-memory", argv[0], AN_ADDRESS);
    }
    int status = vmm_vm_remove_memory(vm, address);
    if (status < 0) {
        shell_printf("vm %s: no memory removed: %s\n", vm_cmd_name(vm), why(status));
    }
    return status;
}
