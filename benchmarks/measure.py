"""Measures Nacre beside the machine itself and beside QEMU's translator, in one run, with one guest.

  ./bench                            every row and the boot
  ./bench int_ fp_nbody              only rows whose names contain one of these; 'boot' is the boot
  ./bench --engines native,tcg       only these columns (native, nacre, tcg)
  ./bench --engine interp            another engine of Nacre's (default: soft)
  ./bench --kernel FILE              another kernel than Debian's for clouds
  ./bench --rounds 5 --boots 10      how often each is measured; the best counts


Rows are nanoseconds per operation: lower is better. The boot is seconds from exec to the init script's first line.
Peak memory is what the process holds above the guest's RAM, in MiB. A row that an engine fails prints "-".
The columns take turns, so that a busy moment of the machine does not fall on one of them alone.
Exit status: 0, or 1 if any row failed, 2 for wrong usage.
"""
import argparse
import math
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GUESTBENCH = os.path.join(ROOT, "build/guest/guestbench")
INITRD = os.path.join(ROOT, "build/guest/test.cpio")
MEMORY_MIB = 512
ROWS = ("int_sha256 int_qsort int_vm int_calls fp_nbody fp_matmul mem_chase mem_copy mem_bytes "
        "sys_call sys_read sys_pipe sys_fork sys_exec sys_fault sys_signal").split()
COLUMNS = ("native", "nacre", "tcg")


def fail(sentence, status=1):
    print(f"bench: {sentence}", file=sys.stderr)
    sys.exit(status)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    parser.add_argument("--engines", default=",".join(COLUMNS))
    parser.add_argument("--engine", default="soft")
    parser.add_argument("--nacre", default=os.path.join(ROOT, "build/release/nacre"))
    parser.add_argument("--kernel")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--boots", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=300, help="seconds that one guest may take")
    arguments = parser.parse_args()
    arguments.engines = arguments.engines.split(",")
    unknown = [name for name in arguments.engines if name not in COLUMNS]
    if unknown:
        fail(f"no column {unknown[0]}; there are {', '.join(COLUMNS)}.", 2)
    names = ROWS + ["boot"]
    for wanted in arguments.rows:
        if not any(wanted in name for name in names):
            fail(f"no row has '{wanted}' in its name; there are {', '.join(names)}.", 2)
    arguments.chosen = [name for name in names if not arguments.rows or any(wanted in name for wanted in arguments.rows)]
    return arguments


def prepare(arguments):
    """Builds and fetches what the measurement needs; quick when it is all there."""
    def run(*command):
        if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
            fail(f"could not prepare the measurement: {' '.join(command)} failed; its messages are above.")
    if not arguments.kernel:
        run("scripts/fetch-guest")
        cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "nacre")
        arguments.kernel = os.path.join(cache, "vmlinuz-cloud")
    if not os.path.exists(os.path.join(ROOT, "build/release/CMakeCache.txt")):
        os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
        run("cmake", "--preset", "release", "-DNACRE_TESTS=OFF")
    targets = ["mkinitramfs"]
    if "nacre" in arguments.engines and arguments.nacre.startswith(ROOT):
        targets.append("nacre")
    run("cmake", "--build", "--preset", "release", "--target", *targets)
    run("make", "-s", "-C", "guest")
    programs = {"nacre": arguments.nacre, "tcg": "qemu-system-x86_64"}
    for column in arguments.engines:
        if column in programs and not shutil.which(programs[column]):
            fail(f"there is no program {programs[column]} to measure.")


def command_for(column, arguments, append):
    if column == "nacre":
        return [arguments.nacre, "boot", "--engine", arguments.engine, "--memory", f"{MEMORY_MIB}M", "--kernel", arguments.kernel,
                "--initrd", INITRD, "--append", append]
    return ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", f"{MEMORY_MIB}M", "-nographic", "-no-reboot",
            "-kernel", arguments.kernel, "-initrd", INITRD, "-append", append]


