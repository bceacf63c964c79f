/* Manifests: what a good one gives, and the line for each mistake. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FREE_MIB 900

static struct posix_host *host;
static struct vmm vmm;
static struct vm_config config;
static struct vmm_error err;

static int setup(void **state)
{
    (void)state;
    host = posix_host_create(VMM_MIB(FREE_MIB), 2, POSIX_CLOCK_VIRTUAL);
    memset(&vmm, 0, sizeof(vmm));
    vmm.ops = posix_host_ops(host);
    vmm.host = host;
    posix_host_add_file(host, "linux/vmlinuz", "k", 1);
    posix_host_add_file(host, "linux/initrd", "i", 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(posix_host_destroy(host), 0);
    return 0;
}

static int parse(const char *text)
{
    size_t length = strlen(text);
    char *copy = malloc(length); /* not terminated: the parser must not look beyond the end */
    int result;

    memcpy(copy, text, length);
    memset(&err, 0, sizeof(err));
    result = vmm_manifest_parse(&vmm, "vms/a.json", copy, length, &config, &err);
    free(copy);
    return result;
}

static void everything(void **state)
{
    (void)state;
    assert_int_equal(parse("\xef\xbb\xbf{\n"
                           "  \"name\": \"linux-6.1_a\",\n"
                           "  \"cpus\": [1, 0],\n"
                           "  \"boot-source\": {\n"
                           "    \"boot_args\": \"console=ttyS0 a=\\\"b\\\"\",\n"
                           "    \"kernel_image_path\": \"linux/vmlinuz\",\n"
                           "    \"modules\": [\"linux/initrd one two\", \"linux/vmlinuz\"],\n"
                           "    \"protocol\": \"flat32\", \"load_address\": \"0x7fEe0000\",\n"
                           "    \"initrd_path\": \"linux/initrd\"\n"
                           "  },\n"
                           "  \"machine-config\": {\"vcpu_count\": 2, \"mem_size_mib\": 256,\n"
                           "    \"huge_pages\": \"None\", \"msi\": false},\n"
                           "  \"numa_node\": 1, \"lazy_memory\": true, \"power\": \"node\"\n"
                           "}\n"),
                     0);
    assert_string_equal(config.name, "linux-6.1_a");
    assert_string_equal(config.kernel_path, "linux/vmlinuz");
    assert_string_equal(config.initrd_path, "linux/initrd");
    assert_string_equal(config.boot_args, "console=ttyS0 a=\"b\"");
    assert_int_equal(config.protocol, VM_PROTOCOL_FLAT32);
    assert_int_equal(config.module_count, 2);
    assert_string_equal(config.module[0], "linux/initrd one two");
    assert_string_equal(config.module[1], "linux/vmlinuz");
    assert_int_equal(config.load_address, 0x7fee0000);
    assert_int_equal(config.vcpu_count, 2);
    assert_int_equal(config.mem_bytes, VMM_MIB(256));
    assert_int_equal(config.cpu[0], 1);
    assert_int_equal(config.cpu[1], 0);
    assert_int_equal(config.cpu[2], -1);
    assert_int_equal(config.node, 1);
    assert_true(config.lazy_memory);
    assert_int_equal(config.huge_pages, VM_HUGE_PAGES_NONE);
    assert_true(config.no_msi);
    assert_int_equal(config.power, VM_POWER_NODE);
}

#define BOOT    "\"boot-source\":{\"kernel_image_path\":\"linux/vmlinuz\"}"
#define INITRD  "\"linux/initrd\""
#define SEVEN   INITRD "," INITRD "," INITRD "," INITRD "," INITRD "," INITRD "," INITRD
#define KERNEL  "\"kernel_image_path\":\"linux/vmlinuz\","
#define MACHINE "\"machine-config\":{\"vcpu_count\":2,\"mem_size_mib\":256}"
#define NAME    "\"name\":\"a\""

