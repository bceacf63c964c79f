# The VMM library: libvmm.a. A source that uses Zydis or cJSON says so in cflags-<source>.

# core: objects, run loop, guest memory
vmm-y += core/cpuid.c core/log.c core/memory.c core/msr.c core/vcpu.c

# back ends

# bus, interrupts, timers, devices

# instruction emulation, guest page tables

# guest loaders, manifest

# paravirtual interface
