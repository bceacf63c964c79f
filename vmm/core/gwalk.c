/* Guest page walks: linear to guest-physical by the guest's own paging mode.
 * Spec: AMD APM vol. 2 chapter 5; Intel SDM vol. 3 chapter 4. */
#include "core/decode.h"
#include "core/dirty.h"
#include "core/vm.h"

#define CR0_WP    (UINT64_C(1) << 16)
#define CR4_SMEP  (UINT64_C(1) << 20)
#define CR4_SMAP  (UINT64_C(1) << 21)
#define RFLAGS_AC (UINT64_C(1) << 18)

#define PTE_PRESENT  (UINT64_C(1) << 0)
#define PTE_WRITE    (UINT64_C(1) << 1)
#define PTE_USER     (UINT64_C(1) << 2)
#define PTE_ACCESSED (UINT64_C(1) << 5)
#define PTE_DIRTY    (UINT64_C(1) << 6)
#define PTE_LARGE    (UINT64_C(1) << 7)
#define PTE_NX       (UINT64_C(1) << 63)
#define PTE_ADDRESS  UINT64_C(0x000ffffffffff000)
/* Bits that a PAE directory pointer must not have. Bit 5 is one more, but emulators set it: A. */
#define PDPTE_PAE_RESERVED UINT64_C(0x1c6)
#define PDE4M_RESERVED     (UINT64_C(1) << 21)

#define FAULT_PRESENT  (1U << 0)
#define FAULT_WRITE    (1U << 1)
#define FAULT_USER     (1U << 2)
#define FAULT_RESERVED (1U << 3)
#define FAULT_FETCH    (1U << 4)

/* What the entries of a walk allow together. */
enum walk_right {
    RIGHT_WRITE = 1,
    RIGHT_USER = 2,
    RIGHT_EXEC = 4,
    RIGHT_DIRTY = 8, /* the leaf's D is set already */
    RIGHT_ROM = 16,  /* what is written vanishes */
};

static uint32_t fault_bits(const struct vmm_address_mode *p, enum vmm_access access, bool user)
{
    uint32_t error = user ? FAULT_USER : 0;

    if (access == VMM_ACCESS_WRITE) {
        error |= FAULT_WRITE;
    }
    if (access == VMM_ACCESS_FETCH && ((p->efer & EFER_NXE) != 0 || (p->cr4 & CR4_SMEP) != 0)) {
        error |= FAULT_FETCH;
    }
    return error;
}

static bool allowed(const struct vcpu *v, const struct vmm_address_mode *p, unsigned rights,
                    enum vmm_access access, bool user)
{
    if (user && (rights & RIGHT_USER) == 0) {
        return false;
    }
    if (access == VMM_ACCESS_FETCH) {
        bool smep = !user && (p->cr4 & CR4_SMEP) != 0 && (rights & RIGHT_USER) != 0;

        return (rights & RIGHT_EXEC) != 0 && !smep;
    }
    if (!user && (p->cr4 & CR4_SMAP) != 0 && (rights & RIGHT_USER) != 0 &&
        (v->rflags & RFLAGS_AC) == 0) {
        return false;
    }
    if (access == VMM_ACCESS_WRITE && (rights & RIGHT_WRITE) == 0) {
        return !user && (p->cr0 & CR0_WP) == 0;
    }
    return true;
}

static bool is_rom(const struct vm *vm, gpa_t gpa)
{
    const struct vmm_region *r = vmm_memory_find(vm, gpa);

    return r != NULL && r->kind == VMM_REGION_ROM;
}

/* Set A, and D for a write, in the entries of the walk. False: one changed meanwhile, walk again.
 */
