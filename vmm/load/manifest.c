/* Manifest text to a checked configuration. docs/manifest.md describes the format.
 * Uses floating point: cJSON keeps numbers as doubles. */
#include <cJSON.h>

#include "core/cpuid.h"
#include "core/vm.h"
#include "load/load.h"
#include "load/manifest_reader.h"
#include "load/manifest_text.h"

#define TEXT_MAX    65536
#define MEM_MIB_MIN 2
#define MEM_MIB_MAX (1 << 24) /* 16 TiB */
#define NODE_MAX    63

static int check_file(struct manifest_reader *r, const cJSON *item,
                      const struct manifest_path *path, const char *name)
{
    const struct vmm_host_files *files = r->vmm->ops->files;
    const void *data;
    uint64_t size;

    if (name[0] == '\0') {
        return manifest_fail(r, item, path, "is empty");
    }
    if (files == NULL || files->open(r->vmm->host, name, &data, &size) != 0) {
        return manifest_fail(r, item, path, "%s: no such file", name);
    }
    files->close(r->vmm->host, name, data);
    return 0;
}

static int take_path(struct manifest_reader *r, const cJSON *item, const struct manifest_path *path,
                     char *out, size_t room)
{
    int error = manifest_take_string(r, item, path, out, room);

    return error != 0 ? error : check_file(r, item, path, out);
}

/* --- the keys ------------------------------------------------------------------------------------
 */

static bool is_name_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}

static int take_name(struct manifest_reader *r, const cJSON *item, const struct manifest_path *path)
{
    char *name = r->config->name;
    int error = manifest_take_string(r, item, path, name, sizeof(r->config->name));

    if (error != 0) {
        return error;
    }
    if (name[0] == '\0') {
        return manifest_fail(r, item, path, "is empty");
    }
    for (const char *c = name; *c != '\0'; c++) {
        if (!is_name_character(*c)) {
            return manifest_fail(r, item, path,
                                 "only letters, digits, \"-\", \"_\" and \".\" are possible");
        }
    }
    if (vmm_vm_find(r->vmm, name) != NULL) {
        return manifest_fail(r, item, path, "a VM named \"%s\" exists already", name);
    }
    return 0;
}

static int take_kernel(struct manifest_reader *r, const cJSON *item,
                       const struct manifest_path *path)
{
    return take_path(r, item, path, r->config->kernel_path, sizeof(r->config->kernel_path));
}

static int take_firmware(struct manifest_reader *r, const cJSON *item,
                         const struct manifest_path *path)
{
    return take_path(r, item, path, r->config->firmware_path, sizeof(r->config->firmware_path));
}

static int take_initrd(struct manifest_reader *r, const cJSON *item,
                       const struct manifest_path *path)
{
    return take_path(r, item, path, r->config->initrd_path, sizeof(r->config->initrd_path));
}

/* Each a path, with text behind it that goes to the guest. */
static int take_modules(struct manifest_reader *r, const cJSON *item,
                        const struct manifest_path *path)
{
    struct vm_config *config = r->config;

    if (!cJSON_IsArray(item)) {
        return manifest_wrong_type(r, item, path, "a list");
    }
    for (const cJSON *c = item->child; c != NULL; c = c->next) {
        char *module = config->module[config->module_count];
        char file[sizeof(config->module[0])];
        int error;

        if (config->module_count == VMM_MODULES_MAX) {
            return manifest_fail(r, c, path, "more than %u", VMM_MODULES_MAX);
        }
        error = manifest_take_string(r, c, path, module, sizeof(file));
        if (error != 0) {
            return error;
        }
        vmm_module_path(module, file);
        error = check_file(r, c, path, file);
        if (error != 0) {
            return error;
        }
        config->module_count++;
    }
    return 0;
}

static int take_boot_args(struct manifest_reader *r, const cJSON *item,
                          const struct manifest_path *path)
{
    return manifest_take_string(r, item, path, r->config->boot_args, sizeof(r->config->boot_args));
}

static int take_protocol(struct manifest_reader *r, const cJSON *item,
                         const struct manifest_path *path)
{
    static const char *const name_table[] = {
        [VM_PROTOCOL_LINUX64] = "linux64",     [VM_PROTOCOL_LINUX32] = "linux32",
        [VM_PROTOCOL_LINUX16] = "linux16",     [VM_PROTOCOL_PVH] = "pvh",
        [VM_PROTOCOL_MULTIBOOT] = "multiboot", [VM_PROTOCOL_MULTIBOOT2] = "multiboot2",
        [VM_PROTOCOL_FLAT32] = "flat32",       [VM_PROTOCOL_FLAT16] = "flat16",
    };

    unsigned protocol = VM_PROTOCOL_AUTO;
    int error = manifest_take_word(
        r, item, path, name_table, VMM_ARRAY_COUNT(name_table),
        "linux64, linux32, linux16, pvh, multiboot, multiboot2, flat32 or flat16", &protocol);

    r->config->protocol = (enum vm_protocol)protocol;
    return error;
}

