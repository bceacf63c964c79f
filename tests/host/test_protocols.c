/* The loaders beside Linux's own: what a guest finds, one line for each malformed file, and random
 * damage survived. */
#include "guest_cpu.h"

#include <stdlib.h>
#include <string.h>
#include "core/x86.h"
#include "load/boot.h"

#define RAM       VMM_MIB(32)
#define FILE_SIZE 16384
#define CODE_AT   4096 /* in the file, and in the image loaded at 1 MiB */
#define CODE_SIZE 4096
#define LOAD      UINT64_C(0x100000)
#define BSS       8192
#define HIGH      UINT64_C(0xffffffff80000000)

static struct fixture *f;
static uint8_t file[FILE_SIZE];
static uint8_t module[5000];
static struct vmm_error err;
static struct boot boot;

static void put(uint64_t offset, unsigned size, uint64_t value)
{
    memcpy(file + offset, &value, size);
}

static int setup(void **state)
{
    (void)state;
    f = fixture_create(RAM, 1);
    guest_set_mode(f, GUEST_REAL);
    memset(file, 0, sizeof(file));
    for (unsigned i = 0; i < CODE_SIZE; i++) {
        file[CODE_AT + i] = (uint8_t)(i * 11 + 3);
    }
    memset(module, 0x5a, sizeof(module));
    boot = (struct boot){
        .vm = f->vm,
        .kernel = {"kernel", file, sizeof(file)},
        .module = {"module", module, sizeof(module)},
        .args = "one two",
        .err = &err,
    };
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_destroy(f);
    return 0;
}

/* One segment, linked high, loaded at 1 MiB with BSS behind it; and a note for PVH. */
static void make_elf(bool wide, bool note)
{
    unsigned programs = wide ? 64 : 52, size = wide ? 56 : 32;

    memcpy(file,
           "\x7f"
           "ELF",
           4);
    put(4, 1, wide ? 2 : 1);
    put(5, 1, 1);
    put(16, 2, 2);
    if (wide) {
        put(24, 8, HIGH + LOAD + 0x10);
        put(32, 8, programs);
        put(54, 2, size);
        put(56, 2, note ? 2 : 1);
        put(programs, 4, 1);
        put(programs + 8, 8, CODE_AT);
        put(programs + 16, 8, HIGH + LOAD);
        put(programs + 24, 8, LOAD);
        put(programs + 32, 8, CODE_SIZE);
        put(programs + 40, 8, CODE_SIZE + BSS);
    } else {
        put(24, 4, LOAD + 0x10);
        put(28, 4, programs);
        put(42, 2, size);
        put(44, 2, note ? 2 : 1);
        put(programs, 4, 1);
        put(programs + 4, 4, CODE_AT);
        put(programs + 8, 4, LOAD);
        put(programs + 12, 4, LOAD);
        put(programs + 16, 4, CODE_SIZE);
        put(programs + 20, 4, CODE_SIZE + BSS);
    }
    if (note) {
        unsigned second = programs + size;

        put(second, 4, 4);
        put(second + (wide ? 8 : 4), wide ? 8 : 4, 0x300);
        put(second + (wide ? 32 : 16), wide ? 8 : 4, 40);
        put(0x300, 4, 4); /* somebody else's note first */
        put(0x304, 4, 4);
        put(0x308, 4, 7);
        memcpy(file + 0x30c, "GNU", 4);
        put(0x314, 4, 4);
        put(0x318, 4, 4);
        put(0x31c, 4, 18);
        memcpy(file + 0x320, "Xen", 4);
        put(0x324, 4, LOAD + 0x20);
    }
}

static uint64_t read_guest(uint64_t gpa, unsigned size)
{
    uint64_t value = 0;

    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(gpa), &value, size), 0);
    return value;
}

static void assert_loaded(void)
{
    uint8_t image[CODE_SIZE + BSS];

    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(LOAD), image, sizeof(image)), 0);
    assert_memory_equal(image, file + CODE_AT, CODE_SIZE);
    for (unsigned i = CODE_SIZE; i < sizeof(image); i++) {
        assert_int_equal(image[i], 0);
    }
}

