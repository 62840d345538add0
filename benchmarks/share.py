"""Measures a shared folder under Nacre beside QEMU's translator (TCG) with QEMU's virtiofsd, the same guest, driver and
folder, by turns: python3 benchmarks/share.py NACRE [ROUNDS]

Needs ./test release's guests, and qemu-system-x86 with /usr/lib/qemu/virtiofsd (Debian 12: qemu-system-common), as root. Best of ROUNDS (3). The
host's page cache is warm: what is measured is the way into the guest.
"""
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "nacre")
KERNEL = os.path.join(CACHE, "vmlinuz-cloud")
INITRD = os.path.join(HERE, "../build/guest/virtio.cpio")
APPEND = "console=ttyS0 quiet panic=-1 nacre.script=virtio nacre.args=fsbench"


def make_folder(folder):
    for i in range(200):
        os.makedirs(f"{folder}/tree/{i // 20}/{i}")
        for j in range(100):
            with open(f"{folder}/tree/{i // 20}/{i}/file-{j}", "w") as file:
                file.write("some text\n" * (j % 10))
    with tarfile.open(f"{folder}/archive.tar", "w") as archive:
        for i in range(0, 200, 10):
            archive.add(f"{folder}/tree/{i // 20}/{i}", arcname=f"archive/{i}")


def rows(output):
    found = dict(re.findall(r"FSBENCH (\w+) (\d+)", output))
    if "NACRE-EXIT 0" not in output:
        sys.exit("the guest failed:\n" + output[-2000:])
    return {name: int(value) / 100 for name, value in found.items()}


def nacre(command, folder):
    return rows(subprocess.run([command, "boot", "--memory", "1G", "--kernel", KERNEL, "--initrd", INITRD, "--append", APPEND, "--share",
                                f"{folder},tag=work"], capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL).stdout)


def qemu(folder):
    socket = folder + ".socket"
    server = subprocess.Popen([VIRTIOFSD, f"--socket-path={socket}", "-o", f"source={folder}", "-o", "cache=auto"], stderr=subprocess.DEVNULL)
    while not os.path.exists(socket):
        time.sleep(0.05)
    output = subprocess.run(["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1G", "-nodefaults", "-display", "none", "-serial", "stdio",
                             "-no-reboot", "-kernel", KERNEL, "-initrd", INITRD, "-append", APPEND,
                             "-object", "memory-backend-memfd,id=ram,size=1G,share=on", "-numa", "node,memdev=ram",
                             "-chardev", f"socket,id=fs,path={socket}", "-device", "vhost-user-fs-pci,chardev=fs,tag=work"],
                            capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL).stdout
    server.wait(timeout=30)
    return rows(output)


def main():
    command, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    best = {}
    with tempfile.TemporaryDirectory(prefix="nacre-share-") as work:
        folder = os.path.join(work, "shared")
        os.mkdir(folder)
        make_folder(folder)
        for _ in range(rounds):
            sides = {"nacre": lambda: nacre(command, folder)}
            if os.path.exists(VIRTIOFSD):
                sides["qemu"] = lambda: qemu(folder)
            for side, measure in sides.items():
                for row, seconds in measure().items():
                    best[row, side] = min(best.get((row, side), seconds), seconds)
    print(f"{'row':10} {'Nacre':>8} {'TCG':>8}   ratio")
    for row in ("write", "read", "find", "stat", "again", "untar", "readall", "remove"):
        ours, theirs = best[row, "nacre"], best.get((row, "qemu"), float("nan"))
        print(f"{row:10} {ours:7.2f}s {theirs:7.2f}s {theirs / max(ours, 0.01):7.1f}")


main()
