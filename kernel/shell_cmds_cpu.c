/* Commands about CPUs and the work on them: cpu, work. */
#include <errno.h>
#include <string.h>

#include "base/percpu.h"
#include "base/x86.h"
#include "kernel/cpu.h"
#include "kernel/kernel.h"
#include "kernel/shell.h"
#include "kernel/shell_cmds.h"
#include "sched/sched.h"
#include "sched/timer.h"
#include "sched/work.h"

enum cpuid_register { EAX, EBX, ECX, EDX };

/* AMD APM vol. 3 appendix E; Intel SDM vol. 2 "CPUID". */
static const struct {
    uint32_t leaf;
    uint8_t where, bit;
    const char *name;
} feature_table[] = {
    {0x00000001, EDX, 25, "sse"},          {0x00000001, EDX, 26, "sse2"},
    {0x00000001, ECX, 0, "sse3"},          {0x00000001, ECX, 9, "ssse3"},
    {0x00000001, ECX, 19, "sse4.1"},       {0x00000001, ECX, 20, "sse4.2"},
    {0x00000001, ECX, 23, "popcnt"},       {0x00000001, ECX, 25, "aes"},
    {0x00000001, ECX, 26, "xsave"},        {0x00000001, ECX, 28, "avx"},
    {0x00000001, ECX, 12, "fma"},          {0x00000001, ECX, 30, "rdrand"},
    {0x00000007, EBX, 5, "avx2"},          {0x00000007, EBX, 3, "bmi1"},
    {0x00000007, EBX, 8, "bmi2"},          {0x00000007, EBX, 9, "erms"},
    {0x00000007, EBX, 16, "avx512f"},      {0x00000007, EBX, 20, "smap"},
    {0x00000007, EBX, 7, "smep"},          {0x00000007, ECX, 16, "la57"},
    {0x00000001, ECX, 3, "monitor"},       {0x00000001, ECX, 21, "x2apic"},
    {0x00000001, ECX, 24, "tsc-deadline"}, {0x80000007, EDX, 8, "invariant-tsc"},
    {0x80000001, EDX, 27, "rdtscp"},       {0x80000001, EDX, 26, "1gib-pages"},
    {0x80000001, EDX, 20, "nx"},           {0x00000001, ECX, 5, "vmx"},
    {0x80000001, ECX, 2, "svm"},           {0x8000000a, EDX, 0, "nested-paging"},
    {0x8000000a, EDX, 3, "nrip-save"},     {0x8000000a, EDX, 5, "vmcb-clean"},
    {0x8000000a, EDX, 6, "flush-by-asid"}, {0x8000000a, EDX, 7, "decode-assists"},
    {0x8000000a, EDX, 16, "vgif"},         {0x00000001, ECX, 31, "hypervisor"},
};

static bool has_feature(unsigned i)
{
    uint32_t leaf = feature_table[i].leaf;
    if (x86_cpuid(leaf & 0x80000000, 0).eax < leaf) {
        return false;
    }
    struct x86_cpuid r = x86_cpuid(leaf, 0);
    const uint32_t value_table[] = {r.eax, r.ebx, r.ecx, r.edx};
    return value_table[feature_table[i].where] >> feature_table[i].bit & 1;
}

static void print_features(bool present)
{
    shell_printf(present ? "has:   " : "lacks: ");
    unsigned column = 0;
    for (unsigned i = 0; i < NK_ARRAY_COUNT(feature_table); i++) {
        if (has_feature(i) == present) {
            shell_printf("%s%-15s", column && column % 4 == 0 ? "\n       " : "",
                         feature_table[i].name);
            column++;
        }
    }
    shell_printf("\n");
}

static int show_features(void)
{
    struct x86_cpuid r = x86_cpuid(1, 0);
    uint32_t family = r.eax >> 8 & 15, model = r.eax >> 4 & 15;
    model += family == 6 || family == 15 ? (r.eax >> 16 & 15) << 4 : 0;
    family += family == 15 ? r.eax >> 20 & 255 : 0;
    shell_printf("%s: family %u, model %u, stepping %u\n", nk_cpu_features.brand, family, model,
                 r.eax & 15);
    print_features(true);
    print_features(false);
    return 0;
}

static unsigned long long millis(uint64_t ticks)
{
    return nk_tsc_to_ns(ticks) / 1000000;
}

static int show_cpus(void)
{
    shell_printf("CPU APIC NODE READY    IDLE ms   SWITCHES      TIMER    RESCHED       CALL     "
                 "DEVICE\n");
    for (unsigned i = 0; i < nk_cpu_count; i++) {
        const struct nk_cpu *cpu = &nk_cpu_table[i];
        struct sched_stats s;
        sched_get_stats(i, &s);
        shell_printf("%3u %4u %4u %5u %10llu %10llu %10llu %10llu %10llu %10llu\n", cpu->id,
                     cpu->apic_id, cpu->node, s.runnable, millis(s.idle_ticks),
                     (unsigned long long)s.switches, (unsigned long long)cpu->irq_count[0],
                     (unsigned long long)cpu->irq_count[1], (unsigned long long)cpu->irq_count[2],
                     (unsigned long long)cpu->irq_count[3]);
    }
    return 0;
}

int cmd_cpu(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "features") == 0) {
        return show_features();
    }
    return argc == 1 ? show_cpus() : shell_usage(argv[0]);
}

const char *cpu_candidate(unsigned position, unsigned i)
{
    return position == 1 && i == 0 ? "features" : NULL;
}

static void print_cpus(uint64_t cpus)
{
    const char *comma = "";
    for (unsigned i = 0; i < nk_cpu_count && cpus != NK_AFFINITY_ANY; i++) {
        if (cpus >> i & 1) {
            shell_printf("%s%u", comma, i);
            comma = ",";
        }
    }
    shell_printf(cpus == NK_AFFINITY_ANY ? "any\n" : "\n");
}

int cmd_work(int argc, char **argv)
{
    uint64_t cpus;
    if (argc == 3 && strcmp(argv[1], "cpus") == 0) {
        if (!nk_parse_cpus(argv[2], &cpus) || nk_work_service_set_cpus(nk_services, cpus) != 0) {
            shell_printf("\"%s\" names no CPUs of this node; a list is such as 0,2-3\n", argv[2]);
            return -EINVAL;
        }
        return 0;
    }
    if (argc != 1) {
        return shell_usage(argv[0]);
    }
    shell_printf("%-16s%-16sPENDING       DONE  RUNS  THREADS  CPUS\n", "QUEUE", "SERVICE");
    struct nk_work_queue_info q;
    for (unsigned i = 0; nk_work_queue_get_info(i, &q); i++) {
        shell_printf("%-16s%-16s%7u %10llu  %-4s  %7u  ", q.name, q.service, q.pending,
                     (unsigned long long)q.done, q.running ? "yes" : "no", q.threads);
        print_cpus(q.cpus);
    }
    return 0;
}

const char *work_candidate(unsigned position, unsigned i)
{
    return position == 1 && i == 0 ? "cpus" : NULL;
}
