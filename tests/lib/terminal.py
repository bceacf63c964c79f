"""This terminal as the console of a machine: every key reaches it, until it closes its end of the line."""

import os
import select
import sys
import termios
import tty


def carry(line, watch):
    sources = [line, sys.stdin]
    while True:
        ready = select.select(sources, [], [])[0]
        if line in ready:
            data = line.recv(4096)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            if not data or watch(data):
                return
        if sys.stdin in ready:
            keys = os.read(sys.stdin.fileno(), 256)
            if keys:
                line.sendall(keys)
            else:
                sources.remove(sys.stdin)


def attach(line, watch=lambda data: False):
    """Carry bytes both ways; an end also comes when `watch`, which sees all that the machine says, returns true."""
    terminal = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
    try:
        if terminal:
            tty.setraw(sys.stdin)
        carry(line, watch)
    except ConnectionResetError:
        pass
    finally:
        if terminal:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, terminal)
