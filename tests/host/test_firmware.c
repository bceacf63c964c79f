/* The firmware loader: ROM at the top of 4 GiB, and its copy below 1 MiB. */
#include <stdlib.h>
#include <string.h>
#include "load/load.h"
#include "mock_backend.h"
#include "pc.h"

#define RAM VMM_MIB(4)

static uint8_t image[VMM_KIB(256)];

static struct fixture *create(void)
{
    struct fixture *f = fixture_create(RAM, 1);

    strcpy(f->vm->config.firmware_path, "bios.bin");
    for (unsigned i = 0; i < sizeof(image); i++) {
        image[i] = (uint8_t)(i * 7 + (i >> 8));
    }
    return f;
}

static void check_image(struct fixture *f, uint64_t at, uint64_t skip)
{
    uint8_t *copy = malloc(sizeof(image));

    assert_non_null(copy);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(at), copy, sizeof(image) - skip), 0);
    assert_memory_equal(copy, image + skip, sizeof(image) - skip);
    free(copy);
}

static void the_image_is_at_both_places(void **state)
{
    struct fixture *f = create();
    struct vmm_error err;

    (void)state;
    assert_int_equal(vmm_load_firmware(f->vm, image, sizeof(image), &err), 0);
    check_image(f, VMM_GIB(4) - sizeof(image), 0);
    check_image(f, 0xe0000, VMM_KIB(128));
    fixture_destroy(f);
}

static void a_reset_loads_it_again(void **state)
{
    struct fixture *f = create();
    struct vmm_error err;
    unsigned regions;

    (void)state;
    assert_int_equal(vmm_load_firmware(f->vm, image, sizeof(image), &err), 0);
    regions = f->vm->memory.table->count;
    assert_int_equal(vmm_memory_zero(f->vm, VMM_GPA(0xe0000), VMM_KIB(128)), 0);
    assert_int_equal(vmm_load_firmware(f->vm, image, sizeof(image), &err), 0);
    assert_int_equal(f->vm->memory.table->count, regions);
    check_image(f, 0xe0000, VMM_KIB(128));
    fixture_destroy(f);
}

static void a_reset_without_its_rom_fails(void **state)
{
    struct fixture *f = create();
    struct vmm_error err;

    (void)state;
    assert_int_equal(vmm_load_firmware(f->vm, image, sizeof(image), &err), 0);
    assert_int_equal(vmm_memory_remove(f->vm, VMM_GPA(VMM_GIB(4) - sizeof(image))), 0);
    f->vm->reset_wanted = 1;
    assert_int_equal(vmm_load_firmware(f->vm, image, sizeof(image), &err), -VMM_ENOENT);
    assert_string_equal(err.text, "test: bios.bin: its ROM was taken away");
    f->vm->reset_wanted = 0;
    assert_int_equal(vmm_load_firmware(f->vm, image, sizeof(image), &err), 0);
    fixture_destroy(f);
}

static void a_small_image_is_copied_whole(void **state)
{
    struct fixture *f = create();
    struct vmm_error err;
    uint8_t last;

    (void)state;
    assert_int_equal(vmm_load_firmware(f->vm, image, VMM_KIB(64), &err), 0);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(0xfffff), &last, 1), 0);
    assert_int_equal(last, image[VMM_KIB(64) - 1]);
    fixture_destroy(f);
}

static void sizes_that_are_no_rom(void **state)
{
    struct fixture *f = create();
    struct vmm_error err;
    static const uint64_t size_table[] = {
        0, 4096, VMM_KIB(64) - 1, VMM_KIB(64) + 1, VMM_MIB(16) + 4096, UINT64_MAX};

    (void)state;
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(size_table); i++) {
        assert_int_equal(vmm_load_firmware(f->vm, image, size_table[i], &err), -VMM_EINVAL);
        assert_string_equal(err.text, "test: bios.bin: a firmware image has 64 KiB to 16 MiB, in "
                                      "pages of 4 KiB");
    }
    fixture_destroy(f);
}

static void no_memory_is_an_error(void **state)
{
    struct fixture *f = create();
    struct vmm_error err;
    uint64_t pages = posix_host_pages_used(f->host);

    (void)state;
    posix_host_fail_alloc(f->host, 0);
    assert_int_equal(vmm_load_firmware(f->vm, image, sizeof(image), &err), -VMM_ENOMEM);
    posix_host_fail_alloc(f->host, -1);
    assert_string_equal(err.text, "test: bios.bin: no memory for the ROM");
    assert_int_equal(posix_host_pages_used(f->host), pages);
    fixture_destroy(f);
}

PC_TEST_MAIN(cmocka_unit_test(the_image_is_at_both_places),
             cmocka_unit_test(a_reset_loads_it_again),
             cmocka_unit_test(a_reset_without_its_rom_fails),
             cmocka_unit_test(a_small_image_is_copied_whole),
             cmocka_unit_test(sizes_that_are_no_rom), cmocka_unit_test(no_memory_is_an_error))
