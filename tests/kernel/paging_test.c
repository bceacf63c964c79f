/* Tests of mm/paging*.c and mm/stacks.c. */
#include "mm/paging.h"

#include <errno.h>
#include <string.h>

#include "base/layout.h"
#include "kernel/cpu.h"
#include "kernel/trap.h"
#include "mm/bootmem.h"
#include "mm/buddy.h"
#include "tests/kernel/ktest.h"

#define TEST_VA UINT64_C(0xffffe00000000000) /* nothing else lives there */

extern char _text[], _etext[], _rodata[], _erodata[], _data[], _end[], boot_stack_guard[];

/* What paging_translate() can tell of `prot`: without NX everything may be executed. */
static unsigned visible(unsigned prot)
{
    return nk_cpu_features.nx ? prot : prot | PAGING_EXEC;
}

static void expect_section(const char *from, const char *to, unsigned prot)
{
    for (const char *va = from; va < to; va += NK_PAGE_SIZE) {
        pa_t pa;
        unsigned got;
        if (va == boot_stack_guard) {
            EXPECT_EQ(paging_translate((uint64_t)va, &pa, &got), -ENOENT);
            continue;
        }
        ASSERT_EQ(paging_translate((uint64_t)va, &pa, &got), 0);
        ASSERT_EQ(pa.v, (uint64_t)va - NK_IMAGE_BASE);
        ASSERT_EQ(got, visible(prot));
    }
}

KTEST(paging_image)
{
    expect_section(_text, _etext, PAGING_EXEC);
    expect_section(_rodata, _erodata, PAGING_READ);
    expect_section(_data, _end, PAGING_WRITE);
    pa_t pa;
    EXPECT_EQ(paging_translate(0, &pa, NULL), -ENOENT);
    EXPECT_EQ(paging_translate(NK_IMAGE_BASE, &pa, NULL), -ENOENT);
    EXPECT_EQ(paging_translate((uint64_t)_end, &pa, NULL), -ENOENT);
}

KTEST(paging_direct_map)
{
    pa_t base, pa;
    uint64_t length;
    unsigned prot;
    for (unsigned i = 0; bootmem_free_range(i, &base, &length); i++) {
        for (uint64_t at = 0; at < length; at += length < NK_MIB(64) ? NK_PAGE_SIZE : NK_MIB(1)) {
            ASSERT_EQ(paging_translate((uint64_t)nk_pa_to_va(base) + at, &pa, &prot), 0);
            ASSERT_EQ(pa.v, base.v + at);
            ASSERT_EQ(prot & PAGING_EXEC, visible(0));
        }
    }
    /* The image's text cannot be written through the direct map either; holes are not there. */
    EXPECT_EQ(paging_translate(NK_DIRECT_BASE + NK_IMAGE_LOAD, &pa, &prot), 0);
    EXPECT_EQ(prot, visible(PAGING_READ));
    EXPECT_EQ(paging_translate(NK_DIRECT_BASE + bootmem_ram_end(), &pa, NULL), -ENOENT);
    EXPECT_EQ(paging_translate(NK_DIRECT_BASE + UINT64_C(0xa0000), &pa, NULL), -ENOENT);
    EXPECT_EQ(paging_translate(NK_DIRECT_BASE + UINT64_C(0xfee00000), &pa, NULL), -ENOENT);
}

KTEST(paging_map_and_unmap)
{
    pa_t block, pa;
    unsigned prot;
    ASSERT_EQ(buddy_alloc(10, BUDDY_NODE_ANY, &block), 0);
    EXPECT_EQ(paging_map(TEST_VA, block, NK_MIB(4), PAGING_WRITE | PAGING_EXEC), -EINVAL);
    EXPECT_EQ(paging_map(TEST_VA + 1, block, NK_MIB(4), PAGING_WRITE), -EINVAL);
    EXPECT_EQ(paging_map(TEST_VA, block, 0, PAGING_WRITE), -EINVAL);
    EXPECT_EQ(paging_map(TEST_VA, NK_PA(UINT64_C(1) << 52), NK_PAGE_SIZE, PAGING_WRITE), -EINVAL);
    EXPECT_EQ(paging_map(TEST_VA, NK_PA(-NK_PAGE_SIZE), NK_MIB(4), PAGING_WRITE), -EINVAL);
    ASSERT_EQ(paging_map(TEST_VA, block, NK_MIB(4), PAGING_WRITE), 0);
    EXPECT_EQ(paging_map(TEST_VA + NK_MIB(4) - NK_PAGE_SIZE, block, NK_PAGE_SIZE, 0), -EEXIST);
    volatile uint64_t *p = (volatile uint64_t *)TEST_VA;
    for (uint64_t i = 0; i < NK_MIB(4) / 8; i += 512) {
        p[i] = i;
        ASSERT_EQ(((uint64_t *)nk_pa_to_va(block))[i], i);
    }
    /* A hole in a large page: its neighbours stay. */
    paging_unmap(TEST_VA + NK_MIB(1), NK_PAGE_SIZE);
    EXPECT_EQ(paging_translate(TEST_VA + NK_MIB(1), &pa, NULL), -ENOENT);
    EXPECT_EQ(paging_translate(TEST_VA + NK_MIB(1) - 1, &pa, &prot), 0);
    EXPECT_EQ(pa.v, block.v + NK_MIB(1) - 1);
    EXPECT_EQ(prot, visible(PAGING_WRITE));
    EXPECT_EQ(paging_translate(TEST_VA + NK_MIB(1) + NK_PAGE_SIZE, &pa, NULL), 0);
    EXPECT_EQ(paging_map(TEST_VA, block, NK_MIB(2), PAGING_WRITE), -EEXIST);
    EXPECT_EQ(paging_map(TEST_VA + NK_MIB(1), block, NK_PAGE_SIZE, PAGING_READ), 0);
    EXPECT_EQ(p[NK_MIB(1) / 8], 0); /* the block's first word */
    /* Rights of a part, across a small and a large page. */
    ASSERT_EQ(paging_protect(TEST_VA + NK_MIB(1), NK_MIB(3), PAGING_READ), 0);
    EXPECT_EQ(paging_translate(TEST_VA + NK_MIB(3), &pa, &prot), 0);
    EXPECT_EQ(prot, visible(PAGING_READ));
    EXPECT_EQ(paging_translate(TEST_VA, &pa, &prot), 0);
    EXPECT_EQ(prot, visible(PAGING_WRITE));
    paging_unmap(TEST_VA, NK_MIB(4));
    for (uint64_t at = 0; at < NK_MIB(4); at += NK_PAGE_SIZE) {
        ASSERT_EQ(paging_translate(TEST_VA + at, &pa, NULL), -ENOENT);
    }
    buddy_free(block, 10);
}

