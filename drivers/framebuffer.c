/* A linear framebuffer of 24 or 32 bits per pixel, as the boot loader set it up. */
#include "drivers/font.h"
#include "drivers/screen.h"
#include "mm/paging.h"

#define LIGHT 0xaa /* of each colour */

static volatile uint8_t *pixels;
static unsigned pitch_bytes, pixel_bytes;
static struct screen_device device;
static unsigned cursor_row, cursor_column;

static void invert_cursor(void)
{
    for (unsigned line = FONT_HEIGHT - 2; line < FONT_HEIGHT; line++) {
        volatile uint8_t *p = pixels + (cursor_row * FONT_HEIGHT + line) * pitch_bytes +
                              cursor_column * FONT_WIDTH * pixel_bytes;
        for (unsigned i = 0; i < FONT_WIDTH * pixel_bytes; i++) {
            p[i] ^= LIGHT;
        }
    }
}

static void draw(unsigned row, unsigned column, char c)
{
    if (row == cursor_row && column == cursor_column) {
        invert_cursor(); /* once more below: it stays where it is */
    }
    for (unsigned line = 0; line < FONT_HEIGHT; line++) {
        volatile uint8_t *p =
            pixels + (row * FONT_HEIGHT + line) * pitch_bytes + column * FONT_WIDTH * pixel_bytes;
        uint8_t dots = font_line(c, line);
        for (unsigned x = 0; x < FONT_WIDTH; x++) {
            for (unsigned i = 0; i < pixel_bytes; i++) {
                *p++ = dots & 0x80 >> x ? LIGHT : 0;
            }
        }
    }
    if (row == cursor_row && column == cursor_column) {
        invert_cursor();
    }
}

static void move_cursor(unsigned row, unsigned column)
{
    invert_cursor();
    cursor_row = row;
    cursor_column = column;
    invert_cursor();
}

const struct screen_device *framebuffer_probe(pa_t base, unsigned width, unsigned height,
                                              unsigned pitch, unsigned bits_per_pixel)
{
    if ((bits_per_pixel != 24 && bits_per_pixel != 32) || width < FONT_WIDTH ||
        height < FONT_HEIGHT || pitch < width * (bits_per_pixel / 8)) {
        return NULL;
    }
    pixels = paging_map_mmio(base, (uint64_t)pitch * height);
    if (pixels == NULL) {
        return NULL;
    }
    pitch_bytes = pitch;
    pixel_bytes = bits_per_pixel / 8;
    unsigned columns = width / FONT_WIDTH, rows = height / FONT_HEIGHT;
    device = (struct screen_device){
        .name = "framebuffer",
        .columns = columns < SCREEN_COLUMNS_MAX ? columns : SCREEN_COLUMNS_MAX,
        .rows = rows < SCREEN_ROWS_MAX ? rows : SCREEN_ROWS_MAX,
        .draw = draw,
        .move_cursor = move_cursor,
    };
    for (uint64_t i = 0; i < (uint64_t)pitch * height; i++) {
        pixels[i] = 0;
    }
    invert_cursor();
    return &device;
}