/* "0x7c00": JSON has no hexadecimal numbers. */
static int take_load_address(struct manifest_reader *r, const cJSON *item,
                             const struct manifest_path *path)
{
    const char *c = cJSON_IsString(item) ? item->valuestring : "";
    uint64_t value = 0;

    if (c[0] != '0' || c[1] != 'x' || c[2] == '\0' || __builtin_strlen(c) > 10) {
        return manifest_fail(r, item, path, "must be a string such as \"0x100000\", below 4 GiB");
    }
    for (c += 2; *c != '\0'; c++) {
        char lower = (char)(*c | 0x20);

        if (*c >= '0' && *c <= '9') {
            value = value << 4 | (uint64_t)(*c - '0');
        } else if (lower >= 'a' && lower <= 'f') {
            value = value << 4 | (uint64_t)(lower - 'a' + 10);
        } else {
            return manifest_fail(r, item, path, "\"%.1s\" is no hexadecimal digit", c);
        }
    }
    r->config->load_address = value;
    return 0;
}

static int take_vcpu_count(struct manifest_reader *r, const cJSON *item,
                           const struct manifest_path *path)
{
    long count = 0;
    int error = manifest_take_number(r, item, path, 1, VMM_VCPUS_MAX, &count);

    r->config->vcpu_count = (unsigned)count;
    return error;
}

static int take_mem_size(struct manifest_reader *r, const cJSON *item,
                         const struct manifest_path *path)
{
    uint64_t available = r->vmm->ops->pages_available(r->vmm->host);
    long mib = 0;
    int error = manifest_take_number(r, item, path, MEM_MIB_MIN, MEM_MIB_MAX, &mib);

    if (error != 0) {
        return error;
    }
    r->config->mem_bytes = VMM_MIB(mib);
    if (r->config->mem_bytes > available) {
        return manifest_fail(r, item, path, "%ld MiB asked, %llu MiB free", mib,
                             (unsigned long long)(available >> 20));
    }
    return 0;
}

static int take_cpus(struct manifest_reader *r, const cJSON *item, const struct manifest_path *path)
{
    unsigned cpu_count = r->vmm->ops->cpu_count(r->vmm->host);
    unsigned n = 0;

    if (!cJSON_IsArray(item)) {
        return manifest_wrong_type(r, item, path, "a list");
    }
    for (const cJSON *c = item->child; c != NULL; c = c->next, n++) {
        long cpu = 0;
        int error;

        if (n == r->config->vcpu_count) {
            return manifest_fail(r, c, path, "more CPUs than the VM's %u", n);
        }
        error = manifest_take_number(r, c, path, 0, INT32_MAX, &cpu);
        if (error != 0) {
            return error;
        }
        if (cpu >= (long)cpu_count) {
            return manifest_fail(r, c, path, "cpu %ld: this node has CPUs 0-%u", cpu,
                                 cpu_count - 1);
        }
        r->config->cpu[n] = (int)cpu;
    }
    if (n != r->config->vcpu_count) {
        return manifest_fail(r, item, path, "%u named, the VM has %u", n, r->config->vcpu_count);
    }
    return 0;
}

/* One node, or a list of those that RAM is divided among. */
static int take_numa_node(struct manifest_reader *r, const cJSON *item,
                          const struct manifest_path *path)
{
    struct vm_config *c = r->config;
    long node = 0;
    int error = 0;

    if (!cJSON_IsArray(item)) {
        error = manifest_take_number(r, item, path, 0, NODE_MAX, &node);
        c->node = (int)node;
        return error;
    }
    for (const cJSON *n = item->child; error == 0 && n != NULL; n = n->next) {
        if (c->ram_node_count == VMM_RAM_NODES_MAX) {
            return manifest_fail(r, n, path, "more than %u nodes", VMM_RAM_NODES_MAX);
        }
        error = manifest_take_number(r, n, path, 0, NODE_MAX, &node);
        c->ram_node[c->ram_node_count++] = (uint8_t)node;
    }
    if (error == 0 && c->ram_node_count == 0) {
        return manifest_fail(r, item, path, "no node in the list");
    }
    return error;
}

