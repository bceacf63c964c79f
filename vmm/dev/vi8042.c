/* The keyboard controller, with nothing plugged in: guests pulse the reset line and the A20 gate
 * with it, and whoever looks for a keyboard learns quickly that there is none.
 * Spec: IBM PC AT technical reference, "Keyboard Controller"; Intel 8042. */
#include "core/bus.h"
#include "core/irq.h"

#define PORT_DATA    0x60
#define PORT_COMMAND 0x64
#define IRQ_KEYBOARD 1
#define IRQ_AUX      12

#define STATUS_FULL     0x01 /* a byte waits at port 0x60 */
#define STATUS_SYSTEM   0x04 /* the self-test passed */
#define STATUS_COMMAND  0x08 /* the last write went to port 0x64 */
#define STATUS_UNLOCKED 0x10
#define STATUS_AUX      0x20
#define STATUS_TIMEOUT  0x40

#define MODE_IRQ          0x01
#define MODE_IRQ_AUX      0x02
#define MODE_SYSTEM       0x04
#define MODE_DISABLED     0x10
#define MODE_AUX_DISABLED 0x20

#define OUTPUT_NO_RESET 0x01
#define OUTPUT_A20      0x02
#define OUTPUT_IDLE     0xcc /* clock and data lines of the two ports */
#define INPUT_IDLE      0x80

#define SELF_TEST_PASSED 0x55
#define PORT_TEST_PASSED 0x00
#define DEVICE_TIMEOUT   0xfe /* what a missing device "answers" */

enum vi8042_command {
    CMD_READ_MODE = 0x20,
    CMD_WRITE_MODE = 0x60,
    CMD_DISABLE_AUX = 0xa7,
    CMD_ENABLE_AUX = 0xa8,
    CMD_TEST_AUX = 0xa9,
    CMD_SELF_TEST = 0xaa,
    CMD_TEST_KEYBOARD = 0xab,
    CMD_DISABLE_KEYBOARD = 0xad,
    CMD_ENABLE_KEYBOARD = 0xae,
    CMD_READ_INPUT = 0xc0,
    CMD_READ_OUTPUT = 0xd0,
    CMD_WRITE_OUTPUT = 0xd1,
    CMD_ECHO_KEYBOARD = 0xd2,
    CMD_ECHO_AUX = 0xd3,
    CMD_SEND_AUX = 0xd4,
    CMD_PULSE_OUTPUT = 0xf0, /* to 0xff: the low bits that are zero pulse low */
};

struct vi8042 {
    uint8_t status, mode, output, data;
    uint8_t command; /* waits for its byte at port 0x60, 0: none does */
    uint8_t ram[32]; /* command 0x20 + n reads it, 0x60 + n writes it; 0 is the mode */
};

static void update_irq(struct vdev *dev)
{
    const struct vi8042 *k = vdev_state(dev);
    bool full = (k->status & STATUS_FULL) != 0, aux = (k->status & STATUS_AUX) != 0;

    vmm_irq_set(vdev_vm(dev), IRQ_KEYBOARD, full && !aux && (k->mode & MODE_IRQ) != 0);
    vmm_irq_set(vdev_vm(dev), IRQ_AUX, full && aux && (k->mode & MODE_IRQ_AUX) != 0);
}

static void answer(struct vi8042 *k, uint8_t byte, uint8_t marks)
{
    k->data = byte;
    k->status &= (uint8_t) ~(STATUS_AUX | STATUS_TIMEOUT);
    k->status |= STATUS_FULL | marks;
}

static void write_output(struct vdev *dev, uint8_t value)
{
    struct vi8042 *k = vdev_state(dev);

    k->output = value;
    if ((value & OUTPUT_NO_RESET) == 0) {
        vmm_request_reset(vdev_vm(dev));
    }
}

