/* The test image's payload, in place of kernel/node.c: run the tests, then end QEMU. */
#include "kernel/kernel.h"
#include "kernel/power.h"
#include "tests/kernel/ktest.h"

#define EXIT_PASS 0x10 /* QEMU's status: 33 */
#define EXIT_FAIL 0x20 /* QEMU's status: 65 */

const char nk_payload_panic[] = "exit";

void nk_node_start(void)
{
    nk_debug_exit(ktest_run_selected() == 0 ? EXIT_PASS : EXIT_FAIL);
}
