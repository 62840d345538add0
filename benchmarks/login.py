#!/usr/bin/env python3
"""Time from exec to the login prompt, and to `systemctl is-system-running` = running, of the image debian:12, under Nacre
and under QEMU's translator with the same disk, kernel, initial RAM disk and two processors each, by turns.

    login.py BUILD-FOLDER IMAGE-FOLDER [ROUNDS]

The initial RAM disk is made as `nacre start` makes it in memory, but for the agent. The first boot of each disk grows the file
system and is not counted. Needs cpio."""
import os
import shutil
import subprocess
import sys
import tempfile
import time

APPEND = "console=ttyS0 root=/dev/vda quiet systemd.hostname=bench"
LIMIT = 300


def boot(command, commands):
    """Seconds to the shell's prompt and to the answer "running"."""
    began = time.monotonic()
    guest = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    os.set_blocking(guest.stdout.fileno(), False)
    text, seen = b"", []
    # What is waited for, and what is typed then. The echo of the command has no number.
    steps = [(b"automatic login", b""), (b"root@bench:", b"systemctl is-system-running --wait; echo STATE-$?\n"),
             (b"STATE-0", commands)]
    while time.monotonic() - began < LIMIT and guest.poll() is None:
        text += guest.stdout.read() or b""
        if steps and steps[0][0] in text:
            seen.append(time.monotonic() - began)
            guest.stdin.write(steps[0][1])
            guest.stdin.flush()
            text = text[text.index(steps[0][0]):]
            steps.pop(0)
        time.sleep(0.01)
    guest.kill()
    guest.wait()
    if len(seen) < 3:
        sys.exit(f"{command[0]}: the guest did not come up: {text[-300:]!r}")
    return seen[0], seen[2]


def make_initrd(build, image, work):
    tree, initrd = os.path.join(work, "tree"), os.path.join(work, "initrd")
    shutil.copytree(os.path.join(image, "modules"), os.path.join(tree, "modules"))
    shutil.copy(os.path.join(build, "src/app/nacre_disk_init"), os.path.join(tree, "init"))
    with open(initrd, "wb") as to:
        subprocess.run("find . | cpio -o -H newc --quiet", shell=True, cwd=tree, stdout=to, check=True)
    return initrd


def main():
    build, image = sys.argv[1:3]
    nacre = os.path.join(build, "nacre")
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    kernel = os.path.join(image, "vmlinuz")
    with tempfile.TemporaryDirectory() as work:
        initrd = make_initrd(build, image, work)
        disks = {peer: os.path.join(work, peer + ".qcow2") for peer in ("nacre", "tcg")}
        for disk in disks.values():
            base = os.path.realpath(os.path.join(image, "disk.qcow2"))
            subprocess.run([nacre, "disk", "create", disk, "8G", "--backing", base], check=True)
        commands = {
            "nacre": [nacre, "boot", "--engine", "soft", "--cpus", "2", "--memory", "1G", "--kernel", kernel, "--initrd", initrd,
                      "--append", APPEND, "--disk", disks["nacre"]],
            "tcg": ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1G", "-M", "q35", "-nodefaults",
                    "-nographic", "-serial", "stdio", "-kernel", kernel, "-initrd", initrd, "-append", APPEND,
                    "-drive", f"file={disks['tcg']},if=virtio,format=qcow2", "-device", "virtio-rng-pci"],
        }
        times = {"nacre": [], "tcg": []}
        for turn in range(rounds + 1):
            for peer in ("nacre", "tcg"):
                seconds = boot(commands[peer], b"poweroff\n")
                print(f"{peer} {'first' if turn == 0 else turn}: login {seconds[0]:.2f} s, running {seconds[1]:.2f} s", flush=True)
                if turn > 0:
                    times[peer].append(seconds)
        for i, name in enumerate(("login", "running")):
            medians = {peer: sorted(t[i] for t in times[peer])[len(times[peer]) // 2] for peer in times}
            print(f"{name}: Nacre {medians['nacre']:.2f} s, TCG {medians['tcg']:.2f} s, ratio {medians['nacre'] / medians['tcg']:.2f}")


main()
