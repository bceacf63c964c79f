/* IDT, expected faults, interrupt handlers. */
#include "tests/guest/lib/guest.h"

#define GATE_INTERRUPT 0x8e00 /* present, DPL 0, 64-bit interrupt gate */
#define GATE_PRESENT   0x8000
#define GATE_USER      0x6000
#define GATE_IST       7

struct gate {
    uint16_t offset_low, selector, attributes, offset_middle;
    uint32_t offset_high, reserved;
};

extern const uint64_t guest_vectors[256];
extern const uint64_t guest_fixups[][2], guest_fixups_end[][2];

void guest_interrupt(struct guest_frame *frame);

static struct gate idt[256] NK_ALIGNED(16);
static guest_handler handlers[256];
static unsigned fault_vector;
static uint64_t fault_error;

void guest_set_gate(uint8_t vector, const void *entry)
{
    uint64_t offset = (uint64_t)entry;
    idt[vector] = (struct gate){
        .offset_low = (uint16_t)offset,
        .selector = GUEST_CODE64,
        .attributes = GATE_INTERRUPT,
        .offset_middle = (uint16_t)(offset >> 16),
        .offset_high = (uint32_t)(offset >> 32),
    };
}

static void change_gate(uint8_t vector, uint16_t clear, uint16_t set)
{
    idt[vector].attributes = (uint16_t)((idt[vector].attributes & ~clear) | set);
}

void guest_set_ist(uint8_t vector, unsigned ist)
{
    change_gate(vector, GATE_IST, (uint16_t)ist);
}

void guest_gate_present(uint8_t vector, bool present)
{
    change_gate(vector, GATE_PRESENT, present ? GATE_PRESENT : 0);
}

void guest_gate_for_all(uint8_t vector)
{
    change_gate(vector, 0, GATE_USER);
}

void guest_trap_load(void)
{
    const struct {
        uint16_t limit;
        uint64_t base;
    } NK_PACKED idtr = {sizeof(idt) - 1, (uint64_t)idt};
    __asm__ volatile("lidt %0" : : "m"(idtr));
}

void guest_trap_init(void)
{
    for (unsigned i = 0; i < 256; i++) {
        guest_set_gate((uint8_t)i, (const void *)guest_vectors[i]);
    }
    guest_trap_load();
}

void guest_set_handler(uint8_t vector, guest_handler fn)
{
    handlers[vector] = fn;
}

void guest_fault_clear(void)
{
    fault_vector = GUEST_NO_FAULT;
    fault_error = 0;
}

unsigned guest_fault_vector(void)
{
    return *(volatile unsigned *)&fault_vector;
}

uint64_t guest_fault_error(void)
{
    return *(volatile uint64_t *)&fault_error;
}

static bool fix_up(struct guest_frame *frame)
{
    for (const uint64_t(*f)[2] = guest_fixups; f < guest_fixups_end; f++) {
        if ((*f)[0] == frame->rip) {
            fault_vector = (unsigned)frame->vector;
            fault_error = frame->error;
            frame->rip = (*f)[1];
            return true;
        }
    }
    return false;
}

void guest_interrupt(struct guest_frame *frame)
{
    if (handlers[frame->vector]) {
        handlers[frame->vector](frame);
        return;
    }
    if (frame->vector < 32 && fix_up(frame)) {
        return;
    }
    guest_printf("guest: unexpected vector %lu, error 0x%lx, rip 0x%lx, cr2 0x%lx\n", frame->vector,
                 frame->error, frame->rip, x86_read_cr2());
    guest_power_off();
}

unsigned guest_rdmsr(uint32_t msr, uint64_t *value)
{
    uint32_t lo = 0, hi = 0;
    guest_fault_clear();
    __asm__ volatile(GUEST_MAY_FAULT("rdmsr") : "+a"(lo), "+d"(hi) : "c"(msr) : "memory");
    *value = lo | (uint64_t)hi << 32;
    return guest_fault_vector();
}

unsigned guest_wrmsr(uint32_t msr, uint64_t value)
{
    guest_fault_clear();
    __asm__ volatile(GUEST_MAY_FAULT("wrmsr")
                     :
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
    return guest_fault_vector();
}
