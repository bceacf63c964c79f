/* What a person needs to find out why a guest died, through the print hook. */
#include "core/emulate.h"
#include "core/vm.h"

typedef unsigned long long ull; /* for the formatter */

#define CODE_BYTES     16
#define CALL_BYTES     7 /* the longest CALL that is looked for */
#define STACK_WORDS    256
#define BACKTRACE_MOST 16

static void dump_registers(struct vcpu *v, enum vmm_log_level level)
{
    static const char name_table[16][4] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                           "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

    vmm_vm_log(v->vm, level, "vCPU %u: rip %016llx rflags %08llx cpl %u%s%s", v->id, (ull)v->rip,
               (ull)v->rflags, v->backend->cpl(v), v->halted != 0 ? " halted" : "",
               v->wait_sipi ? " waiting for SIPI" : "");
    for (unsigned i = 0; i < 16; i += 4) {
        vmm_vm_log(v->vm, level, "  %3s %016llx %3s %016llx %3s %016llx %3s %016llx", name_table[i],
                   (ull)v->gpr[i], name_table[i + 1], (ull)v->gpr[i + 1], name_table[i + 2],
                   (ull)v->gpr[i + 2], name_table[i + 3], (ull)v->gpr[i + 3]);
    }
}

static void dump_system(struct vcpu *v, enum vmm_log_level level)
{
    static const char name_table[VMM_SEG_COUNT][5] = {"es", "cs",  "ss", "ds",  "fs",
                                                      "gs", "ldt", "tr", "gdt", "idt"};
    const struct vmm_backend *b = v->backend;

    vmm_vm_log(v->vm, level, "  cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx cr8 %llx",
               (ull)b->get_sysreg(v, VMM_CR0), (ull)b->get_sysreg(v, VMM_CR2),
               (ull)b->get_sysreg(v, VMM_CR3), (ull)b->get_sysreg(v, VMM_CR4),
               (ull)b->get_sysreg(v, VMM_CR8));
    vmm_vm_log(v->vm, level, "  efer %04llx dr6 %08llx dr7 %08llx xcr0 %llx",
               (ull)b->get_sysreg(v, VMM_EFER), (ull)b->get_sysreg(v, VMM_DR6),
               (ull)b->get_sysreg(v, VMM_DR7), (ull)v->xcr0);
    for (unsigned i = 0; i < VMM_SEG_COUNT; i++) {
        struct vmm_segment_state s;

        b->get_segment(v, (enum vmm_segment)i, &s);
        vmm_vm_log(v->vm, level, "  %-3s %04x base %016llx limit %08x attributes %03x",
                   name_table[i], s.selector, (ull)s.base, s.limit, s.attributes);
    }
}

static void dump_code(struct vcpu *v, enum vmm_log_level level)
{
    char text[128];
    size_t length = 0;
    uint8_t code[CODE_BYTES];
    unsigned count = vmm_read_code(v, code, sizeof(code));

    if (count == 0) {
        vmm_vm_log(v->vm, level, "  code: not readable");
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        length +=
            (size_t)vmm_format(v->vm->vmm, text + length, sizeof(text) - length, " %02x", code[i]);
    }
    vmm_vm_log(v->vm, level, "  code:%s", text);
    vmm_describe_instruction(v, text, sizeof(text));
    vmm_vm_log(v->vm, level, "  instruction: %s", text);
}

/* Is it behind a CALL? Near direct, or indirect by register or memory (ff /2). */
static bool is_return_address(struct vcpu *v, uint64_t address)
{
    static const uint8_t indirect_length_table[] = {2, 3, 4, 6, 7};
    struct vmm_walk_fault fault;
    uint8_t code[CALL_BYTES];
    const uint8_t *end = code + sizeof(code);

    if (address < CALL_BYTES || vmm_linear_read(v, VMM_GVA(address - CALL_BYTES), code,
                                                sizeof(code), VMM_ACCESS_READ, &fault) != 0) {
        return false;
    }
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(indirect_length_table); i++) {
        const uint8_t *insn = end - indirect_length_table[i];

        if (insn[0] == 0xff && (insn[1] >> 3 & 7) == 2) {
            return true;
        }
    }
    return end[-5] == 0xe8;
}