static bool mark_used(struct vcpu *v, struct walk_entry *w, bool write, bool is_32bit)
{
    for (unsigned i = 0; i < w->count; i++) {
        void *slot = (void *)w->slot[i];
        bool leaf = i + 1 == w->count;
        uint64_t wanted = w->value[i] | PTE_ACCESSED | (leaf && write ? PTE_DIRTY : 0);
        uint64_t seen = w->value[i];

        if (wanted == seen || is_rom(v->vm, w->at[i])) {
            continue;
        }
        vmm_dirty_wrote(v->vm, w->at[i]);
        if (is_32bit) {
            uint32_t seen32 = (uint32_t)seen;

            if (!__atomic_compare_exchange_n((uint32_t *)slot, &seen32, (uint32_t)wanted, false,
                                             __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
                return false;
            }
        } else if (!__atomic_compare_exchange_n((uint64_t *)slot, &seen, wanted, false,
                                                __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
            return false;
        }
        w->value[i] = wanted;
    }
    return true;
}

/* The host has no page for guest RAM, or lost it. To take that for a table or a device that is not
 * there would have the guest go on with what it never wrote: its vCPU ends the VM. A control call
 * that only looks is told nothing is there. */
static bool is_lost(struct vcpu *v, gpa_t gpa)
{
    if (vmm_memory_find(v->vm, gpa) == NULL) {
        return false;
    }
    if (__atomic_load_n(&v->parked, __ATOMIC_RELAXED) == VMM_ACTIVE &&
        vmm_vm_end(v, VM_REASON_HOST_ERROR)) {
        vmm_vm_log(v->vm, VMM_LOG_ERROR, "vCPU %u: no host memory for guest-physical 0x%llx", v->id,
                   (unsigned long long)gpa.v);
    }
    return true;
}

/* Read the entry at gpa and note it. False: tables outside RAM, taken as not present. */
static bool read_entry(struct vcpu *v, struct walk_entry *w, uint64_t gpa, unsigned size)
{
    const void *slot = vmm_memory_ptr(v->vm, VMM_GPA(gpa), size);

    if (slot == NULL) {
        (void)is_lost(v, VMM_GPA(gpa));
        return false;
    }
    w->slot[w->count] = slot;
    w->at[w->count] = VMM_GPA(gpa);
    w->value[w->count] = size == 4 ? __atomic_load_n((const uint32_t *)slot, __ATOMIC_RELAXED)
                                   : __atomic_load_n((const uint64_t *)slot, __ATOMIC_RELAXED);
    w->count++;
    return true;
}

/* 32-bit tables: returns 0 or the P and RSVD bits of the fault, -1: not present. */
static int walk_32bit(struct vcpu *v, const struct vmm_address_mode *p, uint32_t address,
                      struct walk_entry *w)
{
    uint64_t pde, pte;

    if (!read_entry(v, w, (p->cr3 & 0xfffff000) + ((address >> 22) << 2), 4)) {
        return -1;
    }
    pde = w->value[0];
    if ((pde & PTE_PRESENT) == 0) {
        return -1;
    }
    w->rights &= (uint8_t)((pde & (PTE_WRITE | PTE_USER)) >> 1) | RIGHT_EXEC;
    if ((pde & PTE_LARGE) != 0 && (p->cr4 & CR4_PSE) != 0) {
        if ((pde & PDE4M_RESERVED) != 0) {
            return FAULT_PRESENT | FAULT_RESERVED;
        }
        /* Bits 39:32 of the page's address are in bits 20:13 (PSE-36). */
        w->gpa.v = (pde & 0xffc00000) | ((pde >> 13 & 0xff) << 32) | (address & 0x3ff000);
        return 0;
    }
    if (!read_entry(v, w, (pde & 0xfffff000) + ((address >> 12 & 0x3ff) << 2), 4)) {
        return -1;
    }
    pte = w->value[1];
    if ((pte & PTE_PRESENT) == 0) {
        return -1;
    }
    w->rights &= (uint8_t)((pte & (PTE_WRITE | PTE_USER)) >> 1) | RIGHT_EXEC;
    w->gpa.v = pte & 0xfffff000;
    return 0;
}

static bool reserved_set(const struct vmm_address_mode *p, uint64_t entry, unsigned level,
                         bool pae32)
{
    if ((entry & PTE_NX) != 0 && (p->efer & EFER_NXE) == 0) {
        return true;
    }
    if (pae32 && level == 3) {
        return (entry & (PDPTE_PAE_RESERVED | PTE_NX)) != 0;
    }
    if ((entry & PTE_LARGE) == 0 || level == 1) {
        return false;
    }
    if (level > 3) {
        return true;
    }
    /* Between the PAT bit (12) and the page's address. */
    return (entry & ((UINT64_C(1) << (12 + 9 * (level - 1))) - 1) & ~UINT64_C(0x1fff)) != 0;
}

/* PAE, 4-level and 5-level tables; result as of walk_32bit(). */
static int walk_64bit(struct vcpu *v, const struct vmm_address_mode *p, uint64_t address,
                      struct walk_entry *w)
{
    bool pae32 = (p->efer & EFER_LMA) == 0;
    unsigned level = pae32 ? 3 : (p->cr4 & CR4_LA57) != 0 ? 5 : 4;
    uint64_t table = pae32 ? p->cr3 & 0xffffffe0 : p->cr3 & PTE_ADDRESS;

    for (;; level--) {
        uint64_t entry;

        if (!read_entry(v, w, table + ((address >> (12 + 9 * (level - 1)) & 0x1ff) << 3), 8)) {
            return -1;
        }
        entry = w->value[w->count - 1];
        if ((entry & PTE_PRESENT) == 0) {
            return -1;
        }
        if (reserved_set(p, entry, level, pae32)) {
            return FAULT_PRESENT | FAULT_RESERVED;
        }
        if (pae32 && level == 3) {
            /* A PAE directory pointer grants everything and has no A bit. */
            w->count = 0;
        } else {
            w->rights &= (uint8_t)((entry & (PTE_WRITE | PTE_USER)) >> 1) | RIGHT_EXEC;
            if ((entry & PTE_NX) != 0) {
                w->rights &= (uint8_t)~RIGHT_EXEC;
            }
        }
        if (level == 1 || (level <= 3 && (entry & PTE_LARGE) != 0 && !(pae32 && level == 3))) {
            uint64_t offset_mask = (UINT64_C(1) << (12 + 9 * (level - 1))) - 1;

            w->gpa.v = (entry & PTE_ADDRESS & ~offset_mask) | (address & offset_mask & ~0xfffULL);
            return 0;
        }
        table = entry & PTE_ADDRESS;
    }
}

/* Walk the tables into *w; *w is right for this access afterwards, A and D included. */
static int walk_slow(struct vcpu *v, const struct vmm_address_mode *p, gva_t gva,
                     enum vmm_access access, bool user, struct walk_entry *w,
                     struct vmm_walk_fault *fault)
{
    bool is_32bit = (p->cr4 & CR4_PAE) == 0;
    int bits;

    do {
        w->page = WALK_NO_PAGE;
        w->count = 0;
        w->rights = RIGHT_WRITE | RIGHT_USER | RIGHT_EXEC;
        if ((p->cr0 & CR0_PG) == 0) {
            w->gpa.v = gva.v & ~UINT64_C(0xfff);
            w->rights |= RIGHT_DIRTY;
            break;
        }
        bits = is_32bit ? walk_32bit(v, p, (uint32_t)gva.v, w) : walk_64bit(v, p, gva.v, w);
        if (bits == 0 && !allowed(v, p, w->rights, access, user)) {
            bits = FAULT_PRESENT;
        }
        if (bits != 0) {
            fault->address = gva;
            fault->error = (bits < 0 ? 0 : (uint32_t)bits) | fault_bits(p, access, user);
            return -VMM_EFAULT;
        }
    } while (!mark_used(v, w, access == VMM_ACCESS_WRITE, is_32bit));

    if (w->count != 0 && (w->value[w->count - 1] & PTE_DIRTY) != 0) {
        w->rights |= RIGHT_DIRTY;
    }
    w->host = (uint8_t *)vmm_memory_ptr(v->vm, w->gpa, VMM_PAGE_SIZE);
    if (vmm_unlikely(w->host == NULL) && is_lost(v, w->gpa)) {
        *fault = (struct vmm_walk_fault){.address = gva, .error = fault_bits(p, access, user)};
        return -VMM_EFAULT;
    }
    w->rights |= is_rom(v->vm, w->gpa) ? RIGHT_ROM : 0;
    for (unsigned i = w->count; i < WALK_LEVELS_MAX; i++) {
        static const uint64_t unchanging;

        w->slot[i] = &unchanging;
        w->value[i] = 0;
    }
    w->cr3 = p->cr3;
    w->mode = walk_mode(p);
    /* Not kept: 32-bit entries, whose slots are of another width, and PAE, whose pointers are not
     * among the slots. */
    if ((p->cr0 & CR0_PG) == 0 || (p->efer & EFER_LMA) != 0) {
        w->page = gva.v >> 12;
    }
    return 0;
}

int walk_translate(struct vcpu *v, const struct vmm_address_mode *mode, gva_t gva,
                   enum vmm_access access, struct translation *out, struct vmm_walk_fault *fault)
{
    bool user = mode->cpl == 3;
    struct walk_entry *w;

    if ((mode->efer & EFER_LMA) == 0) {
        gva.v = (uint32_t)gva.v; /* linear addresses wrap at 4 GiB */
    }
    w = walk_slot(v, gva.v);
    if (!walk_holds(w, mode, gva.v >> 12) ||
        (access == VMM_ACCESS_WRITE && (w->rights & RIGHT_DIRTY) == 0) ||
        (w->count != 0 && !allowed(v, mode, w->rights, access, user))) {
        int result = walk_slow(v, mode, gva, access, user, w, fault);

        if (result != 0) {
            return result;
        }
    }
    out->gpa.v = w->gpa.v | (gva.v & 0xfff);
    out->host = w->host != NULL ? w->host + (gva.v & 0xfff) : NULL;
    out->writable = (w->rights & RIGHT_ROM) == 0;
    return 0;
}

/* Both halves of an access that crosses a page are translated before a byte moves. */
static int translate_span(struct vcpu *v, gva_t gva, unsigned len, enum vmm_access access,
                          struct translation *first, struct translation *second,
                          unsigned *first_len, struct vmm_walk_fault *fault)
{
    unsigned room = (unsigned)(VMM_PAGE_SIZE - (gva.v & (VMM_PAGE_SIZE - 1)));
    struct vmm_address_mode mode;
    int result;

    v->backend->get_address_mode(v, &mode);
    result = walk_translate(v, &mode, gva, access, first, fault);
    *first_len = len < room ? len : room;
    if (result == 0 && len > room) {
        result = walk_translate(v, &mode, VMM_GVA(gva.v + room), access, second, fault);
    }
    if (result != 0) {
        return result;
    }
    return first->host == NULL || (len > room && second->host == NULL) ? -VMM_ENOENT : 0;
}

int vmm_linear_read(struct vcpu *v, gva_t gva, void *out, unsigned len, enum vmm_access access,
                    struct vmm_walk_fault *fault)
{
    struct translation first, second;
    unsigned first_len;
    int result = translate_span(v, gva, len, access, &first, &second, &first_len, fault);

    if (result != 0) {
        return result;
    }
    __builtin_memcpy(out, first.host, first_len);
    if (first_len < len) {
        __builtin_memcpy((uint8_t *)out + first_len, second.host, len - first_len);
    }
    return 0;
}

int vmm_linear_write(struct vcpu *v, gva_t gva, const void *data, unsigned len,
                     struct vmm_walk_fault *fault)
{
    struct translation first, second;
    unsigned first_len;
    int result = translate_span(v, gva, len, VMM_ACCESS_WRITE, &first, &second, &first_len, fault);

    if (result != 0) {
        return result;
    }
    if (first.writable) {
        vmm_dirty_wrote(v->vm, first.gpa);
        __builtin_memcpy(first.host, data, first_len);
    }
    if (first_len < len && second.writable) {
        vmm_dirty_wrote(v->vm, second.gpa);
        __builtin_memcpy(second.host, (const uint8_t *)data + first_len, len - first_len);
    }
    return 0;
}
