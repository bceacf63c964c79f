/* The Linux loader: what a guest finds, and one clear line for each malformed kernel. */
#include "guest_cpu.h"

#include <stdlib.h>
#include <string.h>
#include "load/boot.h"

#define RAM         VMM_MIB(64)
#define SETUP_SECTS 3
#define IMAGE_AT    ((SETUP_SECTS + 1) * 512)
#define IMAGE_SIZE  8192
#define FILE_SIZE   (IMAGE_AT + IMAGE_SIZE + 100) /* something is appended, as signatures are */
#define INIT_SIZE   0x300000
#define PARAMS      0x10000

static struct fixture *f;
static uint8_t file[FILE_SIZE];
static struct vmm_error err;

static void put(unsigned offset, unsigned size, uint64_t value)
{
    memcpy(file + offset, &value, size);
}

/* A kernel as Debian's looks to a boot loader. */
static void make_kernel(void)
{
    for (unsigned i = 0; i < sizeof(file); i++) {
        file[i] = (uint8_t)(i * 13 + (i >> 8));
    }
    memset(file + 0x1f1, 0, 0x280 - 0x1f1);
    put(0x1f1, 1, SETUP_SECTS);
    put(0x1f4, 4, IMAGE_SIZE / 16);
    put(0x1fe, 2, 0xaa55);
    put(0x200, 2, 0x66eb); /* the header ends at 0x268 */
    put(0x202, 4, 0x53726448);
    put(0x206, 2, 0x20f);
    put(0x211, 1, 1);
    put(0x22c, 4, 0x7fffffff);
    put(0x230, 4, 0x200000);
    put(0x234, 1, 1);
    put(0x235, 1, 21);
    put(0x236, 2, 0x3f);
    put(0x238, 4, 2047);
    put(0x250, 8, 0xdddd); /* a boot loader's list: none here */
    put(0x258, 8, 0x1000000);
    put(0x260, 4, INIT_SIZE);
}

static int setup_ram(uint64_t ram)
{
    f = fixture_create(ram, 1);
    strcpy(f->vm->config.kernel_path, "vmlinuz");
    strcpy(f->vm->config.initrd_path, "initrd");
    guest_set_mode(f, GUEST_REAL);
    make_kernel();
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_ram(RAM);
}

static int teardown(void **state)
{
    (void)state;
    fixture_destroy(f);
    return 0;
}

static int load_file(const uint8_t *kernel, uint64_t size, const void *initrd, uint64_t initrd_size,
                     const char *args)
{
    const struct boot boot = {
        .vm = f->vm,
        .kernel = {"vmlinuz", kernel, size},
        .module = {"initrd", initrd, initrd_size},
        .args = args,
        .err = &err,
    };

    memset(&err, 0, sizeof(err));
    return boot_load_linux(&boot);
}

static int load(const void *initrd, uint64_t initrd_size, const char *args)
{
    return load_file(file, sizeof(file), initrd, initrd_size, args);
}

static uint64_t params(unsigned offset, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, (uint8_t *)vmm_memory_ptr(f->vm, VMM_GPA(PARAMS), 4096) + offset, size);
    return value;
}

static void expect_refused(const char *line)
{
    assert_int_not_equal(load(NULL, 0, ""), 0);
    assert_string_equal(err.text, line);
    make_kernel();
}

static void kernel_and_boot_data(void **state)
{
    static uint8_t initrd[5000];
    const char *args = "console=ttyS0 quiet";

    (void)state;
    memset(initrd, 0x77, sizeof(initrd));
    assert_int_equal(load(initrd, sizeof(initrd), args), 0);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x1000000), IMAGE_SIZE), file + IMAGE_AT,
                        IMAGE_SIZE);
    /* As high as RAM goes, on a page boundary. */
    assert_int_equal(params(0x218, 4), (RAM - sizeof(initrd)) & ~UINT64_C(0xfff));
    assert_int_equal(params(0x21c, 4), sizeof(initrd));
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(params(0x218, 4)), sizeof(initrd)), initrd,
                        sizeof(initrd));
    assert_string_equal(vmm_memory_ptr(f->vm, VMM_GPA(params(0x228, 4)), 64), args);
    assert_int_equal(params(0x210, 1), 0xff);
    assert_int_equal(params(0x202, 4), 0x53726448);
    assert_int_equal(params(0x250, 8), 0);
    assert_int_equal(params(0x070, 8), 0xe0000);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(params(0x070, 8)), 8), "RSD PTR ", 8);
    assert_int_equal(params(0x1ef, 1), 0); /* what the header does not cover is zero */
}