/* What on the stack looks like a return address: guests need not keep frame pointers, so some of
 * these may be left over from calls that are done. */
static void dump_backtrace(struct vcpu *v, enum vmm_log_level level)
{
    struct vmm_segment_state ss;
    struct vmm_walk_fault fault;
    struct vmm_address_mode mode;
    unsigned found = 0, width;
    uint64_t at;

    v->backend->get_address_mode(v, &mode);
    v->backend->get_segment(v, VMM_SEG_SS, &ss);
    if ((mode.cr0 & X86_CR0_PE) == 0) {
        return;
    }
    width = vmm_mode_is_64(&mode) ? 8 : 4;
    at = width == 8 ? v->gpr[VMM_RSP] : (uint32_t)(ss.base + v->gpr[VMM_RSP]);
    vmm_vm_log(v->vm, level, "  vCPU %u: return addresses on the stack:", v->id);
    for (unsigned i = 0; i < STACK_WORDS && found < BACKTRACE_MOST; i++, at += width) {
        uint64_t word = 0;

        if (vmm_linear_read(v, VMM_GVA(at), &word, width, VMM_ACCESS_READ, &fault) != 0) {
            break;
        }
        if (is_return_address(v, word)) {
            vmm_vm_log(v->vm, level, "    %016llx at stack %016llx", (ull)word, (ull)at);
            found++;
        }
    }
}

static void dump_exits(struct vcpu *v, enum vmm_log_level level)
{
    const struct vmm_exit *e = v->exit_last;

    if (e == NULL) {
        return;
    }
    vmm_vm_log(v->vm, level, "  vCPU %u: last exits, latest first:", v->id);
    for (unsigned i = 0; i < VMM_EXITS_KEPT && (e->rip | e->code) != 0; i++) {
        vmm_vm_log(v->vm, level, "    %-12s rip %016llx code %x info %llx %llx",
                   vmm_exit_name(e->kind), (ull)e->rip, e->code, (ull)e->info1, (ull)e->info2);
        e = e == v->exit ? &v->exit[VMM_EXITS_KEPT - 1] : e - 1;
    }
}

static void dump_vcpu(struct vcpu *v, enum vmm_log_level level, unsigned what)
{
    if ((what & VM_DUMP_REGISTERS) != 0) {
        dump_registers(v, level);
        dump_system(v, level);
        dump_code(v, level);
    }
    if ((what & VM_DUMP_BACKTRACE) != 0) {
        dump_backtrace(v, level);
    }
    if ((what & VM_DUMP_HARDWARE) != 0) {
        v->backend->dump(v, level);
    }
    if ((what & VM_DUMP_EXITS) != 0) {
        dump_exits(v, level);
    }
}

/* The threads may not go on meanwhile: what they know of guest memory is used to read it. They may
 * have stood while pages went away, though, and then know of those, too. */
void vmm_vm_dump(struct vm *vm, unsigned what)
{
    bool held;

    vmm_control_enter(vm);
    held = vmm_vm_hold(vm);
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        vmm_decode_flush(vm->vcpu[i]);
        dump_vcpu(vm->vcpu[i], VMM_LOG_INFO, what);
    }
    if (held) {
        vmm_vm_go_on(vm);
    }
    (void)vmm_control_leave(vm, 0);
}

void vmm_vm_crash(struct vcpu *v, int reason, const char *fmt, ...)
{
    struct vmm_error why;
    va_list ap;

    va_start(ap, fmt);
    v->ops->format(v->host, why.text, sizeof(why.text), fmt, ap);
    va_end(ap);
    vmm_vm_log(v->vm, VMM_LOG_ERROR, "vCPU %u: %s", v->id, why.text);
    /* All of them may crash at once, and only the first one tells why. */
    if (vmm_vm_end(v, reason)) {
        dump_vcpu(v, VMM_LOG_ERROR, VM_DUMP_ALL);
    }
}