def memory_above_guest(pid):
    """KiB that the process holds, without the guest's RAM: a memory file at least as large, or an anonymous mapping
    of just that size (a larger one is address space kept free, of which only what is used counts)."""
    files = {}
    try:
        with open(f"/proc/{pid}/smaps") as smaps:
            for line in smaps:
                header = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ (\S+) (\d+)", line)
                if header:
                    start, end, inode = int(header[1], 16), int(header[2], 16), header[4]
                    # An anonymous mapping stands for itself; the parts of one file are taken together.
                    key = (header[3], inode) if inode != "0" else (line, None)
                    size, held = files.get(key, (0, 0))
                    files[key] = (size + (end - start) // 1024, held)
                elif line.startswith("Pss:"):
                    size, held = files[key]
                    files[key] = (size, held + int(line.split()[1]))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    guest = MEMORY_MIB * 1024
    return sum(held for (_, inode), (size, held) in files.items() if not (size >= guest if inode else size == guest))


class Guest:
    """One run of a guest: its lines with the second each came at, and its peak memory."""

    def __init__(self, command, timeout, stop_at=None, watch_memory=False):
        self.lines, self.peak_kib = [], 0
        self.errors = tempfile.TemporaryFile()
        began = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
                                        start_new_session=True)
        if watch_memory:
            threading.Thread(target=self._watch, daemon=True).start()
        try:
            self._read(began, timeout, stop_at)
        finally:
            self._end()

    def _read(self, began, timeout, stop_at):
        text = b""
        while (left := began + timeout - time.monotonic()) > 0:
            if not select.select([self.process.stdout], [], [], left)[0]:
                return
            piece = os.read(self.process.stdout.fileno(), 65536)
            now = time.monotonic() - began
            if not piece:
                return
            *whole, text = (text + piece).split(b"\n")
            self.lines += [(now, line.decode(errors="replace").strip()) for line in whole]
            if stop_at and any(stop_at in line for _, line in self.lines[len(self.lines) - len(whole):]):
                return

    def _watch(self):
        while self.process.poll() is None:
            self.peak_kib = max(self.peak_kib, memory_above_guest(self.process.pid))
            time.sleep(0.5)  # reading smaps stops the process for a moment

    def _end(self):
        try:
            self.process.wait(2 if not self.lines or "NACRE-EXIT" in self.lines[-1][1] else 0.2)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def second_of(self, mark):
        return next((second for second, line in self.lines if mark in line), None)

    def last_word(self):
        self.errors.seek(0)
        errors = self.errors.read().decode(errors="replace").strip()
        return errors.splitlines()[-1] if errors else self.lines[-1][1] if self.lines else "nothing"


def rows_in(lines):
    found = {}
    for line in lines:
        match = re.search(r"BENCH (\w+) ([0-9.]+) ns", line)
        if match:
            found[match[1]] = float(match[2])
    return found


def progress(text):
    print(text, file=sys.stderr, flush=True)


def measure_rows(column, arguments, turn):
    rows = [row for row in arguments.chosen if row != "boot"]
    if not rows:
        return {}, None
    progress(f"{column}: guestbench, {turn} …")
    names = [] if rows == ROWS else rows
    if column == "native":
        # On one processor, as the guests have one: a pipe between two would measure their distance.
        pin = lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        lines = []
        for name in names or [""]:
            lines += subprocess.run([GUESTBENCH, name], stdout=subprocess.PIPE, text=True, preexec_fn=pin).stdout.splitlines()
        return rows_in(lines), None
    append = "console=ttyS0 quiet nacre.script=guestbench" + (" nacre.args=" + ",".join(names) if names else "")
    guest = Guest(command_for(column, arguments, append), arguments.timeout, stop_at="NACRE-EXIT", watch_memory=True)
    found = rows_in(line for _, line in guest.lines)
    missing = [row for row in rows if row not in found]
    if missing and guest.second_of("NACRE-INIT") is not None:
        # A row that took the whole guest along: those behind it get a guest of their own.
        for row in missing[1:]:
            append = f"console=ttyS0 quiet nacre.script=guestbench nacre.args={row}"
            again = Guest(command_for(column, arguments, append), arguments.timeout / 5, stop_at="NACRE-EXIT")
            found.update(rows_in(line for _, line in again.lines))
    if missing:
        progress(f"{column}: {', '.join(missing)} failed in one guest together; its last word: {guest.last_word()}")
    return found, guest.peak_kib / 1024


