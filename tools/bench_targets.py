"""What tools/bench measures: one row per figure, by table.

Row: key as measured, what it is, the peer's figure as text, target (None: no target yet), whether less is better.
Unit: instructions, unless the text says otherwise. Peers were measured the same way in the same emulator.
"""

import typing


class Row(typing.NamedTuple):
    key: str
    what: str
    peer: str = "-"
    target: typing.Optional[float] = None
    less_is_better: bool = True


EXITS = [
    Row("exit.cpuid", "CPUID", "KVM 3032", 300),
    Row("exit.wbinvd", "WBINVD", "KVM 2817", 250),
    Row("exit.invd", "INVD", "KVM 2817", 250),
    Row("exit.vmmcall", "hypercall (VMMCALL)", "KVM about 3000", 250),
    Row("exit.msr_read", "MSR read (TSC_ADJUST)", "KVM 2998", 300),
    Row("exit.msr_write", "MSR write (TSC_ADJUST)", "KVM 3085", 300),
    Row("exit.pio_out", "PIO out, in-kernel device", "KVM 1594", 400),
    Row("exit.pio_in", "PIO in, in-kernel device", "KVM 1587", 400),
    Row("exit.pm_timer", "PIO in, PM timer", "KVM 5296", 450),
    Row("exit.mmio_write_first", "MMIO write, new instruction", "KVM 3894", 800),
    Row("exit.mmio_write", "MMIO write, repeated instruction", "KVM 3894", 500),
    Row("exit.eoi_xapic", "LAPIC EOI, xAPIC", "KVM 3565", 600),
    Row("exit.eoi_x2apic", "LAPIC EOI, x2APIC", "KVM 3565", 350),
    Row("exit.self_ipi_xapic", "self-IPI, send to handler, xAPIC", "KVM 4899"),
    Row("exit.self_ipi_halt_xapic", "self-IPI, handler, EOI, HLT, xAPIC", "KVM 12814", 3000),
    Row("exit.self_ipi_halt_x2apic", "self-IPI, handler, EOI, HLT, x2APIC", "KVM 12543"),
    Row("exit.deadline_write", "TSC deadline write", "KVM 3424"),
    Row("exit.deadline_late", "timer deadline to handler, guest halted", "KVM 3235", 647),
    Row("exit.cr0_wp_pair", "CR0.WP toggle, pair", "KVM 9086, bare 29", 29),
    Row("exit.cr4_pge_pair", "CR4.PGE toggle, pair", "KVM 7046, bare 33", 33),
    Row("exit.cr8_write", "MOV CR8", "no exit 8", 8),
    Row("exit.dr_write", "MOV DR", "no exit 8", 8),
    Row("exit.kernel_gs_base_write", "KERNEL_GS_BASE write", "no exit 10", 10),
    Row("exit.first_touch_lazy", "nested page fault on first touch, 4 KiB backing", "KVM about 3500", 1200),
    Row("exit.first_touch_large", "first touch of each 4 KiB, 2 MiB backing: a fault in 512"),
]

GUESTS = [
    Row("guest.bare", "bare boot of Debian's cloud bzImage to init, million"),
    Row("guest.boot", "the same in a VM, million"),
    Row("guest.overhead", "over the bare boot, %", "KVM + QEMU +7, kvmtool +8", 1),
    Row("guest.pvh_bare", "bare boot of its vmlinux by PVH, million"),
    Row("guest.pvh", "the same in a VM, million"),
    Row("guest.pvh_overhead", "over the bare boot, %", "KVM + QEMU +24, microvm +19", 3),
    Row("guest.exits", "exits during that boot, quiet (without icount)", "KVM + QEMU 42600", 15000),
    Row("guest.idle_exits", "exits of idle Linux, per second (real time)"),
    Row("guest.host_exits", "host-caused exits of 10 s of computing", "KVM: hundreds a second", 0),
    Row("guest.start", "VM create to first instruction, 256 MiB eager", "Firecracker 125 ms", 2000000),
    Row("guest.held", "memory held per VM beyond guest RAM, KiB", "Firecracker 5120"),
]