static void registers_of_the_64bit_entry(void **state)
{
    struct mock_vcpu *m = mock_vcpu(f->vcpu);
    struct vmm_walk_fault fault;
    gpa_t gpa;

    (void)state;
    assert_int_equal(load(NULL, 0, ""), 0);
    assert_int_equal(f->vcpu->rip, 0x1000200);
    assert_int_equal(f->vcpu->gpr[VMM_RSI], PARAMS);
    assert_int_equal(f->vcpu->rflags, 2);
    assert_int_equal(m->segment[VMM_SEG_CS].selector, 0x10);
    assert_int_equal(m->segment[VMM_SEG_CS].attributes, 0xa9b);
    assert_int_equal(m->segment[VMM_SEG_DS].selector, 0x18);
    assert_int_equal(m->segment[VMM_SEG_SS].attributes, 0xc93);
    assert_int_equal(m->sysreg[VMM_EFER] & 0x500, 0x500);
    assert_int_equal(m->sysreg[VMM_CR0] & 0x80000001, 0x80000001);
    assert_int_equal(m->sysreg[VMM_CR4] & 0x20, 0x20);
    /* The identity map covers 4 GiB. */
    static const uint64_t address_table[] = {0, 0x1000200, 0xbffffff8, 0xfee00000, 0xfffffff0};
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(address_table); i++) {
        assert_int_equal(
            guest_walk(f->vcpu, VMM_GVA(address_table[i]), VMM_ACCESS_WRITE, false, &gpa, &fault),
            0);
        assert_int_equal(gpa.v, address_table[i]);
    }
    assert_int_equal(guest_walk(f->vcpu, VMM_GVA(VMM_GIB(4)), VMM_ACCESS_READ, false, &gpa, &fault),
                     -VMM_EFAULT);
    /* The descriptors in memory say what is in the registers. */
    uint64_t *gdt = vmm_memory_ptr_write(f->vm, VMM_GPA(m->segment[VMM_SEG_GDTR].base), 48);
    assert_int_equal(gdt[2], 0x00af9b000000ffff);
    assert_int_equal(gdt[3], 0x00cf93000000ffff);
}

static void registers_of_the_32bit_entry(void **state)
{
    struct mock_vcpu *m = mock_vcpu(f->vcpu);

    (void)state;
    put(0x236, 2, 0); /* an i386 kernel: its file asks for this entry */
    put(0x214, 4, 0x100000);
    assert_int_equal(load(file, 100, "quiet"), 0);
    assert_int_equal(f->vcpu->rip, 0x1000000);
    assert_int_equal(f->vcpu->gpr[VMM_RSI], PARAMS);
    assert_int_equal(f->vcpu->gpr[VMM_RBX] | f->vcpu->gpr[VMM_RBP] | f->vcpu->gpr[VMM_RDI], 0);
    assert_int_equal(m->segment[VMM_SEG_CS].selector, 0x10);
    assert_int_equal(m->segment[VMM_SEG_CS].attributes, 0xc9b);
    assert_int_equal(m->segment[VMM_SEG_DS].selector, 0x18);
    assert_int_equal(m->sysreg[VMM_CR0] & 0x80000001, 1);
    assert_int_equal(m->sysreg[VMM_EFER], 0);
    assert_int_equal(params(0x214, 4), 0x1000000);
    assert_int_equal(params(0x21c, 4), 100);
    assert_string_equal(vmm_memory_ptr(f->vm, VMM_GPA(params(0x228, 4)), 8), "quiet");
    assert_int_equal(params(0x1e8, 1), 3);
}

static uint64_t guest_word(uint64_t gpa, unsigned size)
{
    uint64_t value = 0;

    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(gpa), &value, size), 0);
    return value;
}