def measure_boot(column, arguments):
    append = "console=ttyS0 quiet nacre.script=nothing"
    guest = Guest(command_for(column, arguments, append), arguments.timeout, stop_at="NACRE-INIT")
    second = guest.second_of("NACRE-INIT")
    if second is None:
        progress(f"{column}: did not boot; its last word: {guest.last_word()}")
    return second


def number(value):
    if value is None:
        return "-"
    if value >= 100000:
        return f"{value / 1000:.0f} k"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}" if value >= 1 else f"{value:.3f}"


def ratio(above, below):
    return f"{above / below:.2f}" if above and below else "-"


def print_table(results, boots, peaks, arguments):
    rows = [row for row in arguments.chosen if row != "boot"]
    head = ("", *arguments.engines, "Nacre/native", "TCG/Nacre")
    table = [head]
    for row in rows:
        native, nacre, tcg = (results.get(column, {}).get(row) for column in COLUMNS)
        table.append((row, *(number(results[column].get(row)) for column in arguments.engines), ratio(nacre, native), ratio(tcg, nacre)))

    def mean(above, below):
        pairs = [(results.get(above, {}).get(row), results.get(below, {}).get(row)) for row in rows]
        if not pairs or not all(a and b for a, b in pairs):
            return "-"
        return f"{math.exp(sum(math.log(a / b) for a, b in pairs) / len(pairs)):.2f}"
    blank = [""] * len(arguments.engines)
    if rows:
        table.append(("geometric mean", *blank, mean("nacre", "native"), mean("tcg", "nacre")))
    if "boot" in arguments.chosen:
        shown = ["" if column == "native" else number(boots.get(column)) for column in arguments.engines]
        table.append(("boot, seconds", *shown, "", ratio(boots.get("tcg"), boots.get("nacre"))))
    if any(peaks.get(column) for column in arguments.engines):
        shown = ["" if column == "native" else number(peaks.get(column) or None) for column in arguments.engines]
        table.append(("memory, MiB", *shown, "", ""))
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    for line in table:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths))))


def keep_best(best, found):
    for row, value in found.items():
        best[row] = min(value, best.get(row, value))


def main():
    arguments = parse_arguments()
    prepare(arguments)
    results = {column: {} for column in arguments.engines}
    boots, peaks = {}, {}
    for turn in range(arguments.rounds):
        for column in arguments.engines:
            found, peak = measure_rows(column, arguments, f"round {turn + 1} of {arguments.rounds}")
            keep_best(results[column], found)
            peaks[column] = max(peak or 0, peaks.get(column, 0))
    for turn in range(arguments.boots if "boot" in arguments.chosen else 0):
        progress(f"boot {turn + 1} of {arguments.boots} …")
        for column in arguments.engines:
            if column != "native":
                seconds = measure_boot(column, arguments)
                boots[column] = None if seconds is None else min(seconds, boots.get(column) or seconds)
    print_table(results, boots, peaks, arguments)
    # One guest runs at a time, with the monitor's own threads mostly asleep: more load than that is somebody else's.
    if (load := os.getloadavg()[0]) > 1.5:
        print(f"The machine was busy with other work as well (load {load:.1f}): such figures vary by a factor of two and more.")
    rows = [row for row in arguments.chosen if row != "boot"]
    sys.exit(0 if all(row in results[column] for column in results for row in rows) and all(boots.values()) else 1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
