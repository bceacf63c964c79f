/* The normal image's payload: virtual machines, then the shell, then what becomes of them. */
#include "base/platform.h"
#include "kernel/kernel.h"
#include "kernel/rom.h"
#include "kernel/shell.h"
#include "kernel/vms.h"
#include "sched/thread.h"

/* An administrator should see the report; nothing restarts by itself. */
const char nk_payload_panic[] = "halt";

const struct shell_command *nk_payload_command(unsigned i)
{
    (void)i;
    return NULL;
}

void nk_node_start(void)
{
    nk_thread_fp_enable(); /* manifests are parsed in this thread, with doubles */
    vms_init();
    if (!nk_option_is("autostart", "no")) {
        vms_autostart();
    }
    nk_info("node: ready"); /* its time stamp is how long the boot took */
    rom_mark_good();
    shell_start();
    for (;;) {
        vms_events_wait();
        vms_handle_events();
    }
}
