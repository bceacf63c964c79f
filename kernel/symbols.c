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

unsigned nk_backtrace_collect(uint64_t rip, uint64_t rbp, struct nk_backtrace_entry *out,
                              unsigned max)
{
    unsigned depth = 0;
    out[depth++] = (struct nk_backtrace_entry){rip, rip};
    while (depth < max && rbp != 0 && panic_readable(rbp) && panic_readable(rbp + 8)) {
        const uint64_t *frame = (const uint64_t *)rbp;
        if (frame[1] == 0) {
            break;
        }
        /* The call may be the last instruction of a function that does not return. */
        out[depth++] = (struct nk_backtrace_entry){frame[1], frame[1] - 1};
        if (depth < max && interrupted(frame[1], rbp, &rip)) {
            out[depth++] = (struct nk_backtrace_entry){rip, rip};
        }
        if (frame[0] <= rbp) { /* callers' frames lie above; 0 ends the chain */
            break;
        }
        rbp = frame[0];
    }
    return depth;
}

void nk_backtrace(uint64_t rip, uint64_t rbp)
{
    struct nk_backtrace_entry entry[BACKTRACE_DEPTH_MAX];
    unsigned depth = nk_backtrace_collect(rip, rbp, entry, BACKTRACE_DEPTH_MAX);
    for (unsigned i = 0; i < depth; i++) {
        uint64_t offset;
        const char *name = nk_symbol_lookup(entry[i].looked_up, &offset);
        if (name != NULL) {
            panic_print("  #%-2u 0x%016lx %s+0x%lx\n", i, entry[i].address, name,
                        offset + (entry[i].address - entry[i].looked_up));
        } else {
            panic_print("  #%-2u 0x%016lx\n", i, entry[i].address);
        }
    }
}
