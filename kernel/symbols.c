/* Names for addresses, from the table the build links in, and backtraces by frame pointers. */

#include "kernel/symbols.h"

#include "base/layout.h"
#include "kernel/panic.h"
#include "kernel/trap.h"

#define BACKTRACE_DEPTH_MAX 32

#define INTERRUPT_SAVED_BYTES 72 /* INTERRUPT_SAVED of entry.asm */

extern const uint8_t _text[], _etext[];
extern const uint8_t trap_return[], interrupt_return[]; /* entry.asm */

const char *nk_symbol_lookup(uint64_t address, uint64_t *offset)
{
    if (address < (uint64_t)_text || address >= (uint64_t)_etext || nk_symtab_count == 0) {
        return NULL;
    }
    uint32_t target = (uint32_t)(address - NK_IMAGE_BASE);
    if (target < nk_symtab[0].offset) {
        return NULL;
    }
    uint32_t low = 0;
    uint32_t high = nk_symtab_count; /* table[low] <= target < table[high] */
    while (high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        if (nk_symtab[mid].offset <= target) {
            low = mid;
        } else {
            high = mid;
        }
    }
    *offset = target - nk_symtab[low].offset;
    return nk_symtab_names + nk_symtab[low].name;
}

/* `at` is looked up, `shown` printed: they differ for return addresses, since the call may be the
 * last instruction of a function that does not return. */
static void print_frame(unsigned depth, uint64_t shown, uint64_t at)
{
    uint64_t offset;
    const char *name = nk_symbol_lookup(at, &offset);
    if (name != NULL) {
        panic_print("  #%-2u 0x%016lx %s+0x%lx\n", depth, shown, name, offset + (shown - at));
    } else {
        panic_print("  #%-2u 0x%016lx\n", depth, shown);
    }
}

/* What an exception or interrupt broke into, when this return address is that of its entry code:
 * a full trap frame, or the registers the interrupt path saves, lie above it. */
static bool interrupted(uint64_t return_address, uint64_t rbp, uint64_t *rip)
{
    uint64_t at = rbp + 16;
    if (return_address == (uint64_t)interrupt_return) {
        at += INTERRUPT_SAVED_BYTES;
    } else if (return_address == (uint64_t)trap_return) {
        at += offsetof(struct nk_trap_frame, rip);
    } else {
        return false;
    }
    if (!panic_readable(at)) {
        return false;
    }
    *rip = *(const uint64_t *)at;
    return true;
}

void nk_backtrace(uint64_t rip, uint64_t rbp)
{
    print_frame(0, rip, rip);
    unsigned depth = 1;
    while (depth < BACKTRACE_DEPTH_MAX && rbp != 0) {
        if (!panic_readable(rbp) || !panic_readable(rbp + 8)) {
            panic_print("  ... frame pointer 0x%lx is broken\n", rbp);
            return;
        }
        const uint64_t *frame = (const uint64_t *)rbp;
        if (frame[1] == 0) {
            return;
        }
        print_frame(depth++, frame[1], frame[1] - 1);
        if (interrupted(frame[1], rbp, &rip)) {
            print_frame(depth++, rip, rip);
        }
        if (frame[0] != 0 && frame[0] <= rbp) { /* callers' frames lie above */
            panic_print("  ... frame pointer 0x%lx is broken\n", frame[0]);
            return;
        }
        rbp = frame[0];
    }
}
