/* Guest memory under vCPUs that run: each vCPU's thread is the real run loop, its guest a script
 * that walks the nested tables as hardware does, with a TLB of its own that it gives up only when a
 * back end would. A page that is given back too early is poisoned, and the sanitizer says so. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "core/dirty.h"
#include "core/reclaim.h"
#include "scripted.h"

#define VCPUS     3
#define FIRST     VMM_MIB(8) /* guest-physical, of the pages that the guests use */
#define PER_VCPU  200        /* pages */
#define TLB       64
#define EXTRA     VMM_MIB(64)
#define PER_ENTRY 1000 /* accesses: a kick takes its time */
#define ENOUGH    2000 /* accesses of each vCPU in a test */

struct guest {
    uint64_t flush_generation;
    struct {
        uint64_t gpa;
        uint8_t *page;
        bool write;
    } tlb[TLB];
    uint64_t expected[PER_VCPU];
    unsigned seed;
    uint64_t accesses, faults, flushes, open_bus;
};

static struct scripted *m;
static struct guest guest[VCPUS];
static _Atomic bool stopping, discards;

static uint64_t gpa_of(unsigned id, unsigned page)
{
    return FIRST + (uint64_t)(id * PER_VCPU + page) * VMM_PAGE_SIZE;
}

/* Before an entry: what a back end does. */
static void flush_tlb(struct vcpu *v, struct guest *g)
{
    uint64_t now = __atomic_load_n(&v->vm->nested.flush_generation, __ATOMIC_ACQUIRE);

    if (g->flush_generation != now) {
        g->flush_generation = now;
        memset(g->tlb, 0, sizeof(g->tlb));
        g->flushes++;
    }
}

/* The page that gpa is on, NULL: a nested fault. */
static uint8_t *translate(struct vcpu *v, struct guest *g, uint64_t gpa, bool write)
{
    unsigned slot = (unsigned)(gpa / VMM_PAGE_SIZE) % TLB, level;
    uint64_t value;

    if (g->tlb[slot].gpa == gpa && g->tlb[slot].page != NULL && (g->tlb[slot].write || !write)) {
        return g->tlb[slot].page;
    }
    vmm_nested_look(v->vm, VMM_GPA(gpa), &level, &value);
    if (!nested_is_page(value, level) || (write && (value & mock_nested_format.write) == 0)) {
        return NULL;
    }
    value &= NESTED_ADDRESS & -(UINT64_C(1) << nested_shift(level));
    g->tlb[slot].gpa = gpa;
    g->tlb[slot].write = write;
    g->tlb[slot].page = (uint8_t *)v->ops->hpa_to_va(v->host, VMM_HPA(value)) +
                        (gpa & ((UINT64_C(1) << nested_shift(level)) - 1));
    return g->tlb[slot].page;
}

static bool access_page(struct vcpu *v, struct guest *g, unsigned page, bool write)
{
    uint64_t gpa = gpa_of(v->id, page);
    uint64_t *word = (uint64_t *)(void *)translate(v, g, gpa, write);

    if (word == NULL) {
        return false;
    }
    /* What this vCPU alone writes holds what it wrote, wherever the page has been meanwhile. */
    assert_int_equal(__atomic_load_n(&word[3], __ATOMIC_RELAXED), g->expected[page]);
    if (write) {
        __atomic_store_n(&word[3], ++g->expected[page], __ATOMIC_RELAXED);
    }
    return true;
}

/* In a handler's place: the guest's balloon driver gives a page. */
static void give_page(struct vcpu *v, struct guest *g, unsigned page)
{
    uint32_t number = (uint32_t)(gpa_of(v->id, page) / VMM_PAGE_SIZE);

    if (vmm_memory_discard(v->vm, &number, 1) == 1) {
        g->expected[page] = 0;
    }
}

/* A device's range that comes and goes: the device answers, or nobody does. */
#define RANGE       UINT64_C(0xd0000000)
#define RANGE_VALUE 0x5a

static _Atomic uint64_t answered, unanswered;

static void range_access(struct vdev *dev, struct vdev_access *a)
{
    (void)dev;
    a->value = RANGE_VALUE + a->offset;
}

static int range_create(struct vdev *dev)
{
    (void)dev;
    return 0;
}

