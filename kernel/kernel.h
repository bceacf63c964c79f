/* What the rest of the kernel asks of kernel/main.c, and what main.c asks of the payload. */
#pragma once

#include "base/types.h"
#include "boot/bootinfo.h"

/* From the entry code of every road, on the boot stack; magic and record are EAX and EBX at entry.
 */
NK_NORETURN void kernel_main(uint32_t magic, uint32_t record);

extern struct bootinfo nk_bootinfo; /* filled before the first init step that needs it runs */

/* Value of "key=value" ("" for a bare "key") on the command line; false when it is absent.
 * Context: any, once kernel_main() has parsed the boot record. */
bool nk_option(const char *key, char *out, size_t out_size);

/* Whether the command line has "key=word"; the option knows no other, which costs a warning. */
bool nk_option_is(const char *key, const char *word);

/* A list of CPUs such as "1,3-5" as a mask, bit n for CPU n; false when it is none. */
bool nk_parse_cpus(const char *text, uint64_t *out) NK_MUST_CHECK;

/* The node's own service threads, on the CPUs of services= (default: any). */
extern struct nk_work_service *nk_services;

/* The end of a panic, after its report: what the command line's panic=halt|reset|exit asks for, or
 * what the payload prefers. exit ends QEMU through isa-debug-exit. */
NK_NORETURN void nk_panic_finish(void);
#define NK_PANIC_EXIT_CODE 0x11

/* The node's work, once everything is up, in the thread "main": kernel/node.c starts the shell and
 * the VMs; the test image links tests/kernel/ktest_main.c in its place. */
void nk_node_start(void);
extern const char nk_payload_panic[]; /* the payload's value of panic= */