static int take_bool(struct manifest_reader *r, const cJSON *item, const struct manifest_path *path,
                     bool *out)
{
    if (!cJSON_IsBool(item)) {
        return manifest_wrong_type(r, item, path, "true or false");
    }
    *out = cJSON_IsTrue(item);
    return 0;
}

static int take_huge_pages(struct manifest_reader *r, const cJSON *item,
                           const struct manifest_path *path)
{
    static const char *const name_table[] = {
        [VM_HUGE_PAGES_2M] = "2M", [VM_HUGE_PAGES_NONE] = "None"};
    unsigned pages = VM_HUGE_PAGES_ANY;
    int error = manifest_take_word(r, item, path, name_table, VMM_ARRAY_COUNT(name_table),
                                   "\"2M\" or \"None\"", &pages);

    r->config->huge_pages = (enum vm_huge_pages)pages;
    return error;
}

static int take_lazy_memory(struct manifest_reader *r, const cJSON *item,
                            const struct manifest_path *path)
{
    return take_bool(r, item, path, &r->config->lazy_memory);
}

static int take_msi(struct manifest_reader *r, const cJSON *item, const struct manifest_path *path)
{
    bool msi = true;
    int error = take_bool(r, item, path, &msi);

    r->config->no_msi = !msi;
    return error;
}

static int take_power(struct manifest_reader *r, const cJSON *item,
                      const struct manifest_path *path)
{
    static const char *const name_table[] = {[VM_POWER_STOP] = "stop", [VM_POWER_NODE] = "node"};
    unsigned power = VM_POWER_STOP;
    int error = manifest_take_word(r, item, path, name_table, VMM_ARRAY_COUNT(name_table),
                                   "\"stop\" or \"node\"", &power);

    r->config->power = (enum vm_power_action)power;
    return error;
}

static const struct manifest_key boot_source_table[] = {
    {"kernel_image_path", false, take_kernel},  {"initrd_path", false, take_initrd},
    {"modules", false, take_modules},           {"boot_args", false, take_boot_args},
    {"firmware_path", false, take_firmware},    {"protocol", false, take_protocol},
    {"load_address", false, take_load_address},
};

static int take_balloon_size(struct manifest_reader *r, const cJSON *item,
                             const struct manifest_path *path)
{
    long mib = 0;
    int error = manifest_take_number(r, item, path, 0, MEM_MIB_MAX, &mib);

    r->config->balloon_bytes = VMM_MIB(mib);
    return error;
}

static const struct manifest_key balloon_table[] = {
    {"amount_mib", true, take_balloon_size},
};

static int take_balloon(struct manifest_reader *r, const cJSON *item,
                        const struct manifest_path *path)
{
    const struct manifest_schema s = {balloon_table, VMM_ARRAY_COUNT(balloon_table)};
    int error = manifest_take_object(r, item, path, &s);

    if (error == 0 && r->config->mem_bytes != 0 &&
        r->config->balloon_bytes >= r->config->mem_bytes) {
        return manifest_fail(r, item, path, "all of the VM's memory asked, or more");
    }
    return error;
}

static const struct manifest_key machine_config_table[] = {
    {"vcpu_count", true, take_vcpu_count},
    {"mem_size_mib", true, take_mem_size},
    {"huge_pages", false, take_huge_pages},
    {"msi", false, take_msi},
};

static int take_boot_source(struct manifest_reader *r, const cJSON *item,
                            const struct manifest_path *path)
{
    const struct manifest_schema s = {boot_source_table, VMM_ARRAY_COUNT(boot_source_table)};
    const struct vm_config *c = r->config;
    int error = manifest_take_object(r, item, path, &s);
    bool flat = c->protocol == VM_PROTOCOL_FLAT32 || c->protocol == VM_PROTOCOL_FLAT16;

    if (error != 0) {
        return error;
    }
    if (flat != manifest_has(item, "load_address")) {
        return manifest_fail(r, item, path,
                             flat ? "key \"load_address\" is missing"
                                  : "\"load_address\" goes with protocol flat32 or flat16");
    }
    if (c->firmware_path[0] == '\0') {
        return c->kernel_path[0] != '\0'
                   ? 0
                   : manifest_fail(r, item, path, "key \"kernel_image_path\" is missing");
    }
    if (c->kernel_path[0] != '\0' || c->initrd_path[0] != '\0' || c->boot_args[0] != '\0' ||
        c->module_count != 0 || c->protocol != VM_PROTOCOL_AUTO) {
        return manifest_fail(r, item, path, "\"firmware_path\" stands alone");
    }
    return 0;
}

