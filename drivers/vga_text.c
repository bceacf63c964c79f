/* VGA text mode, 80 by 25, as firmware leaves it: a cell is a letter and a colour byte. */
#include "base/x86.h"
#include "drivers/screen.h"
#include "mm/paging.h"

#define TEXT_BASE     UINT64_C(0xb8000)
#define COLUMNS       80
#define ROWS          25
#define GREY_ON_BLACK 0x0700
#define CRTC_INDEX    0x3d4
#define CRTC_DATA     0x3d5
#define CURSOR_HIGH   0x0e
#define CURSOR_LOW    0x0f

static volatile uint16_t *text;

static void draw(unsigned row, unsigned column, char c)
{
    text[row * COLUMNS + column] = (uint16_t)(GREY_ON_BLACK | (uint8_t)c);
}

static void move_cursor(unsigned row, unsigned column)
{
    unsigned at = row * COLUMNS + column;
    x86_outb(CRTC_INDEX, CURSOR_HIGH);
    x86_outb(CRTC_DATA, (uint8_t)(at >> 8));
    x86_outb(CRTC_INDEX, CURSOR_LOW);
    x86_outb(CRTC_DATA, (uint8_t)at);
}

const struct screen_device *vga_text_probe(void)
{
    static const struct screen_device device = {"VGA text", COLUMNS, ROWS, draw, move_cursor};
    text = paging_map_mmio(NK_PA(TEXT_BASE), COLUMNS * ROWS * sizeof(*text));
    if (text == NULL) {
        return NULL;
    }
    for (unsigned i = 0; i < COLUMNS * ROWS; i++) { /* without the adapter nothing keeps it */
        text[i] = GREY_ON_BLACK | 'V';
        if (text[i] != (GREY_ON_BLACK | 'V')) {
            return NULL;
        }
        text[i] = GREY_ON_BLACK | ' ';
    }
    return &device;
}
