# Test programs of the library on the host: one cmocka program per file, each linked with the whole library.
host-support-y += posix_host.c fixture.c mock_backend.c pc.c guest_cpu.c test_device.c xmm.c native.c
host-test-y += test_gwalk.c test_native.c

# devices, interrupts, timers
host-test-y += test_bus.c test_timer.c