PRIMITIVES = [
    Row("spin_lock_unlock", "spin lock + unlock", "Nautilus 11, Kitten 11, lk 16", 11),
    Row("spin_lock_irqsave", "spin lock + unlock, IRQ save", "Nautilus 46, Kitten 20, lk 23", 18),
    Row("semaphore_free", "semaphore down + up, free", "Nautilus 132, Kitten 62, lk 91", 45),
    Row("thread_create", "thread create", "Nautilus 2364, lk 1564", 500),
    Row("thread_run", "thread run (deferred start)", "Nautilus 245, Kitten 112, lk 456", 110),
    Row("thread_join", "join of a finished thread", "Nautilus 1582, lk 449", 200),
    Row("thread_create_run_join", "create + run + join, stack reused", "Nautilus 4191, lk 2469", 1000),
    Row("yield_alone", "yield, alone", "Nautilus 519, lk 97", 40),
    Row("yield_switch", "yield, switch between two threads", "Nautilus 578, lk 179", 120),
    Row("semaphore_ping_pong", "semaphore ping-pong, round trip", "Nautilus 1929, Kitten 1128, lk 638", 400),
    Row("malloc_64", "malloc(64)", "Nautilus 407, Kitten 302, lk 169", 40),
    Row("free_64", "free of 64", "Nautilus 222, Kitten 176, lk 153", 40),
    Row("malloc_64k", "malloc(64 KiB)", "Nautilus 365, lk 276", 200),
    Row("free_64k", "free of 64 KiB", "Nautilus 255, Kitten 106, lk 211", 150),
    Row("page_alloc", "page alloc", "lk 155", 50),
    Row("page_free", "page free", "Kitten 135, lk 147", 50),
    Row("self_ipi_handler", "self-IPI, send to handler", "Nautilus 59", 50),
    Row("self_ipi_round_trip", "self-IPI, round trip", "Nautilus 263", 200),
    Row("timer_interrupt", "timer interrupt service", "Nautilus 730, lk 334", 200),
    Row("busy_timer_interrupts", "timer interrupts in 10 s of one thread's CPU", "Kitten 10, lk 0", 0),
    Row("oversleep_1ms", "oversleep of a 1 ms sleep", "lk 848, Nautilus 104000", 500),
    Row("memset_4k", "memset of 4 KiB", "lk 2048", 1024),
    Row("memcpy_4k", "memcpy of 4 KiB", "lk 3080", 1024),
]

# These need a QEMU whose -icount takes two CPUs (10.0; 7.2 hangs): QEMU2 names it.
TWO_CPUS = [
    Row("cross_call", "cross-CPU call, wait, round trip", "Nautilus 1406", 500),
    Row("semaphore_ping_pong_two_cpus", "semaphore ping-pong across CPUs", "Nautilus 4195, lk 3148", 1500),
    Row("thread_create_run_join_other_cpu", "create + run + join on the other CPU", "Nautilus 6449, lk 9623", 2500),
    Row("ipi_to_other_vcpu", "IPI between two vCPUs on two CPUs, send to handler", "KVM 13623", 3405),
]

IMAGES = [
    Row("image.elf", "kernel + VMM, stripped ELF, KiB", "Nautilus 3200, Xen 1600", 1024),
    Row("image.library", "library alone, code and data, KiB", "-", 400),
    Row("image.rom_small", "ROM without guests, KiB", "-", 512),
    Row("image.rom", "ROM with Debian's kernel and initramfs, KiB", "-", 16384),
    Row("image.iso", "ISO with Debian's kernel and initramfs, KiB"),
    Row("memory.kernel", "kernel's own memory on a 1 GiB node, no VM, KiB", "-", 12288),
    Row("memory.least", "least RAM to reach the shell, MiB", "lk 4, Nautilus 32", 8),
    Row("boot.shell", "kernel entry to shell, 1 CPU, -kernel, million", "Nautilus 278", 20),
]

ROADS = [
    Row(f"{road}.{key}", f"{name}: reset to {what}, million", "-", 60 if (road, key) == ("rom", "first") else None)
    for road, name in (("rom", "ROM"), ("kernel", "-kernel"), ("iso", "ISO"))
    for key, what in (("entry", "kernel entry"), ("shell", "kernel's shell"), ("first", "guest's first instruction"),
                      ("guest", "guest's shell"))
]

# In Bochs both back ends run: figures of VMX, those of SVM beside them.
BACKENDS = [
    Row("vmx." + row.key.removeprefix("exit."), row.what, "SVM {svm." + row.key.removeprefix("exit.") + "}")
    for row in EXITS if not row.key.startswith("exit.first_touch")
]

TABLES = [
    ("Exits (round trip seen by the guest)", EXITS),
    ("Guests", GUESTS),
    ("Kernel primitives (one CPU)", PRIMITIVES),
    ("Images and boot", IMAGES),
    ("Kernel primitives and IPIs (two CPUs)", TWO_CPUS),
    ("Roads to a guest (one CPU, Debian's cloud kernel)", ROADS),
    ("Exits of VMX beside SVM (by the TSC in Bochs, which counts instructions)", BACKENDS),
]