static void range_reset(struct vdev *dev)
{
    (void)dev;
}

static const struct vdev_class range_class = {
    .name = "range", .create = range_create, .reset = range_reset};

static void touch_range(struct vcpu *v)
{
    struct vdev_access a = {.size = 1, .vcpu = v};

    if (vmm_port_access(&v->mmio, RANGE + 3, &a)) {
        assert_int_equal(a.value, RANGE_VALUE + 3);
        answered++;
    } else {
        assert_int_equal(a.value, 0xff);
        unanswered++;
    }
}

/* Sometimes there, sometimes not: then it reads as all ones, through the bus. */
static void touch_extra(struct vcpu *v, struct guest *g)
{
    struct vdev_access a = {.size = 8, .vcpu = v};

    if (vmm_memory_fault(v, VMM_GPA(EXTRA + 0x2000), true) == -VMM_ENOENT) {
        assert_false(vmm_port_access(&v->mmio, EXTRA + 0x2000, &a));
        assert_int_equal(a.value, UINT64_MAX);
        g->open_bus++;
    }
}

static void run_guest(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    struct guest *g = &guest[v->id];

    (void)arg;
    if (stopping) {
        vmm_request_power_off(v->vm);
        e->kind = VMM_EXIT_intr;
        return;
    }
    flush_tlb(v, g);
    for (unsigned i = 0; i < PER_ENTRY; i++) {
        unsigned page = (unsigned)rand_r(&g->seed) % PER_VCPU;
        bool write = rand_r(&g->seed) % 2 == 0;

        if (i == PER_ENTRY / 2) { /* in the guest, on a CPU of its own, while others go on */
            v->ops->thread_yield(v->host);
        }
        if (!access_page(v, g, page, write)) {
            e->kind = VMM_EXIT_nested_fault;
            e->fault.gpa = VMM_GPA(gpa_of(v->id, page));
            e->fault.write = write;
            g->faults++;
            return;
        }
        __atomic_add_fetch(&g->accesses, 1, __ATOMIC_RELAXED);
    }
    e->kind = VMM_EXIT_intr;
    v->ops->thread_yield(v->host); /* there are fewer CPUs than threads */
    /* Out of the guest: what handlers do. in_guest is still set, which costs a kick at most. */
    if (rand_r(&g->seed) % 4 == 0) {
        touch_extra(v, g);
        touch_range(v);
    }
    if (discards && rand_r(&g->seed) % 16 == 0) {
        give_page(v, g, (unsigned)rand_r(&g->seed) % PER_VCPU);
    }
}

static int make(bool lazy)
{
    m = scripted_host(VCPUS);
    m->config.lazy_memory = lazy;
    assert_int_equal(vmm_vm_create(m->vmm, &m->config, &m->vm, &m->err), 0);
    memset(guest, 0, sizeof(guest));
    stopping = discards = false;
    for (unsigned i = 0; i < VCPUS; i++) {
        guest[i].seed = i + 1;
        mock_set_script(m->vm->vcpu[i], run_guest, NULL);
    }
    assert_int_equal(vmm_memory_zero(m->vm, VMM_GPA(FIRST), VCPUS * PER_VCPU * VMM_PAGE_SIZE), 0);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return make(false);
}

static int setup_lazy(void **state)
{
    (void)state;
    return make(true);
}

static void start(void)
{
    assert_int_equal(vmm_vm_start(m->vm, &m->err), 0);
    for (unsigned i = 1; i < VCPUS; i++) { /* no startup IPI: they just begin */
        m->vm->vcpu[i]->wait_sipi = false;
        __atomic_store_n(&m->vm->vcpu[i]->halted, 0, __ATOMIC_SEQ_CST);
        vmm_vcpu_request(m->vm->vcpu[i], VMM_REQ_INTR);
    }
}

static void stop(void)
{
    for (unsigned i = 0; i < VCPUS; i++) {
        while (vmm_vm_state(m->vm) == VM_RUNNING &&
               __atomic_load_n(&guest[i].accesses, __ATOMIC_RELAXED) < ENOUGH) {
            m->vm->ops->thread_yield(m->host);
        }
    }
    stopping = true;
    while (vmm_vm_state(m->vm) == VM_RUNNING) {
        m->vm->ops->thread_yield(m->host);
    }
}

