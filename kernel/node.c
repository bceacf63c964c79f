/* The normal image's payload: the shell. */
#include "kernel/kernel.h"
#include "kernel/shell.h"

void nk_node_start(void)
{
    shell_start();
}
