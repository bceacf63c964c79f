# The VMM library: libvmm.a. A source that uses Zydis or cJSON says so in cflags-<source>.

# core: objects, run loop, guest memory
vmm-y += core/vmm.c core/vm.c core/control.c core/vm_create.c core/inspect.c core/vcpu.c core/run.c core/exits.c
vmm-y += core/cpuid.c core/cpuid_policy.c core/features.c core/msr.c core/memory.c core/nested.c
vmm-y += core/option.c core/cr.c core/task_state.c core/task_switch.c core/watch.c core/log.c
vmm-y += core/dump.c
vmm-y += core/retire.c core/dirty.c core/reclaim.c core/memory_control.c core/regions.c
vmm-y += core/checkpoint.c core/restore.c core/fpu.c

# back ends; which of them there are is one of four files
vmm-$(CONFIG_VMM_SVM) += svm/svm.c svm/vcpu.c svm/run.c svm/exits.c svm/inject.c svm/nmi.c svm/asid.c
vmm-$(CONFIG_VMM_SVM) += svm/npt.c
vmm-$(CONFIG_VMM_SVM) += svm/bitmaps.c svm/switch.asm
vmm-$(CONFIG_VMM_VMX) += vmx/vmx.c vmx/caps.c vmx/vcpu.c vmx/regs.c vmx/own.c vmx/run.c
vmm-$(CONFIG_VMM_VMX) += vmx/exits.c vmx/inject.c vmx/ept.c vmx/apicv.c vmx/pml.c vmx/flat.c
vmm-$(CONFIG_VMM_VMX) += vmx/posted.c vmx/shadow.c
vmm-$(CONFIG_VMM_VMX) += vmx/$(if $(CONFIG_DEBUG),audit_launch.c,audit_trust.c)
vmm-$(CONFIG_VMM_VMX) += vmx/audit.c vmx/bitmap.c vmx/dump.c vmx/switch.asm
backends-chosen := $(if $(CONFIG_VMM_SVM),$(if $(CONFIG_VMM_VMX),backends.c,backends_svm.c),$(if $(CONFIG_VMM_VMX),backends_vmx.c,backends_none.c))
vmm-y += core/$(backends-chosen)

# bus, interrupts, timers, devices
vmm-y += core/bus.c core/device.c core/clock.c core/irq.c core/timer.c
vmm-y += dev/table.c dev/vpic.c dev/vioapic.c
vmm-y += dev/vlapic.c dev/vlapic_mode.c dev/vlapic_timer.c dev/vlapic_send.c
vmm-y += dev/vlapic_eoi.c dev/vlapic_page.c dev/vlapic_state.c
vmm-y += dev/vpit.c dev/vrtc.c dev/vhpet.c dev/vpm.c
vmm-y += dev/vuart.c dev/vi8042.c dev/vpci.c dev/vpci_message.c dev/vreset.c dev/vcrtc.c dev/vdebug.c dev/vexit.c
vmm-y += dev/vfwcfg.c dev/acpi_tables.c
vmm-y += dev/virtio.c dev/vballoon.c

# instruction emulation, guest page tables
vmm-y += core/decode.c core/length.c core/gwalk.c core/descriptor.c core/emulate.c core/emulate_table.c core/emulate_ops.c
vmm-y += core/emulate_alu.c core/emulate_shift.c core/emulate_bits.c core/emulate_operand.c core/emulate_string.c
vmm-y += core/emulate_stack.c core/emulate_segment.c core/emulate_vector.c core/emulate_pio.c core/emulate_sys.c core/vector.c
cflags-vmm/core/decode.c := $(zydis-flags)
vmm-y += core/describe.c
cflags-vmm/core/describe.c := $(zydis-flags)

# guest loaders, manifest
vmm-y += load/load.c load/boot.c load/linux.c load/linux_enter.c load/flat.c load/services.c
vmm-y += load/elf.c load/multiboot.c load/multiboot2.c load/pvh.c load/firmware.c load/e820.c
vmm-y += load/manifest.c load/manifest_reader.c load/manifest_text.c
cflags-vmm/load/manifest.c := $(cjson-flags)
cflags-vmm/load/manifest_reader.c := $(cjson-flags)
cflags-vmm/load/manifest_text.c := $(cjson-flags)
fp-y += vmm/load/manifest.c vmm/load/manifest_reader.c

# paravirtual interface
vmm-y += para/kvmclock.c para/steal.c para/hypercall.c para/kvm_calls.c
