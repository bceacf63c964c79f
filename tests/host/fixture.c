#include "fixture.h"

#include <stdlib.h>
#include <string.h>
#include "core/emulate.h"
#include "core/irq.h"
#include "core/timer.h"

#define ARENA_SLACK VMM_MIB(16) /* for tables and devices, beside guest RAM */

/* For what the tests themselves make: not the library's, so not counted. */
static void *make(size_t size)
{
    void *p = calloc(1, size);

    assert_non_null(p);
    return p;
}

static struct vcpu *make_vcpu(struct fixture *f, unsigned id)
{
    struct vcpu *v = make(sizeof(*v));

    v->id = id;
    v->cpu = -1;
    v->device_page = UINT64_MAX;
    v->parked = VMM_AWAY;
    v->pio = (struct vmm_port){&f->vm->pio, &vmm_no_range};
    v->mmio = (struct vmm_port){&f->vm->mmio, &vmm_no_range};
    v->vm = f->vm;
    v->ops = f->vm->ops;
    v->host = f->vm->host;
    v->backend = f->vmm->backend;
    f->vm->vcpu[id] = v;
    f->vm->vcpu_count = id + 1;
    assert_int_equal(v->backend->vcpu_create(v), 0);
    assert_int_equal(vmm_decode_create(v), 0);
    assert_int_equal(vmm_timers_create(v), 0);
    v->backend->vcpu_reset(v);
    return v;
}

struct fixture *fixture_create(uint64_t mem_bytes, unsigned vcpu_count)
{
    struct fixture *f = make(sizeof(*f));

    f->host = posix_host_create(mem_bytes + ARENA_SLACK, 4, POSIX_CLOCK_VIRTUAL);
    f->vmm = make(sizeof(*f->vmm));
    f->vmm->ops = posix_host_ops(f->host);
    f->vmm->host = f->host;
    f->vmm->backend = vmm_backend_table[0];

    f->vm = make(sizeof(*f->vm));
    f->vm->vmm = f->vmm;
    f->vm->ops = f->vmm->ops;
    f->vm->host = f->host;
    strcpy(f->vm->config.name, "test");
    f->vm->config.vcpu_count = vcpu_count;
    f->vm->config.mem_bytes = mem_bytes;
    f->vm->config.node = -1;
    f->vm->config.power = VM_POWER_STOP;
    f->vm->state = VM_RUNNING;
    f->vm->clock_base_cycles = f->vmm->ops->cycles(f->host);
    assert_int_equal(f->vmm->backend->vm_create(f->vm), 0);
    if (mem_bytes != 0) {
        assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), mem_bytes, VMM_REGION_RAM), 0);
        assert_int_equal(vmm_memory_zero(f->vm, VMM_GPA(0), mem_bytes), 0);
    }
    for (unsigned i = 0; i < vcpu_count; i++) {
        make_vcpu(f, i);
    }
    f->vcpu = f->vm->vcpu[0];
    return f;
}

void fixture_destroy(struct fixture *f)
{
    vmm_devices_destroy(f->vm);
    for (unsigned i = 0; i < f->vm->vcpu_count; i++) {
        struct vcpu *v = f->vm->vcpu[i];

        vmm_timers_destroy(v);
        vmm_decode_destroy(v);
        v->backend->vcpu_destroy(v);
        free(v);
    }
    vmm_memory_destroy(f->vm);
    f->vmm->backend->vm_destroy(f->vm);
    free(f->vm);
    free(f->vmm);
    assert_int_equal(posix_host_destroy(f->host), 0);
    free(f);
}

struct fixture_page fixture_translate(struct vm *vm, uint64_t gpa)
{
    const uint64_t address = UINT64_C(0x000ffffffffff000);
    uint64_t table = vm->nested.root.v;
    struct fixture_page p = {.present = false};

    for (int level = (int)vm->nested.levels - 1; level >= 0; level--) {
        unsigned shift = 12 + 9 * (unsigned)level;
        const uint64_t *entries = vm->ops->hpa_to_va(vm->host, VMM_HPA(table));
        uint64_t entry = entries[gpa >> shift & 511];

        if ((entry & 1) == 0) {
            return p;
        }
        assert_true((entry & 4) != 0); /* nested walks are user accesses */
        if (level == 0 || (entry & 0x80) != 0) {
            p.present = true;
            p.size = UINT64_C(1) << shift;
            p.hpa = (entry & address) + (gpa & (p.size - 1));
            p.flags = entry;
            assert_int_equal(entry & (p.size - 1) & address, 0);
            return p;
        }
        table = entry & address;
    }
    return p;
}

static uint64_t access_bus(struct fixture *f, struct vmm_bus *bus, uint64_t address, unsigned size,
                           bool write, uint64_t value)
{
    struct vdev_access a = {.value = write ? value : ~UINT64_C(0),
                            .size = (uint8_t)size,
                            .write = write,
                            .vcpu = f->vcpu};

    vmm_bus_access(bus, address, &a);
    return size == 8 ? a.value : a.value & ((UINT64_C(1) << (size * 8)) - 1);
}

uint64_t fixture_in(struct fixture *f, uint16_t port, unsigned size)
{
    return access_bus(f, &f->vm->pio, port, size, false, 0);
}

void fixture_out(struct fixture *f, uint16_t port, unsigned size, uint64_t value)
{
    access_bus(f, &f->vm->pio, port, size, true, value);
}

uint64_t fixture_mmio_read(struct fixture *f, uint64_t gpa, unsigned size)
{
    return access_bus(f, &f->vm->mmio, gpa, size, false, 0);
}

void fixture_mmio_write(struct fixture *f, uint64_t gpa, unsigned size, uint64_t value)
{
    access_bus(f, &f->vm->mmio, gpa, size, true, value);
}

void fixture_advance_ns(struct fixture *f, uint64_t ns)
{
    uint64_t end = posix_host_now_ns(f->host) + ns;
    uint64_t next;

    /* A callback may arm a timer that falls due within the same stretch. */
    while (posix_host_next_timer_ns(f->host, &next) && next <= end) {
        uint64_t now = posix_host_now_ns(f->host);

        posix_host_advance_ns(f->host, next > now ? next - now : 0);
        for (unsigned i = 0; i < f->vm->vcpu_count; i++) {
            vmm_timers_run(f->vm->vcpu[i]);
        }
    }
    posix_host_advance_ns(f->host, end - posix_host_now_ns(f->host));
}
