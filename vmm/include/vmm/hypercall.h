/* Hypercalls: what a guest can ask of Orthocone by VMMCALL (AMD) or VMCALL (Intel). For guests too:
 * this header needs nothing. docs/hypercalls.md is the ABI's description.
 *
 * Number in EAX; arguments in RDI, RSI, RDX; result in RAX: 0 or a count, or a negative error
 * (VMM_HC_E*). All other registers keep their values. From CPL 3: VMM_HC_EPERM. */
#pragma once

/* "OC" above the numbers of other interfaces, so that KVM's (1..12) are unknown here, not taken for
 * something else. */
#define VMM_HC(n) (0x4f430000 + (n))

#define VMM_HC_VERSION     VMM_HC(0) /* -> VMM_HC_VERSION_1 */
#define VMM_HC_YIELD       VMM_HC(1) /* let other threads of this CPU run */
#define VMM_HC_CONSOLE_PUT VMM_HC(2) /* RDI: a byte, to the VM's console; EAGAIN: it is full */
/* RDI: guest-physical address, RSI: bytes, at most 4096; a full console takes fewer. */
#define VMM_HC_CONSOLE_WRITE VMM_HC(3)
#define VMM_HC_INFO          VMM_HC(4) /* RDI: one of VMM_HC_INFO_* */
#define VMM_HC_COUNT         5

#define VMM_HC_VERSION_1 1

#define VMM_HC_INFO_VCPU_ID    0
#define VMM_HC_INFO_VCPU_COUNT 1
#define VMM_HC_INFO_RAM_BYTES  2
#define VMM_HC_INFO_CLOCK_NS   3 /* since power-on, without pauses */

#define VMM_HC_EPERM   (-1)
#define VMM_HC_EAGAIN  (-11)
#define VMM_HC_EFAULT  (-14)
#define VMM_HC_ENODEV  (-19)
#define VMM_HC_EINVAL  (-22)
#define VMM_HC_ENOTSUP (-95)