static void check_contents(void)
{
    for (unsigned id = 0; id < VCPUS; id++) {
        for (unsigned page = 0; page < PER_VCPU; page++) {
            uint64_t word[4];

            assert_int_equal(vmm_vm_read_memory(m->vm, gpa_of(id, page), word, sizeof(word)), 0);
            assert_int_equal(word[3], guest[id].expected[page]);
        }
    }
}

static int teardown(void **state)
{
    (void)state;
    stop();
    scripted_destroy(m);
    return 0;
}

static void swapped_pages_come_back_under_running_vcpus(void **state)
{
    uint64_t moved, total = 0;

    (void)state;
    discards = true;
    start();
    for (unsigned i = 0; i < 150; i++) {
        assert_int_equal(vmm_vm_swap_out(m->vm, (1 + i * 7 % 300) * VMM_PAGE_SIZE, &moved), 0);
        total += moved;
    }
    stop();
    check_contents();
    assert_true(total > VMM_MIB(1));
    assert_true(guest[0].faults > 0 && guest[0].flushes > 0);
}

static void a_copy_made_by_the_log_is_complete(void **state)
{
    const struct vmm_region *r;
    uint64_t bits[VMM_MIB(16) / 4096 / 64];
    uint8_t *copy = calloc(1, VMM_MIB(16));

    (void)state;
    start();
    vmm_control_enter(m->vm);
    r = vmm_memory_find(m->vm, VMM_GPA(FIRST));
    assert_int_equal(vmm_dirty_start(m->vm), 0);
    for (uint64_t at = 0; at < r->size; at += VMM_PAGE_SIZE) {
        assert_int_equal(vmm_memory_read(m->vm, VMM_GPA(r->base.v + at), copy + at, 4096), 0);
    }
    for (unsigned round = 0; round < 40; round++) {
        if (round == 39) { /* the last one stands still */
            (void)vmm_control_leave(m->vm, 0);
            stop();
            vmm_control_enter(m->vm);
        }
        assert_int_equal(vmm_dirty_fetch(m->vm, r, bits), 0);
        for (uint64_t at = 0; at < r->size; at += VMM_PAGE_SIZE) {
            if ((bits[at / 4096 / 64] >> at / 4096 % 64 & 1) != 0) {
                assert_int_equal(vmm_memory_read(m->vm, VMM_GPA(r->base.v + at), copy + at, 4096),
                                 0);
            }
        }
    }
    vmm_dirty_stop(m->vm);
    (void)vmm_control_leave(m->vm, 0);
    for (unsigned id = 0; id < VCPUS; id++) {
        for (unsigned page = 0; page < PER_VCPU; page++) {
            uint64_t word;

            memcpy(&word, copy + (gpa_of(id, page) - r->base.v) + 24, 8);
            assert_int_equal(word, guest[id].expected[page]);
        }
    }
    free(copy);
}

/* Nothing but first touches, of the same 2 MiB at the same time. */
static void first_touches_meet(void **state)
{
    const uint64_t last = gpa_of(VCPUS, 0) - 1;
    uint64_t large = last / VMM_MIB(2) - FIRST / VMM_MIB(2) + 1;

    (void)state;
    assert_int_equal(m->vm->nested.page_count, 0);
    start();
    stop();
    check_contents();
    assert_true(m->vm->nested.page_count >= large * 512);
    for (uint64_t gpa = FIRST; gpa < last; gpa += VMM_MIB(2)) {
        assert_int_equal(fixture_translate(m->vm, gpa).size, VMM_MIB(2));
    }
}

static void regions_come_and_go_under_running_vcpus(void **state)
{
    uint64_t used, seen = 0;

    (void)state;
    start();
    used = posix_host_pages_used(m->host) - m->vm->nested.table_count;
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(vmm_vm_add_memory(m->vm, EXTRA, VMM_MIB(4), NULL), 0);
        m->vm->ops->thread_yield(m->host);
        assert_int_equal(vmm_vm_remove_memory(m->vm, EXTRA), 0);
        m->vm->ops->thread_yield(m->host);
    }
    stop();
    check_contents();
    assert_int_equal(posix_host_pages_used(m->host) - m->vm->nested.table_count, used);
    for (unsigned i = 0; i < VCPUS; i++) {
        seen += guest[i].open_bus;
    }
    assert_true(seen > 0);
}

