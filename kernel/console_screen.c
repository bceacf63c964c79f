/* The console's screen: which there is, and how it begins. */
#include "base/platform.h"
#include "drivers/screen.h"
#include "kernel/console.h"
#include "kernel/kernel.h"
#include "kernel/log.h"

/* The screen begins with what the log has so far. */
void console_start_screen(void)
{
    const struct bootinfo_framebuffer *f = &nk_bootinfo.framebuffer;
    if (nk_option_is("screen", "no")) {
        return;
    }
    const struct screen_device *device =
        f->kind == BOOTINFO_FRAMEBUFFER_RGB
            ? framebuffer_probe(NK_PA(f->base), f->width, f->height, f->pitch, f->bpp)
            : vga_text_probe();
    if (!device) {
        return;
    }
    int err = screen_start(device);
    if (err < 0) {
        nk_warn("console: no screen (error %d)", err);
        return;
    }
    nk_log_replay(screen_write);
    screen_draw();
    nk_debug("console: %s, %u columns, %u rows", device->name, device->columns, device->rows);
}
