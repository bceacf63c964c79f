#include "core/clock.h"

#include "core/vm.h"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

/* value * mul / div through 128 bits: exact. By DIV itself, since the compiler's 128-bit division
 * is a library function. */
static inline uint64_t scale(uint64_t value, uint64_t mul, uint64_t div, bool up)
{
    unsigned __int128 product = (unsigned __int128)value * mul + (up ? div - 1 : 0);
    uint64_t quotient = (uint64_t)product, rest = (uint64_t)(product >> 64);

    if (vmm_unlikely(rest >= div)) {
        return UINT64_MAX; /* the quotient does not fit: DIV would fault */
    }
    __asm__("divq %2" : "+a"(quotient), "+d"(rest) : "r"(div) : "cc");
    return quotient;
}

uint64_t vmm_cycles_to_ns(uint64_t cycles, uint64_t khz)
{
    return scale(cycles, NS_PER_MS, khz, false);
}

uint64_t vmm_ns_to_cycles(uint64_t ns, uint64_t khz)
{
    return scale(ns, khz, NS_PER_MS, true);
}

uint64_t vmm_ticks_to_ns(uint64_t ticks, uint32_t hz)
{
    return scale(ticks, NS_PER_S, hz, true);
}

uint64_t vmm_clock_cycles(struct vm *vm)
{
    uint64_t now = vm->clock_paused_at != 0 ? vm->clock_paused_at : vm->ops->cycles(vm->host);

    int64_t passed = (int64_t)(now - vm->clock_base_cycles);

    /* The TSC of another CPU may be a few cycles behind the one that took the base. */
    return passed > 0 ? (uint64_t)passed : 0;
}

uint64_t vmm_clock_ticks(struct vm *vm, uint32_t hz)
{
    return scale(vmm_clock_cycles(vm), hz, vm->ops->cycles_khz * 1000, false);
}

uint64_t vmm_clock_ns(struct vm *vm)
{
    return vmm_cycles_to_ns(vmm_clock_cycles(vm), vm->ops->cycles_khz);
}

uint64_t vmm_wall_clock_ns(struct vm *vm)
{
    return vm->ops->wall_clock_ns(vm->host);
}