static void the_16bit_entry(void **state)
{
    struct mock_vcpu *m = mock_vcpu(f->vcpu);
    uint64_t initrd;

    (void)state;
    f->vm->config.protocol = VM_PROTOCOL_LINUX16;
    assert_int_equal(load(file, 5000, "quiet"), 0);
    /* Setup code and kernel at the places of every bzImage. */
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x90000), 0x1f1), file, 0x1f1);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x90300), IMAGE_AT - 0x300), file + 0x300,
                        IMAGE_AT - 0x300);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x100000), IMAGE_SIZE), file + IMAGE_AT,
                        IMAGE_SIZE);
    assert_int_equal(guest_word(0x90210, 1), 0xff);
    assert_int_equal(guest_word(0x90211, 1), 0x81);
    assert_int_equal(guest_word(0x90224, 2), 0xdc00);
    assert_string_equal(vmm_memory_ptr(f->vm, VMM_GPA(guest_word(0x90228, 4)), 8), "quiet");
    initrd = guest_word(0x90218, 4);
    assert_int_equal(initrd,
                     (RAM - 5000) & ~UINT64_C(0xfff)); /* above where the kernel goes later */
    assert_int_equal(guest_word(0x9021c, 4), 5000);
    /* It begins in the services, which lead to 9020:0. */
    assert_int_equal(m->segment[VMM_SEG_CS].base, 0xf0000);
    assert_int_equal(m->segment[VMM_SEG_CS].limit, 0xffff);
    assert_int_equal(m->segment[VMM_SEG_SS].base, 0x90000);
    assert_int_equal(f->vcpu->gpr[VMM_RSP], 0xe000);
    assert_int_equal(m->sysreg[VMM_CR0] & 0x80000001, 0);
    assert_int_equal(guest_word(0xff202, 4), 0x90200000);
    assert_int_equal(guest_word(0xff000 + 0x200, 2), f->vcpu->rip);
    /* Vectors lead there too; what INT 15h, AX=E820h tells is the map. */
    for (unsigned vector = 0; vector < 256; vector++) {
        assert_int_equal(guest_word(vector * 4 + 2, 2), 0xf000);
        assert_in_range(guest_word(vector * 4, 2), 0xf000, 0xfff0);
    }
    assert_int_equal(guest_word(0xff20c, 2), 3);
    assert_int_equal(guest_word(0xff20e + 40, 8), 0x100000);
    assert_int_equal(guest_word(0xff20e + 48, 8), RAM - 0x100000);
    assert_int_equal(guest_word(0xff206, 2), 63 * 1024);
    assert_int_equal(guest_word(0xff208, 2), 15 * 1024);
    assert_int_equal(guest_word(0xff20a, 2), (RAM - VMM_MIB(16)) / 65536);
    assert_int_equal(guest_word(0x413, 2), 639);
}

/* Old headers are shorter; what they cannot say has a value of its own. */
static void old_kernels(void **state)
{
    char args[300];

    (void)state;
    put(0x206, 2, 0x202);
    put(0x201, 1, 0x2a);
    put(0x214, 4, 0); /* as iPXE: only the 16-bit entry has code */
    assert_int_equal(load(file, 5000, "quiet"), 0);
    assert_int_equal(mock_vcpu(f->vcpu)->segment[VMM_SEG_CS].base, 0xf0000);
    assert_int_equal(guest_word(0x90218, 4), (RAM - 5000) & ~UINT64_C(0xfff));
    memset(args, 'a', sizeof(args));
    args[256] = '\0';
    assert_int_equal(load(NULL, 0, args), -VMM_E2BIG);
    put(0x211, 1, 0); /* a zImage */
    assert_int_equal(load(NULL, 0, ""), 0);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x10000), IMAGE_SIZE), file + IMAGE_AT,
                        IMAGE_SIZE);
    make_kernel();
    put(0x206, 2, 0x206);
    put(0x201, 1, 0x3a);
    put(0x214, 4, 0x100000);
    assert_int_equal(load(NULL, 0, ""), 0);
    assert_int_equal(f->vcpu->rip, 0x200000); /* aligned as it asks */
}

static void memory_map(void **state)
{
    struct vmm_e820 map[8];

    (void)state;
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(VMM_GIB(4)), VMM_MIB(2), VMM_REGION_RAM), 0);
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0xfffc0000), 0x40000, VMM_REGION_ROM), 0);
    assert_int_equal(load(NULL, 0, ""), 0);
    assert_int_equal(params(0x1e8, 1), 5);
    memcpy(map, (uint8_t *)vmm_memory_ptr(f->vm, VMM_GPA(PARAMS), 4096) + 0x2d0, 5 * 20);
    const struct vmm_e820 expected[5] = {
        {0, 0x9fc00, 1},          {0x9fc00, 0x60400, 2},       {0x100000, RAM - 0x100000, 1},
        {0xfffc0000, 0x40000, 2}, {VMM_GIB(4), VMM_MIB(2), 1},
    };
    assert_memory_equal(map, expected, sizeof(expected));
    assert_int_equal(vmm_e820_build(f->vm, map, 2), 2); /* no more than there is room for */
}

