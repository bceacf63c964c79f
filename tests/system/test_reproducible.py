"""Equal sources give equal images, wherever they are built."""

import filecmp
import os
import shutil
import subprocess

from lib.machine import BUILD, TOP

IMAGES = ["orthocone.elf", "libvmm.a", "orthocone.iso", "orthocone.img", "orthocone.rom", "orthocone-small.rom",
          "orthocone.efi"]


def lines(*command):
    return subprocess.run(command, cwd=TOP, check=True, capture_output=True, text=True).stdout.splitlines()


def test_another_folder_builds_the_same_images(scratch):
    copy = scratch / "another" / "folder-with-a-longer-name"
    shutil.rmtree(copy, ignore_errors=True)
    for name in lines("git", "ls-files", "--cached", "--others", "--exclude-standard"):
        if (TOP / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, copy / name, follow_symlinks=False)
    (copy / "build").mkdir()
    (copy / "build/third-party").symlink_to(BUILD / "third-party")
    (copy / "build/.packages").touch()

    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    settings = [f"version={lines('git', 'describe', '--always', '--dirty')[0]}",
                f"SOURCE_DATE_EPOCH={lines('git', 'log', '-1', '--format=%ct')[0]}"]
    goals = [f"build/{image}" for image in IMAGES]
    # The cache of third-party parts is the tree's own: what it holds is not built here.
    made = subprocess.run(["make", *settings, *goals], cwd=copy, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    different = [image for image in IMAGES if not filecmp.cmp(BUILD / image, copy / "build" / image, shallow=False)]
    assert different == []
    shutil.rmtree(copy)
