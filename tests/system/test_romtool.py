"""tools/romtool: the same bytes from the same parts, every damaged byte found and named."""

import pytest
from lib import rom
from lib.vm import KERNEL


@pytest.fixture
def image(scratch):
    (scratch / "a.txt").write_text("first " * 1000)
    (scratch / "b.txt").write_bytes(bytes(range(256)))
    return rom.create(scratch / "one.rom", files=["a.txt", "b.txt"], tree=scratch, cmdline="panic=reset")


def test_same_parts_same_bytes(image, scratch):
    first = image.read_bytes()
    again = rom.create(scratch / "two.rom", files=["a.txt", "b.txt"], tree=scratch, cmdline="panic=reset")
    assert again.read_bytes() == first
    grown = rom.create(scratch / "three.rom", kernels=[("A", KERNEL)], files=["a.txt"], tree=scratch)
    line = scratch / "line"
    line.write_text("panic=reset\n")
    for words in (("add", grown, "b.txt", scratch / "b.txt"), ("replace", grown, "kernel:B", KERNEL),
                  ("replace", grown, "cmdline", line)):
        assert rom.run(*words) == ("", True)
    assert grown.read_bytes() == first
    assert rom.run("add", grown, "c.txt", scratch / "a.txt")[1] and grown.read_bytes() != first
    assert rom.run("remove", grown, "c.txt")[1] and grown.read_bytes() == first
    assert rom.run("activate", grown, "B")[1] and grown.read_bytes() != first
    assert rom.run("activate", grown, "A")[1] and grown.read_bytes() == first


def test_list_and_extract(image, scratch):
    text, good = rom.run("list", image)
    assert good and "active kernel: A" in text and "damaged" not in text
    for name in ("directory, copy 1", "kernel:A", "kernel:B", "cmdline", "a.txt", "b.txt", "loader, copy 2",
                 "boot block", "free"):
        assert f"\n{name}" in text, name
    for part, path in (("kernel:B", KERNEL), ("a.txt", scratch / "a.txt"), ("b.txt", scratch / "b.txt")):
        assert rom.run("extract", image, part, scratch / "out")[1]
        assert (scratch / "out").read_bytes() == path.read_bytes()


def test_verify_names_what_is_damaged(image):
    assert rom.run("verify", image) == (f"{image}: good", True)
    places = list(rom.layout(image).items())
    sound = image.read_bytes()
    tool = rom.load_romtool()
    step = 1013  # a prime: all bits of a byte, all places in a page
    for offset in range(0, len(sound), step):
        damaged = bytearray(sound)
        damaged[offset] ^= 1 << offset % 8
        image.write_bytes(damaged)
        owner = [name for name, (start, size) in places if start <= offset < start + size]
        try:
            found = tool.check(*tool.read_image(image))
        except tool.RomError as error:
            found = [str(error)]
        assert len(found) == 1, (offset, found)
        assert found[0].startswith(f"{owner[0]}:" if owner else "free space before"), (offset, found)


def test_changes_of_a_damaged_image_are_refused(image, scratch):
    rom.flip_in(image, "a.txt")
    before = image.read_bytes()
    text, good = rom.run("add", image, "c.txt", scratch / "b.txt")
    assert not good and text == "romtool: a.txt: its checksum is wrong"
    assert image.read_bytes() == before
    text, good = rom.run("extract", image, "a.txt", scratch / "out")
    assert not good and text == "romtool: a.txt: its checksum is wrong"


@pytest.mark.parametrize("words, says", [
    (("add", "{image}", "a.txt", "{file}"), "a.txt is there already"),
    (("add", "{image}", "a b", "{file}"), "a b: a name has 1 to 51 printable characters and no blanks"),
    (("add", "{image}", "x" * 52, "{file}"), "a name has 1 to 51 printable"),
    (("add", "{image}", "big", "{big}"), "the parts need"),
    (("add", "{image}", "empty", "{empty}"), "empty: it is empty"),
    (("add", "{image}", "new", "/nowhere"), "No such file"),
    (("replace", "{image}", "c.txt", "{file}"), "there is no part c.txt; there are"),
    (("remove", "{image}", "c.txt"), "there is no part c.txt"),
    (("verify", "{file}"), "not the size of a flash part"),
    (("verify", "{blank}"), "boot block: it is damaged, or this is no image of ours"),
])
def test_wrong_wishes(image, scratch, words, says):
    names = {"image": image}
    for name, content in {"file": b"text", "big": bytes(range(256)) * 8192, "empty": b"", "blank": b"\xff" * 65536}.items():
        names[name] = scratch / f"{name}.bin"
        names[name].write_bytes(content)
    # Incompressible, or it would fit.
    names["big"].write_bytes(KERNEL.read_bytes()[:100] + __import__("random").Random(1).randbytes(1 << 20))
    before = image.read_bytes()
    text, good = rom.run(*[word.format(**names) for word in words])
    assert not good and says in text and len(text.splitlines()) == 1
    assert image.read_bytes() == before
