#!/usr/bin/env python3
"""What an exit costs under each engine: runs the kernel `exits` (guest/kernels/exits.c) a number of times under each, by turns, and
prints the medians in nanoseconds as the table of docs/engines.md.

  benchmarks/exits.py [--runs N] [ENGINE…]       after ./test release, or a build of preset release and make -C guest
"""

import argparse
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def once(nacre: pathlib.Path, kernel: pathlib.Path, engine: str) -> dict[str, int]:
    """The rows of one run: nanoseconds by what was measured."""
    command = [nacre, "boot", "--engine", engine, "--cpus", "2", "--memory", "256M", "--kernel", kernel, "--debug-exit", "--timeout", "120"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 33:
        sys.exit(f"{engine}: the kernel ended with status {done.returncode}.\n{done.stdout}{done.stderr}")
    rows = (line.split(maxsplit=2) for line in done.stdout.splitlines() if line.startswith("ROW "))
    return {what.strip(): int(nanoseconds) for _, nanoseconds, what in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9, help="of each engine (%(default)s)")
    parser.add_argument("--nacre", type=pathlib.Path, default=ROOT / "build/release/nacre")
    parser.add_argument("--kernel", type=pathlib.Path, default=ROOT / "build/guest/kernels/exits.elf")
    parser.add_argument("engines", nargs="*", default=["soft", "interp"], metavar="ENGINE")
    options = parser.parse_args()
    seen: dict[str, dict[str, list[int]]] = {}
    for _ in range(options.runs):
        for engine in options.engines:
            for what, nanoseconds in once(options.nacre, options.kernel, engine).items():
                seen.setdefault(what, {}).setdefault(engine, []).append(nanoseconds)
    print("| ns | " + " | ".join(options.engines) + " |")
    print("| --- |" + " ---: |" * len(options.engines))
    for what, by_engine in seen.items():
        print(f"| {what} | " + " | ".join(f"{statistics.median(by_engine[engine]):,.0f}" for engine in options.engines) + " |")


if __name__ == "__main__":
    main()
