"""A session in a Linux guest: what the user types and sees, time, console, reboot, panic."""

import hashlib
import re
import time

import pytest
from lib.vm import linux_manifest, manifest

from session import BANNER, GUEST, LINUX_BOOT, command, end, guest_shell, to_guest, to_node, vm_states


def check_commands(node):
    assert node.run("echo $((6 * 7))", GUEST) == "42"
    assert node.run("nproc", GUEST) == "1"
    assert node.run("ls -d /proc /sys /dev", GUEST).split() == ["/dev", "/proc", "/sys"]
    memory = int(node.run("awk '/MemTotal/ {print $2}' /proc/meminfo", GUEST))
    assert 200 * 1024 < memory <= 256 * 1024
    assert node.run("sh -c 'exit 7'; echo $?", GUEST) == "7"
    assert node.run("seq 1 300 | tail -n 1", GUEST) == "300"


def check_interrupts(node):
    """Linux uses the IOAPIC and the ACPI tables; no crutch is on its command line."""
    interrupts = node.run("cat /proc/interrupts", GUEST)
    assert "IO-APIC" in interrupts and "ttyS0" in interrupts
    assert node.run("ls /sys/firmware/acpi/tables | grep -c -e APIC -e DSDT -e FACP", GUEST) == "3"


def check_log(node):
    """Nothing that Linux itself complains about."""
    assert node.run("dmesg | grep -E 'WARNING|BUG|Call Trace|consistency|firmware bug'", GUEST) == ""
    assert node.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource", GUEST) == "tsc"


def check_date(node):
    guest = int(node.run("date +%s", GUEST))
    assert abs(guest - time.time()) < 5


def check_sleep(node, seconds=10):
    """Ten seconds of the guest are ten of the host. Its clock is printed several times before and after, and QEMU stamps
    those lines: what a busy host adds between clock and line only makes a line late, so the least late one counts."""
    read = "for i in 1 2 3 4 5; do sleep 0.2; awk '{print \"clo\" \"ck\", $1}' /proc/uptime; done"
    node.run(f"{read}; sleep {seconds}; {read}", GUEST, timeout=3 * seconds)
    lines = [(sent, float(line.split()[1])) for sent, line in node.sent_lines() if line.startswith("clock ")]
    assert len(lines) == 10
    before, after = (min(sent - clock for sent, clock in part) for part in (lines[:5], lines[5:]))
    assert abs(after - before) <= seconds / 100, lines
    assert seconds <= lines[5][1] - lines[4][1] < 2 * seconds, lines


def check_paravirtual(node):
    """Linux finds KVM's interface and uses it."""
    log = node.run("dmesg | grep -iE 'kvm|stealtime|paravirt|PV '", GUEST)
    for text in ("kvm-clock: using sched offset", "setup PV IPIs", "PV spinlocks enabled",
                 "KVM setup pv remote TLB flush"):
        assert text in log, text
    to_node(node)
    shown = "\n".join(command(node, "vm show linux"))
    assert re.search(r"guest uses +kvmclock, steal time, PV EOI", shown), shown
    to_guest(node, "linux")
    node.send("\r")
    node.expect(GUEST)


def check_paste(node):
    """4 KiB in one go: each byte arrives."""
    lines = "".join(f"{i:04x} the quick brown fox jumps over the lazy dog {i * 7919:09x}\n" for i in range(64))
    text = lines[:4096 - 1] + "\n"
    node.sendline("echo rea''dy; cat > /tmp/paste")
    node.expect(r"ready\r\n")  # the shell has given the terminal back by now
    node.send(text.replace("\n", "\r") + "\x04")
    node.expect(GUEST)
    assert node.run("wc -c < /tmp/paste", GUEST).strip() == str(len(text))
    assert node.run("md5sum < /tmp/paste", GUEST).split()[0] == hashlib.md5(text.encode()).hexdigest()


def check_consoles(node):
    node.send("echo half")  # what is typed stays in the guest's line
    node.expect(r"echo half")
    to_node(node)
    assert vm_states(node)["linux"][0] == "running"
    assert "linux" in command(node, "console")
    to_guest(node, "linux")
    node.sendline(" done")
    node.expect(r"half done\r")
    node.expect(GUEST)