static void the_least(void **state)
{
    (void)state;
    memset(&config, 0x55, sizeof(config));
    assert_int_equal(parse("{" NAME "," BOOT "," MACHINE "}"), 0);
    assert_string_equal(config.initrd_path, "");
    assert_string_equal(config.boot_args, "");
    assert_int_equal(config.protocol, VM_PROTOCOL_AUTO);
    assert_int_equal(config.cpu[0], -1);
    assert_int_equal(config.cpu[63], -1);
    assert_int_equal(config.node, -1);
    assert_false(config.lazy_memory);
    assert_int_equal(config.huge_pages, VM_HUGE_PAGES_ANY);
    assert_false(config.no_msi);
    assert_int_equal(config.power, VM_POWER_STOP);
    assert_null(config.cookie);
}

struct row {
    const char *text, *line; /* without the file's name */
};

#define A31  "aaaaaaaaaabbbbbbbbbbccccccccccd"
#define A100 A31 A31 A31 "1234567"

static const struct row row_table[] = {
    /* syntax */
    {"", "line 1, column 1: the text ends too early"},
    {"   \n  ", "line 2, column 2: the text ends too early"},
    {"{", "line 1, column 1: the text ends too early"},
    {"{\n  \"name\" \"a\"}", "line 2, column 10: not JSON from here on"},
    {"{\"name\": \"a\",\n \"cpus\": [1,2\n}", "line 3, column 1: the text ends too early"},
    {"{\"name\": \"a\",\n \"cpus\": [1 2]\n}", "line 2, column 13: not JSON from here on"},
    {"{\n\"name\": \"a\"\n\"cpus\": []\n}", "line 3, column 1: not JSON from here on"},
    {"{\"name\":\"a\",}", "line 1, column 13: the text ends too early"},
    {"{\"name\":tru}", "line 1, column 9: not JSON from here on"},
    {"{\"name\":\"a\\q\"}", "line 1, column 11: not JSON from here on"},
    {"{\n  \"name\": \"a,\n  \"power\": \"stop\"\n}", "line 2, column 11: string is not closed"},
    {"{} x", "line 1, column 4: something follows the end of the manifest"},
    {"{}{}", "line 1, column 3: something follows the end of the manifest"},
    {"[[[[[[[[[]]]]]]]]]", "line 1, column 9: too many levels"},
    {"// c\n{}", "line 1, column 1: not JSON from here on"},
    /* keys */
    {"[]", "line 1: must be an object, not a list"},
    {"3", "line 1: must be an object, not a number"},
    {"{}", "line 1: key \"name\" is missing"},
    {"{" NAME "}", "line 1: key \"machine-config\" is missing"},
    {"{" NAME "," MACHINE "}", "line 1: key \"boot-source\" is missing"},
    {"{" NAME ",\n" BOOT ",\n\"machine-config\":{\"vcpu_count\":1}}",
     "line 3: machine-config: key \"mem_size_mib\" is missing"},
    {"{" NAME ",\n" MACHINE ",\n\n\"boot-source\":{}}",
     "line 4: boot-source: key \"kernel_image_path\" is missing"},
    {"{" NAME ",\n" MACHINE
     ",\n\n\"boot-source\":{\"firmware_path\":\"linux/initrd\",\"boot_args\":\"x\"}}",
     "line 4: boot-source: \"firmware_path\" stands alone"},
    {"{" NAME ",\n" BOOT ",\n" MACHINE ",\n\"nmae\":1}",
     "line 4: unknown key \"nmae\", the nearest is \"name\""},
    {"{\"boot_source\":{}}", "line 1: unknown key \"boot_source\", the nearest is \"boot-source\""},
    {"{" NAME "," BOOT ",\"machine-config\":{\n\"vcpu_count\":1,\n\"mem_size\":1}}",
     "line 3: machine-config: unknown key \"mem_size\", the nearest is \"mem_size_mib\""},
    {"{\"\":1}", "line 1: unknown key \"\", the nearest is \"cpu\""},
    {"{" NAME ",\n \"name\":\"b\"}", "line 2: key \"name\" is there twice"},
    {"{" NAME "," BOOT ",\"machine-config\":{\"vcpu_count\":1,\n\"vcpu_count\":1}}",
     "line 2: machine-config: key \"vcpu_count\" is there twice"},
    /* types */
    {"{\"name\":5," BOOT "," MACHINE "}", "line 1: name: must be a string, not a number"},
    {"{" NAME "," BOOT ",\n\"machine-config\":[]}",
     "line 2: machine-config: must be an object, not a list"},
    {"{" NAME "," MACHINE ",\n\"boot-source\":\"linux/vmlinuz\"}",
     "line 2: boot-source: must be an object, not a string"},
    {"{" NAME "," BOOT ",\"machine-config\":{\n\"vcpu_count\":\"2\",\"mem_size_mib\":1}}",
     "line 2: machine-config.vcpu_count: must be a number, not a string"},
    {"{" NAME "," BOOT
     ",\"machine-config\":{\n\"huge_pages\":2,\"vcpu_count\":1,\"mem_size_mib\":2}}",
     "line 2: machine-config.huge_pages: must be a string, not a number"},
    {"{" NAME "," BOOT
     ",\"machine-config\":{\n\"huge_pages\":\"4M\",\"vcpu_count\":1,\"mem_size_mib\":2}}",
     "line 2: machine-config.huge_pages: must be \"2M\" or \"None\""},
    {"{" NAME "," BOOT ",\"machine-config\":{\"vcpu_count\":2,\"mem_size_mib\":256,\n\"msi\":0}}",
     "line 2: machine-config.msi: must be true or false, not a number"},
    {"{" NAME "," BOOT "," MACHINE ",\n\"cpus\":1}", "line 2: cpus: must be a list, not a number"},
    {"{" NAME "," BOOT "," MACHINE ",\n\"lazy_memory\":1}",
     "line 2: lazy_memory: must be true or false, not a number"},
    {"{" NAME "," BOOT "," MACHINE ",\n\"power\":null}",
     "line 2: power: must be a string, not null"},
    /* values */
    {"{\"name\":\"\"," BOOT "," MACHINE "}", "line 1: name: is empty"},
    {"{\"name\":\"a b\"," BOOT "," MACHINE "}",
     "line 1: name: only letters, digits, \"-\", \"_\" and \".\" are possible"},
    {"{\"name\":\"" A31 "e\"," BOOT "," MACHINE "}",
     "line 1: name: 32 characters, at most 31 are possible"},
    {"{" NAME "," MACHINE ",\n\"boot-source\":{\"kernel_image_path\":\"" A100 A31 "\"}}",
     "line 2: boot-source.kernel_image_path: 131 characters, at most 127 are possible"},
    {"{" NAME "," MACHINE ",\n\"boot-source\":{\n\"kernel_image_path\":\"linux/vmlinux\"}}",
     "line 3: boot-source.kernel_image_path: linux/vmlinux: no such file"},
    {"{" NAME "," MACHINE ",\"boot-source\":{\"kernel_image_path\":\"\"}}",
     "line 1: boot-source.kernel_image_path: is empty"},
    {"{" NAME "," MACHINE
     ",\"boot-source\":{\"kernel_image_path\":\"linux/vmlinuz\",\n\"initrd_path\":\"x\"}}",
     "line 2: boot-source.initrd_path: x: no such file"},
    {"{" NAME "," MACHINE ",\"boot-source\":{" KERNEL "\n\"modules\":\"linux/initrd\"}}",
     "line 2: boot-source.modules: must be a list, not a string"},
    {"{" NAME "," MACHINE ",\"boot-source\":{" KERNEL
     "\"modules\":[\n\"linux/initrd\",\n\"x y\"]}}",
     "line 3: boot-source.modules: x: no such file"},
    {"{" NAME "," MACHINE ",\"boot-source\":{" KERNEL "\"modules\":[\" x\"]}}",
     "line 1: boot-source.modules: is empty"},
    {"{" NAME "," MACHINE ",\"boot-source\":{" KERNEL "\"modules\":[" SEVEN
     ",\n\"linux/initrd\"]}}",
     "line 2: boot-source.modules: more than 7"},
    {"{" NAME "," MACHINE ",\"boot-source\":{" KERNEL "\n\"protocol\":\"linux\"}}",
     "line 2: boot-source.protocol: must be linux64, linux32, linux16, pvh, multiboot, multiboot2, "
     "flat32 or flat16"},
    {"{" NAME "," MACHINE ",\"boot-source\":{" KERNEL "\n\"protocol\":32}}",
     "line 2: boot-source.protocol: must be a string, not a number"},
    {"{" NAME "," MACHINE ",\"boot-source\":{" KERNEL "\"protocol\":\"flat16\"}}",
     "line 1: boot-source: key \"load_address\" is missing"},
    {"{" NAME "," MACHINE ",\"boot-source\":{" KERNEL "\"load_address\":\"0x7c00\"}}",
     "line 1: boot-source: \"load_address\" goes with protocol flat32 or flat16"},
    {"{" NAME "," MACHINE ",\"boot-source\":{" KERNEL "\n\"load_address\":4096}}",
     "line 2: boot-source.load_address: must be a string such as \"0x100000\", below 4 GiB"},
    {"{" NAME "," MACHINE ",\"boot-source\":{" KERNEL "\n\"load_address\":\"0x\"}}",
     "line 2: boot-source.load_address: must be a string such as \"0x100000\", below 4 GiB"},
    {"{" NAME "," MACHINE ",\"boot-source\":{" KERNEL "\n\"load_address\":\"0x7g00\"}}",
     "line 2: boot-source.load_address: \"g\" is no hexadecimal digit"},
    {"{" NAME "," BOOT ",\"machine-config\":{\"vcpu_count\":0,\"mem_size_mib\":1}}",
     "line 1: machine-config.vcpu_count: must be a whole number from 1 to 64"},
    {"{" NAME "," BOOT ",\"machine-config\":{\"vcpu_count\":65,\"mem_size_mib\":1}}",
     "line 1: machine-config.vcpu_count: must be a whole number from 1 to 64"},
    {"{" NAME "," BOOT ",\"machine-config\":{\"vcpu_count\":1.5,\"mem_size_mib\":1}}",
     "line 1: machine-config.vcpu_count: must be a whole number from 1 to 64"},
    {"{" NAME "," BOOT ",\"machine-config\":{\"vcpu_count\":1,\n\"mem_size_mib\":99999}}",
     "line 2: machine-config.mem_size_mib: 99999 MiB asked, 900 MiB free"},
    {"{" NAME "," BOOT ",\"machine-config\":{\"vcpu_count\":1,\"mem_size_mib\":1}}",
     "line 1: machine-config.mem_size_mib: must be a whole number from 2 to 16777216"},
    {"{" NAME "," BOOT ",\"machine-config\":{\"vcpu_count\":1,\"mem_size_mib\":-5}}",
     "line 1: machine-config.mem_size_mib: must be a whole number from 2 to 16777216"},
    {"{" NAME "," BOOT ",\"machine-config\":{\"vcpu_count\":1,\"mem_size_mib\":1e300}}",
     "line 1: machine-config.mem_size_mib: must be a whole number from 2 to 16777216"},
    {"{" NAME "," BOOT "," MACHINE ",\n\"cpus\":[0,\n7]}",
     "line 3: cpus: cpu 7: this node has CPUs 0-1"},
    {"{" NAME "," BOOT "," MACHINE ",\n\"cpus\":[0]}", "line 2: cpus: 1 named, the VM has 2"},
    {"{" NAME "," BOOT "," MACHINE ",\n\"cpus\":[0,1,\n0]}",
     "line 3: cpus: more CPUs than the VM's 2"},
    {"{" NAME "," BOOT "," MACHINE ",\n\"cpus\":[0,\"1\"]}",
     "line 2: cpus: must be a number, not a string"},
    {"{" NAME "," BOOT "," MACHINE ",\n\"cpus\":[0,-1]}",
     "line 2: cpus: must be a whole number from 0 to 2147483647"},
    {"{" NAME "," BOOT "," MACHINE ",\"numa_node\":[]}", "line 1: numa_node: no node in the list"},
    {"{" NAME "," BOOT "," MACHINE ",\"numa_node\":[0,64]}",
     "line 1: numa_node: must be a whole number from 0 to 63"},
    {"{" NAME "," BOOT "," MACHINE ",\"numa_node\":[0,1,0,1,0,1,0,1,0]}",
     "line 1: numa_node: more than 8 nodes"},
    {"{" NAME "," BOOT "," MACHINE ",\"balloon\":{}}",
     "line 1: balloon: key \"amount_mib\" is missing"},
    {"{" NAME "," BOOT "," MACHINE ",\"balloon\":{\"amount_mib\":100000}}",
     "line 1: balloon: all of the VM's memory asked, or more"},
    {"{" NAME "," BOOT "," MACHINE ",\"numa_node\":64}",
     "line 1: numa_node: must be a whole number from 0 to 63"},
    {"{" NAME "," BOOT "," MACHINE ",\"power\":\"off\"}",
     "line 1: power: must be \"stop\" or \"node\""},
    {"{" NAME "," BOOT "," MACHINE ",\"cpu\":{\"hide\":[\"avx\",\"avy\"]}}",
     "line 1: cpu.hide: there is no feature \"avy\" that can be hidden"},
    {"{" NAME "," BOOT "," MACHINE ",\"cpu\":{\"hide\":\"avx\"}}",
     "line 1: cpu.hide: must be a list, not a string"},
    {"{" NAME "," BOOT "," MACHINE ",\"cpu\":{\"unknown_msrs\":\"panic\"}}",
     "line 1: cpu.unknown_msrs: must be \"fault\" or \"ignore\""},
};