static void other_places(void **state)
{
    (void)state;
    /* The preferred place is not there: the lowest aligned one. */
    put(0x258, 8, 0x10000000);
    assert_int_equal(load(NULL, 0, ""), 0);
    assert_int_equal(f->vcpu->rip, 0x200200);
    /* Below 1 MiB is never right. */
    make_kernel();
    put(0x258, 8, 0x1000);
    assert_int_equal(load(NULL, 0, ""), 0);
    assert_int_equal(f->vcpu->rip, 0x200200);
    /* A kernel that cannot move takes its place even if its alignment speaks against it. */
    make_kernel();
    put(0x234, 1, 0);
    put(0x258, 8, 0x1100000);
    assert_int_equal(load(NULL, 0, ""), 0);
    assert_int_equal(f->vcpu->rip, 0x1100200);
    put(0x258, 8, 0x10000000);
    assert_int_equal(load(NULL, 0, ""), -VMM_ENOSPC);
    assert_string_equal(err.text,
                        "test: vmlinuz: needs 3072 KiB of RAM at 0x10000000, and RAM ends at "
                        "0x4000000");
    /* The oldest way to say four setup sectors. */
    make_kernel();
    put(0x1f1, 1, 0);
    put(0x1f4, 4, (FILE_SIZE - 5 * 512) / 16);
    assert_int_equal(load(NULL, 0, ""), 0);
    assert_memory_equal(vmm_memory_ptr(f->vm, VMM_GPA(0x1000000), 64), file + 5 * 512, 64);
    /* The initial RAM disk stays where the kernel can reach it. */
    make_kernel();
    put(0x22c, 4, 0x1ffffff);
    assert_int_equal(load(file, 4096, ""), 0);
    assert_int_equal(params(0x218, 4), 0x1fff000);
}

static void what_does_not_fit(void **state)
{
    static uint8_t big[0x100000];
    char args[3000];

    (void)state;
    put(0x260, 4, RAM - 0x1000000 - 0x80000);
    assert_int_equal(load(big, sizeof(big), ""), -VMM_ENOSPC);
    assert_string_equal(err.text, "test: initrd: 1024 KiB do not fit between the kernel's end at "
                                  "0x3f80000 and 0x4000000");
    put(0x22c, 4, 0x1fffff);
    assert_int_equal(load(big, 16, ""), -VMM_ENOSPC);
    make_kernel();
    memset(args, 'a', sizeof(args));
    args[2047] = '\0';
    assert_int_equal(load(NULL, 0, args), 0);
    args[2047] = 'a';
    args[2048] = '\0';
    assert_int_equal(load(NULL, 0, args), -VMM_E2BIG);
    assert_string_equal(err.text, "test: boot_args: 2048 characters, vmlinuz takes at most 2047");
    put(0x260, 4, RAM);
    assert_int_equal(load(NULL, 0, ""), -VMM_ENOSPC);
    assert_string_equal(err.text,
                        "test: vmlinuz: needs 65536 KiB of RAM at 0x200000, and RAM ends at "
                        "0x4000000");
}

static void malformed_headers(void **state)
{
    (void)state;
    put(0x1fe, 2, 0x1234);
    expect_refused("test: vmlinuz: not a Linux kernel (bzImage)");
    put(0x202, 4, 0);
    expect_refused("test: vmlinuz: not a Linux kernel (bzImage)");
    put(0x206, 2, 0x201);
    expect_refused("test: vmlinuz: boot protocol older than 2.02");
    f->vm->config.protocol = VM_PROTOCOL_LINUX64;
    put(0x206, 2, 0x20b);
    expect_refused("test: vmlinuz: no 64-bit entry: not an x86-64 kernel");
    put(0x236, 2, 0x3e);
    expect_refused("test: vmlinuz: no 64-bit entry: not an x86-64 kernel");
    f->vm->config.protocol = VM_PROTOCOL_LINUX32;
    put(0x214, 4, 0);
    put(0x236, 2, 0);
    expect_refused("test: vmlinuz: no 32-bit entry");
    f->vm->config.protocol = VM_PROTOCOL_LINUX16;
    put(0x211, 1, 0);
    put(0x1f4, 4, IMAGE_SIZE / 16);
    put(0x1f1, 1, 0x6f);
    expect_refused("test: vmlinuz: truncated: shorter than its header says");
    f->vm->config.protocol = VM_PROTOCOL_AUTO;
    put(0x1f4, 4, IMAGE_SIZE / 16 + 100);
    expect_refused("test: vmlinuz: truncated: shorter than its header says");
    put(0x1f4, 4, 0xffffffff);
    expect_refused("test: vmlinuz: truncated: shorter than its header says");
    put(0x1f1, 1, 255);
    expect_refused("test: vmlinuz: truncated: shorter than its header says");
    put(0x1f4, 4, 0);
    expect_refused("test: vmlinuz: header says that the kernel is empty");
    put(0x201, 1, 0x10);
    expect_refused("test: vmlinuz: header has an impossible length");
    put(0x201, 1, 0xff);
    expect_refused("test: vmlinuz: header has an impossible length");
    put(0x230, 4, 0);
    expect_refused("test: vmlinuz: header has an impossible kernel_alignment");
    put(0x230, 4, 0x300000);
    expect_refused("test: vmlinuz: header has an impossible kernel_alignment");
    put(0x260, 4, 100);
    expect_refused("test: vmlinuz: header's init_size is less than the kernel itself");
    for (uint64_t size = 0; size < 0x268; size++) {
        assert_int_equal(load_file(file, size, NULL, 0, ""), -VMM_EINVAL);
        assert_string_equal(err.text, "test: vmlinuz: too short for a Linux kernel");
    }
    for (uint64_t size = 0x268; size < IMAGE_AT + IMAGE_SIZE; size += 97) {
        assert_int_equal(load_file(file, size, NULL, 0, ""), -VMM_EINVAL);
    }
}