static int take_machine_config(struct manifest_reader *r, const cJSON *item,
                               const struct manifest_path *path)
{
    const struct manifest_schema s = {machine_config_table, VMM_ARRAY_COUNT(machine_config_table)};

    return manifest_take_object(r, item, path, &s);
}

static int take_unknown_msrs(struct manifest_reader *r, const cJSON *item,
                             const struct manifest_path *path)
{
    static const char *const name_table[] = {"fault", "ignore"};
    unsigned ignore = 0;
    int error = manifest_take_word(r, item, path, name_table, VMM_ARRAY_COUNT(name_table),
                                   "\"fault\" or \"ignore\"", &ignore);

    r->config->ignore_unknown_msrs = ignore != 0;
    return error;
}

static int take_hidden(struct manifest_reader *r, const cJSON *item,
                       const struct manifest_path *path)
{
    if (!cJSON_IsArray(item)) {
        return manifest_wrong_type(r, item, path, "a list");
    }
    for (const cJSON *c = item->child; c != NULL; c = c->next) {
        int feature;

        if (!cJSON_IsString(c)) {
            return manifest_wrong_type(r, c, path, "a list of strings");
        }
        feature = vmm_feature_find(c->valuestring);
        if (feature < 0) {
            return manifest_fail(r, c, path, "there is no feature \"%.40s\" that can be hidden",
                                 c->valuestring);
        }
        r->config->hidden_features |= UINT64_C(1) << feature;
    }
    return 0;
}

static const struct manifest_key cpu_table[] = {
    {"hide", false, take_hidden},
    {"unknown_msrs", false, take_unknown_msrs},
};

static int take_cpu(struct manifest_reader *r, const cJSON *item, const struct manifest_path *path)
{
    const struct manifest_schema s = {cpu_table, VMM_ARRAY_COUNT(cpu_table)};

    return manifest_take_object(r, item, path, &s);
}

static const struct manifest_key root_table[] = {
    {"name", true, take_name},
    {"machine-config", true, take_machine_config},
    {"boot-source", true, take_boot_source},
    {"cpus", false, take_cpus},
    {"cpu", false, take_cpu},
    {"numa_node", false, take_numa_node},
    {"lazy_memory", false, take_lazy_memory},
    {"balloon", false, take_balloon},
    {"power", false, take_power},
};

static int take_root(struct manifest_reader *r)
{
    const struct manifest_schema s = {root_table, VMM_ARRAY_COUNT(root_table)};
    const struct manifest_path top = {""};

    *r->config = (struct vm_config){.node = -1, .power = VM_POWER_STOP};
    for (unsigned i = 0; i < VMM_VCPUS_MAX; i++) {
        r->config->cpu[i] = -1;
    }
    return manifest_take_object(r, r->root, &top, &s);
}

/* --- text to tree --------------------------------------------------------------------------------
 */

static int parse_text(struct manifest_reader *r, cJSON **tree)
{
    const char *end = NULL;
    size_t offset = 0;
    const char *why = manifest_check_text(r->text, r->length, &offset);

    if (why != NULL) {
        return manifest_fail_syntax(r, offset, why);
    }
    *tree = cJSON_ParseWithLengthOpts(r->text, r->length, &end, false);
    offset = end != NULL ? (size_t)(end - r->text) : 0;
    if (*tree == NULL) {
        bool at_end = r->length == 0 || offset + 1 >= r->length;

        return manifest_fail_syntax(r, offset,
                                    at_end ? "the text ends too early" : "not JSON from here on");
    }
    while (offset < r->length && (unsigned char)r->text[offset] <= ' ') {
        offset++;
    }
    if (offset < r->length) {
        cJSON_Delete(*tree);
        return manifest_fail_syntax(r, offset, "something follows the end of the manifest");
    }
    return 0;
}

int vmm_manifest_parse(struct vmm *vmm, const char *file_name, const char *text, size_t length,
                       struct vm_config *out, struct vmm_error *err)
{
    struct manifest_reader r = {
        .vmm = vmm, .file = file_name, .text = text, .length = length, .config = out, .err = err};
    cJSON *tree = NULL;
    int error;

    if (length > TEXT_MAX) {
        return vmm_fail(vmm, err, VMM_E2BIG, "%s: %zu bytes, a manifest has at most %u", file_name,
                        length, TEXT_MAX);
    }
    error = parse_text(&r, &tree);
    if (error == 0) {
        r.root = tree;
        error = take_root(&r);
        cJSON_Delete(tree);
    }
    return error;
}
