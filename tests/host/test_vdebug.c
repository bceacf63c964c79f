/* Debug ports, and the cursor registers of the missing VGA. */
#include <string.h>
#include "pc.h"

static void text(struct fixture *f, uint16_t port, const char *s)
{
    for (; *s != '\0'; s++) {
        fixture_out(f, port, 1, (unsigned char)*s);
    }
}

static void lines_go_to_the_log(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    text(f, 0xe9, "hello ");
    assert_null(strstr(posix_host_log(f->host), "hello"));
    text(f, 0x402, "world\r\n");
    assert_non_null(strstr(posix_host_log(f->host), "hello world\n"));
    text(f, 0xe9, "\n\n\x1b\x80"); /* nothing to say */
    posix_host_clear_log(f->host);
    text(f, 0xe9, "cut off");
    vmm_devices_reset(f->vm);
    assert_non_null(strstr(posix_host_log(f->host), "cut off\n"));
    fixture_destroy(f);
}

static void long_lines_are_broken(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        text(f, 0xe9, "x");
    }
    assert_non_null(strstr(posix_host_log(f->host), "xxxxxxxxxxxxxxxxxxxx\n"));
    fixture_destroy(f);
}

static void the_ports_are_found(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    assert_int_equal(fixture_in(f, 0xe9, 1), 0xe9);
    assert_int_equal(fixture_in(f, 0x402, 1), 0xe9);
    fixture_out(f, 0x80, 1, 0x55);
    assert_int_equal(fixture_in(f, 0x80, 1), 0x55);
    fixture_out(f, 0xed, 1, 0x66);
    assert_int_equal(fixture_in(f, 0xed, 1), 0x66);
    assert_int_equal(fixture_in(f, 0x80, 1), 0x55);
    fixture_destroy(f);
}

static void cursor_registers_keep_their_values(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    for (unsigned i = 0; i < 0x19; i++) {
        fixture_out(f, 0x3d4, 2, i | (i + 0x40) << 8); /* index and data at once */
    }
    for (unsigned i = 0; i < 0x19; i++) {
        fixture_out(f, 0x3d4, 1, i);
        assert_int_equal(fixture_in(f, 0x3d4, 1), i);
        assert_int_equal(fixture_in(f, 0x3d5, 1), i + 0x40);
    }
    fixture_out(f, 0x3d4, 1, 0x19); /* beyond the last */
    fixture_out(f, 0x3d5, 1, 0);
    assert_int_equal(fixture_in(f, 0x3d5, 1), 0xff);
    fixture_destroy(f);
}

static void the_exit_port_ends_the_vm(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    assert_int_equal(fixture_in(f, 0xf4, 1), 0);
    assert_int_equal(f->vm->ending, 0);
    fixture_out(f, 0xf4, 4, 0x10);
    assert_int_equal(f->vm->ending, 1);
    assert_int_equal(vmm_vm_reason(f->vm), VM_REASON_EXIT);
    assert_int_equal(vmm_vm_exit_code(f->vm), 0x10);
    fixture_out(f, 0xf4, 1, 0x11); /* the first one counts */
    assert_int_equal(vmm_vm_exit_code(f->vm), 0x10);
    fixture_destroy(f);
}

static void random_accesses(void **state)
{
    struct fixture *f = pc_create(1);

    (void)state;
    pc_fuzz_ports(f, 0x3d4, 2, 10000);
    pc_fuzz_ports(f, 0xe9, 1, 10000);
    pc_fuzz_ports(f, 0x80, 1, 1000);
    pc_check_save(f);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(lines_go_to_the_log), cmocka_unit_test(long_lines_are_broken),
             cmocka_unit_test(the_ports_are_found),
             cmocka_unit_test(cursor_registers_keep_their_values),
             cmocka_unit_test(the_exit_port_ends_the_vm), cmocka_unit_test(random_accesses))