def test_session(start):
    node = start(linux_manifest(), stamps=True)
    guest_shell(node)
    check_commands(node)
    check_interrupts(node)
    check_log(node)
    check_date(node)
    check_paste(node)
    check_consoles(node)
    check_sleep(node)
    end(node)


def test_reboot_and_panic_stay_in_their_vm(start):
    node = start(manifest("ending", name="other", args="end=halt", cpus=(2,)),
                 linux_manifest(args="console=ttyS0 panic=0", power="stop"), cpus=3)
    guest_shell(node)

    node.sendline("reboot")
    node.expect(r"Restarting system|reboot: ")
    node.expect(BANNER, LINUX_BOOT)
    node.expect(GUEST)
    assert float(node.run("cat /proc/uptime", GUEST).split()[0]) < 60
    to_node(node)
    assert {name: state for name, (state, _) in vm_states(node).items()} == {"other": "running", "linux": "running"}
    to_guest(node, "linux")

    node.sendline("echo c > /proc/sysrq-trigger")
    node.expect(r"Kernel panic - not syncing: sysrq triggered crash")
    node.expect(r"end Kernel panic")
    to_node(node)
    assert vm_states(node)["linux"][0] == "running"  # it panicked, it did not end
    command(node, "vm stop linux")
    assert vm_states(node)["linux"][0] == "stopped"
    assert vm_states(node)["other"][0] == "running"
    end(node)


def test_two_linux_guests_at_once(start):
    node = start(linux_manifest("first", cpus=(1,), power="stop"),
                 linux_manifest("second", cpus=(2,), power="stop", lazy_memory=True), cpus=3)
    guest_shell(node)  # the second one is in front
    node.run("hostname second", GUEST)
    to_node(node)
    node.sendline("console first")
    guest_shell(node)
    assert node.run("hostname", GUEST) == "guest"
    node.sendline("poweroff")
    node.expect(r"\] vm first: stopped: ")
    states = vm_states(node)
    assert states["first"][0] == "stopped" and states["second"][0] == "running"
    node.sendline("console second")
    node.expect(r"\[console: second")
    assert node.run("hostname", GUEST).splitlines()[-1] == "second"
    node.sendline("poweroff")
    node.expect(r"\] vm second: stopped: ")
    end(node)


def test_two_vcpus_and_memory_above_4_gib(start):
    policy = {"hide": ["avx", "cx16"], "unknown_msrs": "ignore"}
    node = start(linux_manifest(memory=4096, cpus=(1, 2), cpu=policy), cpus=3, memory="6G")
    guest_shell(node)
    assert node.run("nproc", GUEST) == "2"
    memory = int(node.run("awk '/MemTotal/ {print $2}' /proc/meminfo", GUEST))
    assert 3900 * 1024 < memory <= 4096 * 1024
    counts = node.run("grep LOC: /proc/interrupts", GUEST).split()[1:3]
    assert all(int(count) > 0 for count in counts)
    check_paravirtual(node)
    flags = node.run("grep -m 1 flags /proc/cpuinfo", GUEST).split()
    assert "sse2" in flags and "xsave" in flags and not {"avx", "avx2", "cx16", "pku"} & set(flags)
    assert node.run("dd if=/dev/zero bs=1M count=16 2>/dev/null | md5sum", GUEST).split()[0] == \
        hashlib.md5(bytes(16 << 20)).hexdigest()
    end(node)


@pytest.mark.parametrize("cpus", [(1, 2) * 4, None], ids=["8_pinned", "16_floating"])
def test_more_vcpus_than_cpus(start, cpus):
    vm = linux_manifest(memory=512, cpus=cpus or (0,) * 16)
    if not cpus:
        del vm["cpus"]
    node = start(vm, cpus=3)
    guest_shell(node)
    count = vm["machine-config"]["vcpu_count"]
    assert int(node.run("nproc", GUEST)) == count
    work = "for i in $(seq 16); do (dd if=/dev/zero bs=1M count=2 2>/dev/null | md5sum) & done; wait"
    expected = hashlib.md5(bytes(2 << 20)).hexdigest()
    assert node.run(work, GUEST, LINUX_BOOT).count(expected) == 16
    counts = node.run("grep LOC: /proc/interrupts", GUEST, LINUX_BOOT).split()[1:count + 1]
    assert all(int(n) > 0 for n in counts)
    assert node.run("dmesg | grep -iE 'stall|lockup'", GUEST) == ""
    end(node)