static void assert_protected(uint64_t rip, uint64_t rax)
{
    const struct vmm_backend *b = f->vcpu->backend;
    struct vmm_segment_state cs, ss;

    b->get_segment(f->vcpu, VMM_SEG_CS, &cs);
    b->get_segment(f->vcpu, VMM_SEG_SS, &ss);
    assert_int_equal(cs.base, 0);
    assert_int_equal(cs.limit, 0xffffffff);
    assert_int_equal(cs.attributes, 0xc9b);
    assert_int_equal(ss.attributes, 0xc93);
    assert_int_equal(b->get_sysreg(f->vcpu, VMM_CR0) & (X86_CR0_PE | X86_CR0_PG), X86_CR0_PE);
    assert_int_equal(b->get_sysreg(f->vcpu, VMM_EFER), 0);
    assert_int_equal(f->vcpu->rflags, 2);
    assert_int_equal(f->vcpu->rip, rip);
    assert_int_equal(f->vcpu->gpr[VMM_RAX], rax);
    assert_int_equal(f->vcpu->gpr[VMM_RBX], BOOT_INFO);
}

static void assert_module(uint64_t start)
{
    uint8_t bytes[sizeof(module)];

    assert_int_equal(start % VMM_PAGE_SIZE, 0);
    assert_true(start >= LOAD + CODE_SIZE + BSS);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(start), bytes, sizeof(bytes)), 0);
    assert_memory_equal(bytes, module, sizeof(module));
}

static void assert_text(uint64_t gpa, const char *text)
{
    char bytes[64];

    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(gpa), bytes, sizeof(bytes)), 0);
    assert_memory_equal(bytes, text, strlen(text) + 1);
}

static void assert_rsdp(uint64_t gpa)
{
    uint64_t signature = read_guest(gpa, 8);

    assert_memory_equal(&signature, "RSD PTR ", 8);
}

static void pvh_gives_start_info(void **state)
{
    uint64_t map, ram = 0;

    (void)state;
    for (unsigned wide = 0; wide < 2; wide++) {
        make_elf(wide, true);
        assert_true(boot_is_pvh(&boot.kernel));
        assert_int_equal(boot_load_pvh(&boot), 0);
        assert_loaded();
        assert_protected(LOAD + 0x20, 0);
    }
    assert_int_equal(read_guest(BOOT_INFO, 4), 0x336ec578);
    assert_int_equal(read_guest(BOOT_INFO + 4, 4), 1);
    assert_int_equal(read_guest(BOOT_INFO + 12, 4), 1);
    assert_module(read_guest(read_guest(BOOT_INFO + 16, 8), 8));
    assert_int_equal(read_guest(read_guest(BOOT_INFO + 16, 8) + 8, 8), sizeof(module));
    assert_text(read_guest(BOOT_INFO + 24, 8), "one two");
    assert_rsdp(read_guest(BOOT_INFO + 32, 8));
    map = read_guest(BOOT_INFO + 40, 8);
    for (unsigned i = 0; i < read_guest(BOOT_INFO + 48, 4); i++) {
        ram += read_guest(map + i * 24 + 16, 4) == 1 ? read_guest(map + i * 24 + 8, 8) : 0;
    }
    assert_in_range(ram, RAM - VMM_MIB(1), RAM);
}

static void make_multiboot(uint32_t flags)
{
    put(0x200, 4, 0x1badb002);
    put(0x204, 4, flags);
    put(0x208, 4, -(0x1badb002 + flags));
}

static void multiboot_takes_elf(void **state)
{
    uint64_t modules;

    (void)state;
    for (unsigned wide = 0; wide < 2; wide++) {
        make_elf(wide, false);
        make_multiboot(3);
        assert_true(boot_is_multiboot(&boot.kernel));
        assert_false(boot_is_multiboot2(&boot.kernel) || boot_is_pvh(&boot.kernel));
        assert_int_equal(boot_load_multiboot(&boot), 0);
        assert_loaded();
        assert_protected(LOAD + 0x10, 0x2badb002);
    }
    assert_int_equal(read_guest(BOOT_INFO, 4) & 0x4d, 0x4d);
    assert_int_equal(read_guest(BOOT_INFO + 8, 4), RAM / 1024 - 1024); /* memory above 1 MiB */
    assert_text(read_guest(BOOT_INFO + 16, 4), "kernel one two");
    assert_int_equal(read_guest(BOOT_INFO + 20, 4), 1);
    modules = read_guest(BOOT_INFO + 24, 4);
    assert_module(read_guest(modules, 4));
    assert_int_equal(read_guest(modules + 4, 4) - read_guest(modules, 4), sizeof(module));
    assert_int_equal(read_guest(BOOT_INFO + 44, 4) % 24, 0); /* whole map entries */
}