static void ranges_come_and_go_under_running_vcpus(void **state)
{
    struct vdev *dev;
    uint64_t seen;

    (void)state;
    assert_int_equal(vdev_create(m->vm, &range_class, &dev), 0);
    answered = unanswered = 0;
    start();
    for (unsigned i = 0; i < 60; i++) {
        seen = answered;
        assert_int_equal(vdev_claim(dev, VDEV_MMIO, RANGE, 0x1000, range_access), 0);
        while (answered == seen) {
            m->vm->ops->thread_yield(m->host);
        }
        seen = unanswered;
        assert_int_equal(vdev_unclaim(dev, VDEV_MMIO, RANGE), 0);
        while (unanswered == seen) {
            m->vm->ops->thread_yield(m->host);
        }
    }
    stop();
    check_contents();
}

/* One page, given away and touched again without end, while others ask for pointers to it: they get
 * that page as it is or as it was, none else. */
#define GIVEN 12000

static void run_pointers(struct vcpu *v, struct vmm_exit *e, void *arg)
{
    struct guest *g = &guest[v->id];

    (void)arg;
    if (stopping) {
        vmm_request_power_off(v->vm);
    }
    for (unsigned i = 0; i < PER_ENTRY && !stopping; i++) {
        if (v->id == 0) {
            give_page(v, g, 0);
        }
        assert_int_equal(*(const uint8_t *)vmm_memory_ptr(v->vm, VMM_GPA(gpa_of(0, 0)), 1), 0);
        __atomic_add_fetch(&g->accesses, 1, __ATOMIC_RELAXED);
        if (i % 64 == 63) {
            break; /* and let the pages that were given go */
        }
    }
    e->kind = VMM_EXIT_intr;
}

static void pointers_are_to_the_page_that_was_found(void **state)
{
    (void)state;
    for (unsigned i = 0; i < VCPUS; i++) {
        mock_set_script(m->vm->vcpu[i], run_pointers, NULL);
    }
    start();
    while (__atomic_load_n(&guest[0].accesses, __ATOMIC_RELAXED) < GIVEN) {
        m->vm->ops->thread_yield(m->host);
    }
    stop();
}

static void all_of_it_at_once(void **state)
{
    static uint64_t bits[VMM_MIB(16) / 4096 / 64];
    uint64_t moved;

    (void)state;
    discards = true;
    start();
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(vmm_vm_add_memory(m->vm, EXTRA, VMM_MIB(4), NULL), 0);
        vmm_control_enter(m->vm);
        assert_int_equal(vmm_dirty_start(m->vm), 0);
        (void)vmm_control_leave(m->vm, 0);
        assert_int_equal(vmm_vm_swap_out(m->vm, VMM_MIB(1), &moved), 0);
        vmm_control_enter(m->vm);
        assert_int_equal(vmm_dirty_fetch(m->vm, vmm_memory_find(m->vm, VMM_GPA(FIRST)), bits), 0);
        vmm_dirty_stop(m->vm);
        (void)vmm_control_leave(m->vm, 0);
        assert_int_equal(vmm_vm_pause(m->vm), 0);
        assert_int_equal(vmm_vm_swap_out(m->vm, VMM_MIB(1), &moved), 0);
        assert_int_equal(vmm_vm_resume(m->vm), 0);
        assert_int_equal(vmm_vm_remove_memory(m->vm, EXTRA), 0);
    }
    stop();
    check_contents();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define LAZY(name)                                                                                 \
    {                                                                                              \
#name "_lazy", name, setup_lazy, teardown, NULL                                            \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(swapped_pages_come_back_under_running_vcpus),
        TEST(a_copy_made_by_the_log_is_complete),
        TEST(regions_come_and_go_under_running_vcpus),
        TEST(ranges_come_and_go_under_running_vcpus),
        TEST(pointers_are_to_the_page_that_was_found),
        TEST(all_of_it_at_once),
        LAZY(first_touches_meet),
        LAZY(swapped_pages_come_back_under_running_vcpus),
        LAZY(a_copy_made_by_the_log_is_complete),
        LAZY(pointers_are_to_the_page_that_was_found),
        LAZY(all_of_it_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
