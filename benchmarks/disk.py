"""Measures qcow2 of Nacre's beside QEMU's, on the same file, by turns: python3 benchmarks/disk.py DISKBENCH [ROUNDS]

DISKBENCH is build/release/src/storage/diskbench (ninja diskbench). The field's side is `qemu-img bench`, both with the
host's page cache in between. "4k spread": a step of 331 clusters and a page, so that each request is in another cluster and page of the tables; best of ROUNDS (3).
A fresh image for each writing row that allocates, filled ones for the others.
"""
import os
import re
import subprocess
import sys
import tempfile

MIB = 1 << 20
SPREAD = 331 * 65536 + 4096
DISK = 1024 * MIB
# name, what, image, requests, depth, size, step
ROWS = [
    ("4k spread read, 1 at once", "read", "full", 60000, 1, 4096, SPREAD),
    ("4k spread read, 32 at once", "read", "full", 60000, 32, 4096, SPREAD),
    ("4k spread write, 1 at once", "write", "full", 30000, 1, 4096, SPREAD),
    ("4k spread write, 32 at once", "write", "full", 30000, 32, 4096, SPREAD),
    ("4k spread write, allocating, 32 at once", "write", "empty", 15000, 32, 4096, SPREAD),
    ("4k spread write, over a base, 32 at once", "write", "overlay", 4000, 32, 4096, SPREAD),
    ("1M sequential read, 8 at once", "read", "full", 1024, 8, MIB, MIB),
    ("1M sequential write, 8 at once", "write", "full", 1024, 8, MIB, MIB),
    ("1M sequential write, allocating, 8 at once", "write", "empty", 1024, 8, MIB, MIB),
]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout


def prepare(folder, kind, full):
    path = os.path.join(folder, kind)
    if kind == "full":
        return full
    if os.path.exists(path):
        os.unlink(path)
    backing = ["-b", full, "-F", "qcow2"] if kind == "overlay" else []
    run("qemu-img", "create", "-q", "-f", "qcow2", *backing, path, str(DISK))
    return path


def ours(tool, path, what, count, depth, size, step):
    return float(run(tool, path, what, str(count), str(depth), str(size), str(step)))


def theirs(path, what, count, depth, size, step):
    flags = ["-w"] if what == "write" else []
    output = run("qemu-img", "bench", "-f", "qcow2", "-t", "writeback", "-c", str(count), "-d", str(depth), "-s", str(size),
                 "-S", str(step), *flags, path)
    return float(re.search(r"completed in ([0-9.]+) seconds", output).group(1))


def main():
    tool, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory(prefix="nacre-disk-") as folder:
        full = os.path.join(folder, "full")
        run("qemu-img", "create", "-q", "-f", "qcow2", full, str(DISK))
        run("qemu-img", "bench", "-f", "qcow2", "-w", "-c", "1024", "-d", "4", "-s", str(MIB), "-S", str(MIB), "-t", "writeback", full)
        print(f"{'row':44} {'Nacre':>12} {'QEMU':>12}   ratio")
        for name, what, kind, *numbers in ROWS:
            best = {}
            for _ in range(rounds):
                for side, measure in (("nacre", lambda path: ours(tool, path, what, *numbers)), ("qemu", lambda path: theirs(path, what, *numbers))):
                    seconds = measure(prepare(folder, kind, full))
                    best[side] = min(best.get(side, seconds), seconds)
            count, _, size, _ = numbers
            scale, unit = (1 / 1000, "k/s") if size == 4096 else (size / MIB, "MiB/s")
            rates = [count * scale / best[side] for side in ("nacre", "qemu")]
            print(f"{name:44} {rates[0]:9.1f} {unit:5} {rates[1]:6.1f} {unit:5} {rates[0] / rates[1]:6.2f}", flush=True)


main()