static volatile uint64_t fault_address, fault_count;
static char *volatile resume_at;

static bool note_fault(struct nk_trap_frame *f)
{
    fault_address = x86_read_cr2();
    fault_count++;
    f->rip = (uint64_t)resume_at;
    return true;
}

/* Does a write fault? */
static NK_NOINLINE bool write_faults(void *va)
{
    nk_trap_handler old = nk_trap_set_handler(14, note_fault);
    uint64_t count = fault_count;
    __asm__ volatile("leaq 1f(%%rip), %%rax\n\t"
                     "movq %%rax, %0\n\t"
                     "movb %%al, (%1)\n\t"
                     "1:"
                     : "=m"(resume_at)
                     : "r"(va)
                     : "rax", "memory");
    nk_trap_set_handler(14, old);
    return fault_count != count && fault_address == (uint64_t)va;
}

KTEST(paging_protection_works)
{
    static char writable;
    EXPECT(!write_faults(&writable));
    EXPECT(write_faults(_text));
    EXPECT(write_faults(_rodata));
    EXPECT(write_faults(nk_pa_to_va(nk_va_to_pa(_text))));
    EXPECT(write_faults(NULL));
    EXPECT(write_faults(boot_stack_guard));
}

KTEST(paging_mmio)
{
    pa_t pa;
    unsigned prot;
    char *lapic = paging_map_mmio(NK_PA(0xfee00030), 4); /* the version register */
    ASSERT(lapic != NULL);
    ASSERT_EQ(paging_translate((uint64_t)lapic, &pa, &prot), 0);
    EXPECT_EQ(pa.v, 0xfee00030);
    EXPECT_EQ(prot, visible(PAGING_WRITE | PAGING_UNCACHED));
    EXPECT_NE(*(volatile uint32_t *)lapic & 0xff, 0);
    char *second = paging_map_mmio(NK_PA(0xfee00000), 4096);
    ASSERT(second != NULL);
    EXPECT_NE((uint64_t)second & ~UINT64_C(0xfff), (uint64_t)lapic & ~UINT64_C(0xfff));
    EXPECT_EQ(paging_translate((uint64_t)second + 4096, &pa, NULL), -ENOENT);
}

KTEST(paging_stacks)
{
    enum { COUNT = 100 }; /* more than the pool keeps */
    static char *stack[COUNT];
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            stack[i] = paging_stack_alloc(BUDDY_NODE_ANY);
            ASSERT(stack[i] != NULL);
            uint64_t high = (uint64_t)stack[i], low = nk_align_down(high - 1, NK_PAGE_SIZE);
            while (!paging_is_stack_guard(low - 1)) {
                low -= NK_PAGE_SIZE;
            }
            EXPECT_EQ(high % 16, 0);
            memset((char *)low, (int)i, high - low);
            pa_t pa;
            EXPECT_EQ(paging_translate(low - 1, &pa, NULL), -ENOENT);
            EXPECT(!paging_is_stack_guard(low));
            EXPECT(!paging_is_stack_guard(high - 1));
        }
        for (unsigned i = 0; i < COUNT; i++) {
            EXPECT_EQ(stack[i][-1], (char)i);
            paging_stack_free(stack[i]);
        }
    }
    EXPECT(!paging_is_stack_guard(0));
    EXPECT(!paging_is_stack_guard(NK_DIRECT_BASE));
}
