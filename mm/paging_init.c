#include "base/layout.h"
#include "base/platform.h"
#include "base/spinlock.h"
#include "base/x86.h"
#include "mm/bootmem.h"
#include "mm/paging.h"
#include "mm/paging_impl.h"

#define MSR_PAT  0x277
#define MSR_EFER 0xc0000080
#define EFER_NXE (UINT64_C(1) << 11)

#define PA_BITS_DEFAULT 36 /* of CPUs that do not say */

/* The reset value with entry 4 (PAT=1, PCD=0, PWT=0) made write-combining instead of write-back:
 * WB, WT, UC-, UC, WC, WT, UC-, UC (APM vol. 2, 7.8.1). */
#define PAT_VALUE UINT64_C(0x0007040100070406)

#define VGA_BASE      UINT64_C(0xa0000)
#define BIOS_BASE     UINT64_C(0xc0000)
#define LOW_END       UINT64_C(0x100000)
#define LARGE_SIZE    NK_MIB(2)
#define MMIO_AREA_END (NK_MMIO_BASE + NK_GIB(16384))

/* boot/kernel.ld */
extern char _text[], _etext[], _rodata[], _erodata[], _data[], _end[];
extern char boot_stack_guard[]; /* boot/entry.asm: the page below the boot stack */

static uint64_t mmio_next = NK_MMIO_BASE;
static struct nk_spinlock mmio_lock = NK_SPINLOCK_INIT(NK_RANK_PAGETABLE);

static void must_map(uint64_t va, pa_t pa, uint64_t size, unsigned prot)
{
    int err = paging_map(va, pa, size, prot);
    if (err != 0) {
        nk_panic("paging: cannot map %#lx: error %d", (unsigned long)va, err);
    }
}

static void map_section(const char *from, const char *to, unsigned prot)
{
    if (from < to) {
        must_map((uint64_t)from, nk_va_to_pa(from), (uint64_t)(to - from), prot);
    }
}

static void map_direct(void)
{
    /* What firmware left below 1 MiB (BIOS data, RSDP) is read there. */
    bootmem_map_only(NK_PA(0), VGA_BASE);
    bootmem_map_only(NK_PA(BIOS_BASE), LOW_END - BIOS_BASE);
    pa_t pa;
    uint64_t size;
    for (unsigned i = 0; bootmem_mapped_range(i, &pa, &size); i++) {
        must_map((uint64_t)nk_pa_to_va(pa), pa, size, PAGING_WRITE);
    }
    /* No second, writable way to the image's text and constants. */
    uint64_t text = (uint64_t)nk_pa_to_va(nk_va_to_pa(_text));
    if (paging_protect(text, (uint64_t)(_erodata - _text), PAGING_READ) != 0) {
        nk_panic("paging: cannot protect the kernel's text");
    }
}

static void detect_features(void)
{
    uint32_t leaf_max = x86_cpuid(0x80000000, 0).eax;
    unsigned bits = leaf_max >= 0x80000008 ? x86_cpuid(0x80000008, 0).eax & 0xff : PA_BITS_DEFAULT;
    paging_features.pa_end = UINT64_C(1) << bits;
    if (leaf_max >= 0x80000001) {
        uint32_t edx = x86_cpuid(0x80000001, 0).edx;
        paging_features.nx = (edx & 1u << 20) != 0;
        paging_features.gib_pages = (edx & 1u << 26) != 0;
    }
}

void paging_init(void)
{
    detect_features();
    paging_make_root();
    map_direct();
    map_section(_text, _etext, PAGING_EXEC);
    map_section(_rodata, _erodata, PAGING_READ);
    map_section(_data, _end, PAGING_WRITE);
    paging_unmap((uint64_t)boot_stack_guard, NK_PAGE_SIZE);
    paging_init_cpu();
    bootmem_set_all_mapped();
}

void paging_init_cpu(void)
{
    if (paging_features.nx) {
        x86_wrmsr(MSR_EFER, x86_rdmsr(MSR_EFER) | EFER_NXE);
    }
    x86_wrmsr(MSR_PAT, PAT_VALUE);
    x86_write_cr3(paging_root().v);
    x86_write_cr4(x86_read_cr4() | CR4_PGE);
}

void *paging_map_mmio(pa_t pa, uint64_t size)
{
    uint64_t first = nk_align_down(pa.v, NK_PAGE_SIZE);
    uint64_t length = nk_align_up(pa.v + size, NK_PAGE_SIZE) - first;
    /* Congruent to the physical address, so that large pages fit; a page stays free in between. */
    uint64_t align = length >= LARGE_SIZE ? LARGE_SIZE : NK_PAGE_SIZE;
    nk_spin_lock(&mmio_lock);
    uint64_t va = nk_align_up(mmio_next, align) + (first & (align - 1));
    bool fits = length <= MMIO_AREA_END - va;
    if (fits) {
        mmio_next = va + length + NK_PAGE_SIZE;
    }
    nk_spin_unlock(&mmio_lock);
    if (!fits || paging_map(va, NK_PA(first), length, PAGING_WRITE | PAGING_UNCACHED) != 0) {
        return NULL;
    }
    return (void *)(va + (pa.v - first));
}
