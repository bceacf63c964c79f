#include "drivers/keyboard.h"

#include <errno.h>
#include <string.h>

#include "base/x86.h"
#include "kernel/irq.h"

#define DATA_PORT    0x60
#define STATUS_PORT  0x64 /* read; commands are written there */
#define KEYBOARD_IRQ 1

#define NOT_THERE          0xff /* status without a controller, whenever it went */
#define STATUS_OUTPUT_FULL 0x01
#define STATUS_INPUT_FULL  0x02
#define STATUS_FROM_MOUSE  0x20
#define CMD_READ_CONFIG    0x20
#define CMD_WRITE_CONFIG   0x60
#define CMD_MOUSE_OFF      0xa7
#define CMD_KEYBOARD_OFF   0xad
#define CMD_KEYBOARD_ON    0xae
#define CONFIG_IRQ1        0x01
#define CONFIG_IRQ12       0x02
#define CONFIG_OFF         0x30 /* both ports' clocks stopped */
#define CONFIG_TRANSLATE   0x40 /* to set 1 */
#define KEYBOARD_SCAN      0xf4
#define SPIN_MAX           100000u
#define FLUSH_MAX          32

#define RELEASED    0x80 /* in a scan code */
#define EXTENDED    0xe0 /* in front of one */
#define CODE_CTRL   0x1d
#define CODE_LSHIFT 0x2a
#define CODE_RSHIFT 0x36
#define CODE_ALT    0x38
#define CODE_CAPS   0x3a

/* --- scan codes ------------------------------------------------------------------------------- */

static const char plain_table[] = "\0\x1b"
                                  "1234567890-=\x7f\tqwertyuiop[]\r\0asdfghjkl;'`\0\\zxcvbnm,./"
                                  "\0*\0 ";
static const char shift_table[] = "\0\x1b"
                                  "!@#$%^&*()_+\x7f\tQWERTYUIOP{}\r\0ASDFGHJKL:\"~\0|ZXCVBNM<>?"
                                  "\0*\0 ";

static const struct {
    uint8_t code;
    const char *bytes;
} extended_table[] = {
    {0x48, "\x1b[A"},  {0x50, "\x1b[B"},  {0x4d, "\x1b[C"},  {0x4b, "\x1b[D"},
    {0x47, "\x1b[H"},  {0x4f, "\x1b[F"},  {0x52, "\x1b[2~"}, {0x53, "\x1b[3~"},
    {0x49, "\x1b[5~"}, {0x51, "\x1b[6~"}, {0x1c, "\r"},      {0x35, "/"},
};

static struct {
    bool shift, ctrl, alt, caps, extended;
} keys;

static size_t extended_key(uint8_t code, char *out)
{
    for (unsigned i = 0; i < NK_ARRAY_COUNT(extended_table); i++) {
        if (extended_table[i].code == code) {
            size_t length = strlen(extended_table[i].bytes);
            memcpy(out, extended_table[i].bytes, length);
            return length;
        }
    }
    return 0;
}

static size_t plain_key(uint8_t code, char *out)
{
    char c = code < sizeof(plain_table) - 1 ? plain_table[code] : '\0';
    bool letter = c >= 'a' && c <= 'z';
    if (keys.shift != (letter && keys.caps) && c) {
        c = shift_table[code];
    }
    if (keys.ctrl && c >= '@' && c <= '~') {
        c &= 0x1f;
    }
    if (!c) {
        return 0;
    }
    size_t length = 0;
    if (keys.alt) {
        out[length++] = '\x1b';
    }
    out[length++] = c;
    return length;
}

size_t keyboard_decode(uint8_t code, char *out)
{
    if (code == EXTENDED) {
        keys.extended = true;
        return 0;
    }
    bool extended = keys.extended, pressed = !(code & RELEASED);
    keys.extended = false;
    code &= (uint8_t)~RELEASED;
    if (code == CODE_CTRL) {
        keys.ctrl = pressed;
    } else if (code == CODE_ALT) {
        keys.alt = pressed;
    } else if ((code == CODE_LSHIFT || code == CODE_RSHIFT)) {
        keys.shift = extended ? keys.shift : pressed; /* with E0 it is no key of its own */
    } else if (code == CODE_CAPS) {
        keys.caps ^= pressed;
    } else if (pressed) {
        return extended ? extended_key(code, out) : plain_key(code, out);
    }
    return 0;
}

/* --- the controller --------------------------------------------------------------------------- */

static void (*typed_fn)(const char *s, size_t len);

/* Wait for the status bits to become as wanted; false: they do not. */
static bool await(uint8_t mask, uint8_t wanted)
{
    for (unsigned i = 0; i < SPIN_MAX; i++) {
        if ((x86_inb(STATUS_PORT) & mask) == wanted) {
            return true;
        }
        x86_pause();
    }
    return false;
}

static bool command(uint8_t byte)
{
    bool ready = await(STATUS_INPUT_FULL, 0);
    x86_outb(STATUS_PORT, byte);
    return ready;
}

static bool put(uint8_t byte)
{
    bool ready = await(STATUS_INPUT_FULL, 0);
    x86_outb(DATA_PORT, byte);
    return ready;
}

static bool get(uint8_t *byte)
{
    bool ready = await(STATUS_OUTPUT_FULL, STATUS_OUTPUT_FULL);
    *byte = x86_inb(DATA_PORT);
    return ready;
}

static bool interrupt(void *arg)
{
    (void)arg;
    bool any = false;
    for (unsigned i = 0; i < FLUSH_MAX; i++) { /* what is left then makes another edge */
        uint8_t status = x86_inb(STATUS_PORT);
        if (status == NOT_THERE || !(status & STATUS_OUTPUT_FULL)) {
            break;
        }
        uint8_t code = x86_inb(DATA_PORT);
        char bytes[KEYBOARD_BYTES_MAX];
        size_t length = status & STATUS_FROM_MOUSE ? 0 : keyboard_decode(code, bytes);
        if (length) {
            typed_fn(bytes, length);
        }
        any = true;
    }
    return any;
}

static bool set_up(void)
{
    uint8_t config, answer;
    if (x86_inb(STATUS_PORT) == NOT_THERE || !command(CMD_KEYBOARD_OFF) ||
        !command(CMD_MOUSE_OFF)) {
        return false;
    }
    for (unsigned i = 0; i < FLUSH_MAX && (x86_inb(STATUS_PORT) & STATUS_OUTPUT_FULL); i++) {
        x86_inb(DATA_PORT);
    }
    if (!command(CMD_READ_CONFIG) || !get(&config)) {
        return false;
    }
    config = (uint8_t)((config & ~(CONFIG_IRQ1 | CONFIG_IRQ12 | CONFIG_OFF)) | CONFIG_TRANSLATE);
    if (!command(CMD_WRITE_CONFIG) || !put(config) || !command(CMD_KEYBOARD_ON) ||
        !put(KEYBOARD_SCAN) || !get(&answer)) {
        return false;
    }
    return command(CMD_WRITE_CONFIG) && put(config | CONFIG_IRQ1);
}

int keyboard_init(void (*typed)(const char *s, size_t len))
{
    typed_fn = typed;
    if (!set_up()) {
        return -ENODEV;
    }
    return nk_irq_attach(KEYBOARD_IRQ, "keyboard", interrupt, NULL);
}