static void multiboot_takes_address_fields(void **state)
{
    (void)state;
    make_multiboot(1 << 16);
    put(0x20c, 4, LOAD - CODE_AT + 0x200 + 0x100000); /* where the header lies when loaded */
    put(0x210, 4, LOAD - CODE_AT + 0x100000);
    put(0x214, 4, LOAD - CODE_AT + 0x100000 + CODE_AT + CODE_SIZE);
    put(0x218, 4, 0);
    put(0x21c, 4, LOAD + 0x100010);
    assert_int_equal(boot_load_multiboot(&boot), 0);
    assert_int_equal(read_guest(LOAD + 0x100000, 4), boot_get(file, CODE_AT, 4));
    assert_int_equal(f->vcpu->rip, LOAD + 0x100010);
    put(0x210, 4, 0x80000); /* below 1 MiB */
    put(0x20c, 4, 0x80200);
    put(0x214, 4, 0);
    assert_int_equal(boot_load_multiboot(&boot), -VMM_EINVAL);
    assert_non_null(strstr(err.text, "fit"));
}

static uint64_t find_tag(uint32_t type)
{
    uint64_t at = BOOT_INFO + 8, end = BOOT_INFO + read_guest(BOOT_INFO, 4);

    while (at < end) {
        if (read_guest(at, 4) == type) {
            return at;
        }
        at += (read_guest(at + 4, 4) + 7) & ~UINT64_C(7);
    }
    return 0;
}

static void make_multiboot2(void)
{
    put(0x400, 4, 0xe85250d6);
    put(0x408, 4, 32);
    put(0x40c, 4, -(0xe85250d6 + 32));
    put(0x410, 2, 5); /* a framebuffer, if possible */
    put(0x412, 2, 1);
    put(0x414, 4, 8);
    put(0x418, 2, 0);
    put(0x41c, 4, 8);
}

static void multiboot2_gives_tags(void **state)
{
    (void)state;
    make_elf(true, false);
    make_multiboot2();
    assert_true(boot_is_multiboot2(&boot.kernel));
    assert_int_equal(boot_load_multiboot2(&boot), 0);
    assert_loaded();
    assert_protected(LOAD + 0x10, 0x36d76289);
    assert_text(find_tag(1) + 8, "one two");
    assert_module(read_guest(find_tag(3) + 8, 4));
    assert_text(find_tag(3) + 16, "module");
    assert_int_equal(read_guest(find_tag(6) + 8, 4), 24);
    assert_rsdp(find_tag(15) + 8);
    assert_true(find_tag(0) != 0);
}

static void flat_images_are_entered_at_their_first_byte(void **state)
{
    const struct vmm_backend *b = f->vcpu->backend;
    struct vmm_segment_state cs;
    uint8_t image[FILE_SIZE];

    (void)state;
    make_elf(true, true); /* whatever else it is */
    f->vm->config.load_address = 0x1200000;
    assert_int_equal(boot_load_flat32(&boot), 0);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(0x1200000), image, sizeof(image)), 0);
    assert_memory_equal(image, file, sizeof(image));
    assert_int_equal(f->vcpu->rip, 0x1200000);
    assert_int_equal(b->get_sysreg(f->vcpu, VMM_CR0) & (X86_CR0_PE | X86_CR0_PG), X86_CR0_PE);
    assert_text(f->vcpu->gpr[VMM_RBX], "one two");
    assert_module(f->vcpu->gpr[VMM_RSI]);
    assert_int_equal(f->vcpu->gpr[VMM_RCX], sizeof(module));
    assert_rsdp(0xe0000);

    f->vm->config.load_address = 0x7c00;
    boot.args = "";
    guest_set_mode(f, GUEST_REAL);
    assert_int_equal(boot_load_flat16(&boot), 0);
    assert_int_equal(vmm_memory_read(f->vm, VMM_GPA(0x7c00), image, sizeof(image)), 0);
    assert_memory_equal(image, file, sizeof(image));
    b->get_segment(f->vcpu, VMM_SEG_CS, &cs);
    assert_int_equal(cs.base, 0xf0000); /* the services' start goes on to 0:7c00 */
    assert_int_equal(read_guest(0xff202, 4), 0x00007c00);
    assert_int_equal(f->vcpu->gpr[VMM_RDX], 0x80);
    assert_module(f->vcpu->gpr[VMM_RSI]);
    f->vm->config.load_address = 0x12345;
    assert_int_equal(boot_load_flat16(&boot), 0);
    assert_int_equal(read_guest(0xff202, 4), 0x12340005);
}

static uint8_t second[100], third[9000];

static void add_modules(void)
{
    memset(second, 0x22, sizeof(second));
    memset(third, 0x33, sizeof(third));
    boot.more[0] = (struct boot_file){"second with text", second, sizeof(second)};
    boot.more[1] = (struct boot_file){"third", third, sizeof(third)};
    boot.more_count = 2;
}