/* Random headers and files: an error line or a load, never a fault of the library. */
static void random_headers(void **state)
{
    unsigned loaded = 0;

    (void)state;
    srandom(3);
    for (unsigned n = 0; n < 3000; n++) {
        uint8_t *copy;
        uint64_t size = n % 2 == 0 ? sizeof(file) : (uint64_t)random() % sizeof(file);

        make_kernel();
        for (unsigned i = 0; i < 1 + n % 8; i++) {
            file[0x1f1 + (unsigned)random() % 0x78] = (uint8_t)random();
        }
        copy = malloc(size + 1); /* so that reads beyond the end are seen */
        memcpy(copy, file, size);
        if (load_file(copy, size, copy, size / 2, "x") == 0) {
            loaded++;
        } else {
            assert_true(strncmp(err.text, "test: ", 6) == 0);
        }
        free(copy);
    }
    assert_true(loaded > 0);
}

static void files_by_name(void **state)
{
    struct vm_config *c = &f->vm->config;

    (void)state;
    posix_host_add_file(f->host, "vmlinuz", file, sizeof(file));
    assert_int_equal(vmm_load(f->vm, &err), -VMM_ENOENT);
    assert_string_equal(err.text, "test: initrd: no such file");
    posix_host_add_file(f->host, "initrd", "abc", 3);
    strcpy(c->boot_args, "hello");
    assert_int_equal(vmm_load(f->vm, &err), 0);
    assert_int_equal(params(0x21c, 4), 3);
    assert_string_equal(vmm_memory_ptr(f->vm, VMM_GPA(params(0x228, 4)), 8), "hello");
    c->initrd_path[0] = '\0';
    assert_int_equal(vmm_load(f->vm, &err), 0);
    assert_int_equal(params(0x218, 4), 0);
    strcpy(c->kernel_path, "nothing");
    assert_int_equal(vmm_load(f->vm, &err), -VMM_ENOENT);
    assert_string_equal(err.text, "test: nothing: no such file");
    posix_host_ops(f->host)->files = NULL;
    assert_int_equal(vmm_load(f->vm, &err), -VMM_ENOTSUP);
}

/* Boot data must land in RAM that is backed a page at a time, too. */
static void lazy_memory(void **state)
{
    (void)state;
    f = fixture_create(0, 1);
    f->vm->config.lazy_memory = true;
    f->vm->config.huge_pages = VM_HUGE_PAGES_NONE;
    strcpy(f->vm->config.kernel_path, "vmlinuz");
    assert_int_equal(vmm_memory_add(f->vm, VMM_GPA(0), VMM_MIB(64), VMM_REGION_RAM), 0);
    guest_set_mode(f, GUEST_REAL);
    make_kernel();
    assert_int_equal(load(file, sizeof(file), "x"), 0);
    assert_in_range(f->vm->nested.page_count, 10, 40);
    assert_int_equal(f->vcpu->rip, 0x1000200);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(kernel_and_boot_data),
        TEST(registers_of_the_64bit_entry),
        TEST(registers_of_the_32bit_entry),
        TEST(the_16bit_entry),
        TEST(old_kernels),
        TEST(memory_map),
        TEST(other_places),
        TEST(what_does_not_fit),
        TEST(malformed_headers),
        TEST(random_headers),
        TEST(files_by_name),
        cmocka_unit_test_teardown(lazy_memory, teardown),
    };

    return cmocka_run_group_tests_name("bzimage", tests, NULL, NULL);
}
