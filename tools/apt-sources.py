#!/usr/bin/python3
"""Print the machine's package sources for one Debian release, with source packages added.

Usage: apt-sources.py <release> [binary]

Reads /etc/apt/sources.list and /etc/apt/sources.list.d in both formats of apt. Only entries for the
release itself and its updates and security suites are taken: other suites may carry other versions,
and other archives may have no sources. With "binary" the release alone, without sources: what another
architecture's packages are taken from. The result is in Deb822 format, for use as a private list.
"""

import glob
import re
import sys


def stanzas(path):
    """Yield one dictionary per entry of a sources file in either format."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if path.endswith(".sources"):
        for block in re.split(r"\n\s*\n", text):
            lines = [line for line in block.splitlines() if not line.startswith("#")]
            fields = re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", "\n".join(lines), re.M)
            if fields:
                yield {name.lower(): value for name, value in fields}
        return
    for line in text.splitlines():
        match = re.match(r"\s*(deb|deb-src)\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if match:
            kind, options, uri, suite, components = match.groups()
            entry = {"types": kind, "uris": uri, "suites": suite, "components": components.strip()}
            for option in (options or "").split():
                name, _, value = option.partition("=")
                entry[name.lower()] = value.replace(",", " ")
            yield entry


def main():
    release = sys.argv[1]
    binary = sys.argv[2:] == ["binary"]
    later = "" if binary else "(-updates|-security|/updates)?"
    wanted = re.compile(rf"({release}|stable){later}$")
    seen = set()
    paths = ["/etc/apt/sources.list"]
    paths += sorted(glob.glob("/etc/apt/sources.list.d/*.list"))
    paths += sorted(glob.glob("/etc/apt/sources.list.d/*.sources"))
    for path in paths:
        try:
            entries = list(stanzas(path))
        except OSError:
            continue
        for entry in entries:
            suites = " ".join(s for s in entry.get("suites", "").split() if wanted.match(s))
            if entry.get("enabled", "yes").lower() in ("no", "false", "0") or not suites:
                continue
            key = (entry.get("uris"), suites)
            if key in seen:
                continue
            seen.add(key)
            print("Types: deb" if binary else "Types: deb deb-src")
            print(f"URIs: {entry['uris']}")
            print(f"Suites: {suites}")
            print("Components: main")
            for option in ("signed-by", "trusted"):
                if option in entry:
                    print(f"{option.title()}: {entry[option]}")
            print()
    return 0 if seen else 1


if __name__ == "__main__":
    sys.exit(main())