static void assert_bytes(uint64_t start, uint64_t size, uint8_t byte)
{
    assert_int_equal(read_guest(start, 1), byte);
    assert_int_equal(read_guest(start + size - 1, 1), byte);
}

/* In order, each by itself, none above another. */
static void several_modules(void **state)
{
    uint64_t modules, tag;

    (void)state;
    add_modules();
    make_elf(true, true);
    make_multiboot(3);
    make_multiboot2();
    assert_int_equal(boot_load_multiboot(&boot), 0);
    assert_int_equal(read_guest(BOOT_INFO + 20, 4), 3);
    modules = read_guest(BOOT_INFO + 24, 4);
    assert_module(read_guest(modules, 4));
    assert_text(read_guest(modules + 8, 4), "module");
    assert_bytes(read_guest(modules + 16, 4), sizeof(second), 0x22);
    assert_int_equal(read_guest(modules + 20, 4) - read_guest(modules + 16, 4), sizeof(second));
    assert_text(read_guest(modules + 24, 4), "second with text");
    assert_bytes(read_guest(modules + 32, 4), sizeof(third), 0x33);
    assert_true(read_guest(modules + 4, 4) <= read_guest(modules + 16, 4));
    assert_true(read_guest(modules + 20, 4) <= read_guest(modules + 32, 4));

    assert_int_equal(boot_load_multiboot2(&boot), 0);
    tag = find_tag(3);
    assert_module(read_guest(tag + 8, 4));
    tag += (read_guest(tag + 4, 4) + 7) & ~UINT64_C(7);
    assert_int_equal(read_guest(tag, 4), 3);
    assert_bytes(read_guest(tag + 8, 4), sizeof(second), 0x22);
    assert_text(tag + 16, "second with text");

    assert_int_equal(boot_load_pvh(&boot), 0);
    assert_int_equal(read_guest(BOOT_INFO + 12, 4), 3);
    modules = read_guest(BOOT_INFO + 16, 8);
    assert_bytes(read_guest(modules + 64, 8), sizeof(third), 0x33);
    assert_int_equal(read_guest(modules + 72, 8), sizeof(third));

    boot.more[0].size = RAM; /* does not fit */
    assert_int_equal(boot_load_multiboot(&boot), -VMM_ENOSPC);
    assert_non_null(strstr(err.text, "second with text: 32768 KiB do not fit"));
}

static void modules_by_name(void **state)
{
    struct vm_config *c = &f->vm->config;

    (void)state;
    make_elf(true, false);
    make_multiboot(3);
    posix_host_add_file(f->host, "kernel", file, sizeof(file));
    posix_host_add_file(f->host, "second", second, sizeof(second));
    strcpy(c->kernel_path, "kernel");
    strcpy(c->module[0], "second with text");
    c->module_count = 1;
    assert_int_equal(vmm_load(f->vm, &err), 0);
    assert_int_equal(read_guest(BOOT_INFO + 20, 4), 1);
    assert_text(read_guest(read_guest(BOOT_INFO + 24, 4) + 8, 4), "second with text");
    c->protocol = VM_PROTOCOL_FLAT32;
    assert_int_equal(vmm_load(f->vm, &err), -VMM_EINVAL);
    assert_non_null(strstr(err.text, "modules: its boot protocol has one"));
    c->protocol = VM_PROTOCOL_AUTO;
    strcpy(c->module[0], "fourth");
    assert_int_equal(vmm_load(f->vm, &err), -VMM_ENOENT);
}

/* A protocol that the manifest names is taken, whatever the file offers. */
static void the_manifest_chooses(void **state)
{
    static const struct {
        enum vm_protocol protocol;
        uint64_t rax;
    } row_table[] = {
        {VM_PROTOCOL_AUTO, 0x36d76289},
        {VM_PROTOCOL_MULTIBOOT2, 0x36d76289},
        {VM_PROTOCOL_MULTIBOOT, 0x2badb002},
        {VM_PROTOCOL_PVH, 0},
    };

    (void)state;
    make_elf(true, true);
    make_multiboot(3);
    make_multiboot2();
    posix_host_add_file(f->host, "kernel", file, sizeof(file));
    strcpy(f->vm->config.kernel_path, "kernel");
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(row_table); i++) {
        f->vm->config.protocol = row_table[i].protocol;
        assert_int_equal(vmm_load(f->vm, &err), 0);
        assert_int_equal(f->vcpu->gpr[VMM_RAX], row_table[i].rax);
        assert_int_equal(f->vcpu->rip, row_table[i].rax == 0 ? LOAD + 0x20 : LOAD + 0x10);
    }
    f->vm->config.protocol = VM_PROTOCOL_LINUX32;
    assert_int_equal(vmm_load(f->vm, &err), -VMM_EINVAL);
    assert_non_null(strstr(err.text, "kernel: not a Linux kernel"));
}

