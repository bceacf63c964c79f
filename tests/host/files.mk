# Test programs of the library on the host: one cmocka program per file, each linked with the whole library.
host-support-y += tape.c posix_host.c posix_threads.c posix_clock.c posix_streams.c posix_store.c fixture.c mock_backend.c scripted.c pc.c guest_cpu.c test_device.c pci_board.c svm_fixture.c vector.c native.c native_step.c

# instruction emulation, guest page tables, loaders, manifest, paravirtual interface
host-test-y += test_posix_host.c
host-test-y += test_gwalk.c test_native.c test_differential.c test_emulate.c test_emulate_address.c test_emulate_vector.c test_emulate_segment.c test_pio.c test_decode.c \
	test_bzimage.c test_firmware.c test_manifest.c test_para.c

# devices, interrupts, timers
host-test-y += test_bus.c test_timer.c test_vpic.c test_vlapic.c test_vlapic_messages.c test_vlapic_timer.c test_vlapic_x2apic.c test_vlapic_page.c test_vioapic.c
host-test-y += test_vpit.c test_vuart.c test_vrtc.c test_vpm.c test_vi8042.c test_vpci.c test_vpci_message.c test_msi.c test_vdebug.c
host-test-y += test_acpi.c test_threads.c test_vhpet.c test_vfwcfg.c

# core: objects, run loop, policies, guest memory
host-test-y += test_reclaim.c test_dirty.c test_vballoon.c test_guest_memory.c test_failures.c
host-test-y += test_memory.c test_cpuid.c test_msr.c test_exits.c test_task_switch.c test_run.c
host-test-y += test_checkpoint.c
host-test-y += test_vm.c test_vm_create.c test_gate.c test_svm.c test_svm_events.c test_vmx.c test_vmx_posted.c test_vmx_pml.c test_protocols.c test_nested.c

# fuzz targets, with their corpora
host-support-y += ../fuzz/devices.c ../fuzz/checkpoint.c ../fuzz/manifest.c ../fuzz/bzimage.c ../fuzz/kernels.c \
	../fuzz/exits.c ../fuzz/walk.c ../fuzz/emulator.c ../fuzz/device.c ../fuzz/restore.c ../fuzz/pack.c
host-test-y += test_fuzz.c

# the container of the ROM, and what our loaders share
host-support-y += $(addprefix ../../boot/pack/,pack.c lz4.c crc32c.c slots.c elf.c mb2.c text.c)
host-test-y += test_pack.c test_loader.c