static void each_mistake(void **state)
{
    (void)state;
    for (unsigned n = 0; n < VMM_ARRAY_COUNT(row_table); n++) {
        char expected[300];

        snprintf(expected, sizeof(expected), "vms/a.json: %s", row_table[n].line);
        assert_int_not_equal(parse(row_table[n].text), 0);
        if (strcmp(err.text, expected) != 0) {
            fail_msg("%s\ngives  %s\nshould %s", row_table[n].text, err.text, expected);
        }
    }
}

static void nul_and_length(void **state)
{
    static char text[70000];

    (void)state;
    assert_int_not_equal(vmm_manifest_parse(&vmm, "f", "{\n\0}", 4, &config, &err), 0);
    assert_string_equal(err.text, "f: line 2, column 1: a NUL character");
    memset(text, ' ', sizeof(text));
    assert_int_equal(vmm_manifest_parse(&vmm, "f", text, sizeof(text), &config, &err), -VMM_E2BIG);
    assert_string_equal(err.text, "f: 70000 bytes, a manifest has at most 65536");
}

static void a_vm_of_that_name(void **state)
{
    struct vm other = {.vmm = &vmm, .config = {.name = "a"}};

    (void)state;
    vmm.vms = &other;
    assert_int_not_equal(parse("{\n" NAME "," BOOT "," MACHINE "}"), 0);
    assert_string_equal(err.text, "vms/a.json: line 2: name: a VM named \"a\" exists already");
    vmm.vms = NULL;
}

/* Every way to cut or damage a good manifest gives one line or is still good. */
static void damaged(void **state)
{
    static const char good[] =
        "{\n" NAME ",\n" BOOT ",\n" MACHINE ",\n\"cpus\":[0,1],\"power\":\"stop\"}";
    char text[sizeof(good)];

    (void)state;
    for (size_t length = 0; length < sizeof(good) - 1; length++) {
        strcpy(text, good);
        text[length] = '\0';
        assert_int_not_equal(parse(text), 0);
        assert_true(strncmp(err.text, "vms/a.json: line ", 17) == 0);
    }
    srandom(11);
    for (unsigned n = 0; n < 20000; n++) {
        strcpy(text, good);
        for (unsigned i = 0; i <= n % 3; i++) {
            text[(unsigned)random() % (sizeof(good) - 1)] = (char)(1 + random() % 255);
        }
        if (parse(text) != 0) {
            assert_true(strncmp(err.text, "vms/a.json: line ", 17) == 0);
            assert_null(strchr(err.text, '\n'));
        }
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(everything),     TEST(the_least),         TEST(each_mistake),
        TEST(nul_and_length), TEST(a_vm_of_that_name), TEST(damaged),
    };

    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