/* A byte for a command that waited, or for the keyboard that is not there. */
static void write_data(struct vdev *dev, uint8_t value)
{
    struct vi8042 *k = vdev_state(dev);
    uint8_t command = k->command;

    k->command = 0;
    switch (command) {
    case CMD_WRITE_MODE:
        k->mode = value;
        k->status = (uint8_t)((k->status & ~STATUS_SYSTEM) |
                              ((value & MODE_SYSTEM) != 0 ? STATUS_SYSTEM : 0));
        break;
    case CMD_WRITE_MODE + 1 ... CMD_WRITE_MODE + 31:
        k->ram[command - CMD_WRITE_MODE] = value;
        break;
    case CMD_WRITE_OUTPUT:
        write_output(dev, value);
        break;
    case CMD_ECHO_KEYBOARD:
        answer(k, value, 0);
        break;
    case CMD_ECHO_AUX:
        answer(k, value, STATUS_AUX);
        break;
    case CMD_SEND_AUX:
        answer(k, DEVICE_TIMEOUT, STATUS_AUX | STATUS_TIMEOUT);
        break;
    default:
        k->mode &= (uint8_t)~MODE_DISABLED; /* sending to the keyboard enables its port */
        answer(k, DEVICE_TIMEOUT, STATUS_TIMEOUT);
        break;
    }
}

static void write_command(struct vdev *dev, uint8_t value)
{
    struct vi8042 *k = vdev_state(dev);

    k->command = 0;
    switch (value) {
    case CMD_READ_MODE:
        answer(k, k->mode, 0);
        break;
    case CMD_READ_MODE + 1 ... CMD_READ_MODE + 31:
        answer(k, k->ram[value - CMD_READ_MODE], 0);
        break;
    case CMD_WRITE_MODE ... CMD_WRITE_MODE + 31:
    case CMD_WRITE_OUTPUT ... CMD_SEND_AUX:
        k->command = value;
        break;
    case CMD_DISABLE_AUX:
        k->mode |= MODE_AUX_DISABLED;
        break;
    case CMD_ENABLE_AUX:
        k->mode &= (uint8_t)~MODE_AUX_DISABLED;
        break;
    case CMD_SELF_TEST:
        k->status |= STATUS_SYSTEM;
        answer(k, SELF_TEST_PASSED, 0);
        break;
    case CMD_TEST_AUX:
    case CMD_TEST_KEYBOARD:
        answer(k, PORT_TEST_PASSED, 0);
        break;
    case CMD_DISABLE_KEYBOARD:
        k->mode |= MODE_DISABLED;
        break;
    case CMD_ENABLE_KEYBOARD:
        k->mode &= (uint8_t)~MODE_DISABLED;
        break;
    case CMD_READ_INPUT:
        answer(k, INPUT_IDLE, 0);
        break;
    case CMD_READ_OUTPUT:
        answer(k, k->output, 0);
        break;
    case CMD_PULSE_OUTPUT ... 0xff:
        if ((value & OUTPUT_NO_RESET) == 0) {
            vmm_request_reset(vdev_vm(dev));
        }
        break;
    default:
        break;
    }
}

static void data_access(struct vdev *dev, struct vdev_access *a)
{
    struct vi8042 *k = vdev_state(dev);

    if (a->write) {
        k->status &= (uint8_t)~STATUS_COMMAND;
        write_data(dev, (uint8_t)a->value);
    } else {
        a->value = k->data;
        k->status &= (uint8_t) ~(STATUS_FULL | STATUS_AUX | STATUS_TIMEOUT);
    }
    update_irq(dev);
}

static void command_access(struct vdev *dev, struct vdev_access *a)
{
    struct vi8042 *k = vdev_state(dev);

    if (!a->write) {
        a->value = k->status;
        return;
    }
    k->status |= STATUS_COMMAND;
    write_command(dev, (uint8_t)a->value);
    update_irq(dev);
}

static void vi8042_reset(struct vdev *dev)
{
    struct vi8042 *k = vdev_state(dev);

    *k = (struct vi8042){
        .status = STATUS_SYSTEM | STATUS_UNLOCKED,
        .mode = MODE_SYSTEM | MODE_DISABLED | MODE_AUX_DISABLED,
        .output = OUTPUT_NO_RESET | OUTPUT_A20 | OUTPUT_IDLE,
    };
    update_irq(dev);
}

static int vi8042_create(struct vdev *dev)
{
    int error = vdev_claim_bytes(dev, PORT_DATA, 1, data_access);

    return error != 0 ? error : vdev_claim_bytes(dev, PORT_COMMAND, 1, command_access);
}

static int vi8042_transfer(struct vdev *dev, struct vdev_stream *s)
{
    return s->transfer(s, vdev_state(dev), sizeof(struct vi8042));
}

const struct vdev_class vi8042_class = {
    .name = "vi8042",
    .state_size = sizeof(struct vi8042),
    .version = 1,
    .create = vi8042_create,
    .reset = vi8042_reset,
    .save = vi8042_transfer,
    .load = vi8042_transfer,
};