static void refuses(int (*load)(const struct boot *b), const char *why)
{
    assert_int_equal(load(&boot), -VMM_EINVAL);
    if (strstr(err.text, why) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, why);
    }
}

static void malformed_files_are_refused(void **state)
{
    (void)state;
    make_elf(true, true);
    put(64 + 8, 8, FILE_SIZE);
    refuses(boot_load_pvh, "truncated");
    make_elf(true, true);
    put(32, 8, UINT64_MAX - 8);
    refuses(boot_load_pvh, "truncated");
    make_elf(true, true);
    put(64 + 40, 8, CODE_SIZE - 1);
    refuses(boot_load_pvh, "larger");
    make_elf(true, true);
    put(64 + 24, 8, 0x8000);
    refuses(boot_load_pvh, "below 1 MiB");
    make_elf(true, true);
    put(64 + 24, 8, RAM - 4096);
    refuses(boot_load_pvh, "beyond the guest's RAM");
    make_elf(true, true);
    put(64 + 24, 8, UINT64_MAX - 100);
    refuses(boot_load_pvh, "beyond the guest's RAM");
    make_elf(true, true);
    put(64, 4, 2);
    refuses(boot_load_pvh, "no segment");
    make_elf(true, false);
    refuses(boot_load_pvh, "no PVH entry");
    refuses(boot_load_multiboot, "no multiboot header");
    refuses(boot_load_multiboot2, "no multiboot2 header");
    make_multiboot(0x8000);
    refuses(boot_load_multiboot, "unknown");
    make_multiboot2();
    put(0x414, 4, 100);
    refuses(boot_load_multiboot2, "longer than the header");
    make_multiboot2();
    put(0x410, 2, 11); /* no tag that is known, and not optional */
    put(0x412, 2, 0);
    refuses(boot_load_multiboot2, "demands something unknown");
    put(0x412, 2, 1);
    assert_int_equal(boot_load_multiboot2(&boot), 0);
    f->vm->config.load_address = 0x500;
    refuses(boot_load_flat32, "16384 bytes at 0x500 do not fit between 0x9000 and 0x9fc00");
    f->vm->config.load_address = RAM - 16000;
    refuses(boot_load_flat32, "do not fit between 0x9000 and 0x2000000");
    f->vm->config.load_address = 0x7c00;
    refuses(boot_load_flat16, "takes none");
    boot.args = "";
    f->vm->config.load_address = 0x9c000;
    refuses(boot_load_flat16, "do not fit between 0x500 and 0x9fc00");
}

/* Whatever a file says: refused, or loaded inside the guest's RAM. */
static void random_damage_is_survived(void **state)
{
    static int (*const load_table[])(const struct boot *b) = {boot_load_pvh, boot_load_multiboot,
                                                              boot_load_multiboot2};
    uint64_t x = 88172645463325252;

    (void)state;
    for (unsigned i = 0; i < 30000; i++) {
        memset(file, 0, CODE_AT);
        make_elf(i % 2, true);
        make_multiboot((i & 4) != 0 ? 1 << 16 : 0);
        make_multiboot2();
        for (unsigned n = 0; n <= i % 4; n++) {
            static const uint64_t edge[] = {0, 1, 0xffff, 0x7fffffff, 0xffffffff, UINT64_MAX};

            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            put(x % 0x430, 1u << (x >> 20 & 3), (x >> 30 & 1) != 0 ? edge[x >> 40 & 3] : x);
        }
        boot.kernel.size = (i & 8) != 0 ? x % FILE_SIZE : FILE_SIZE;
        for (unsigned k = 0; k < VMM_ARRAY_COUNT(load_table); k++) {
            if (k == 0 && !boot_is_pvh(&boot.kernel)) {
                continue;
            }
            err.text[0] = '\0';
            if (load_table[k](&boot) != 0) {
                assert_true(err.text[0] != '\0');
            }
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pvh_gives_start_info),
        TEST(multiboot_takes_elf),
        TEST(multiboot_takes_address_fields),
        TEST(multiboot2_gives_tags),
        TEST(malformed_files_are_refused),
        TEST(random_damage_is_survived),
        TEST(flat_images_are_entered_at_their_first_byte),
        TEST(the_manifest_chooses),
        TEST(several_modules),
        TEST(modules_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
