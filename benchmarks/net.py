"""Measures a guest's network beside QEMU's translator: python3 benchmarks/net.py [OPTION…]

  --seconds 5    each way of each row is measured for so long; --rounds 2: so often, by turns; the median counts
  --cpus 1,2     processors of the guest
  --nacre FILE   the nacre to measure; several, with commas, are columns beside each other (before and after a change)
  --no-tcg       without QEMU
  --rows nat,tap,tap2,raw   tap2: two queue pairs and four streams; raw: tap without checksum and segmentation offload
  --kernel FILE

iperf3, one stream, TCP over IPv4: "up" is from the guest, "down" to it; Mbit/s at the receiver. The server is on this machine, behind
libslirp (nat: Nacre's --net user, QEMU's -netdev user) or on the other side of a tap interface in a network namespace of its own.
Both have the same kernel, initrd and memory. Needs what `scripts/install-packages bench` installs, `make -C guest iperf`, and for tap a
kernel that lets the user have a network namespace; without one the rows are left out.
"""
import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PORT = 5299
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "nacre")
TAP = {"tap": ("ntap0", 1), "raw": ("ntap0", 1), "tap2": ("ntap1", 2)}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpus", default="1,2")
    parser.add_argument("--nacre", default=os.path.join(ROOT, "build/release/nacre"))
    parser.add_argument("--no-tcg", action="store_true")
    parser.add_argument("--rows", default="nat,tap,tap2")
    parser.add_argument("--kernel", default=os.path.join(CACHE, "vmlinuz-cloud"))
    parser.add_argument("--initrd", default=os.path.join(ROOT, "build/guest/iperf.cpio"))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def run(*command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def enter_namespace():
    """Again, in a network namespace, where tap interfaces can be made; else here, without them."""
    own = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") and run(*own, "ip", "tuntap", "add", "dev", "ntest", "mode", "tap"):
        os.execvp(own[0], own + [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--inside"])


def make_taps():
    run("ip", "link", "set", "lo", "up")
    for name, queues in set(TAP.values()):
        run("ip", "tuntap", "add", "dev", name, "mode", "tap", *(["multi_queue"] if queues > 1 else []))
        run("ip", "link", "set", name, "up")


def command_for(column, row, cpus, arguments):
    # One address for both interfaces, at the one that is used.
    if row == "nat":
        guest, server, streams, offload = "dhcp", "10.0.2.2", 1, ""
        nacre, qemu = "user", "user,id=n0"
    else:
        name, queues = TAP[row]
        for other, _ in set(TAP.values()):
            run("ip", "addr", "flush", "dev", other)
        run("ip", "addr", "add", "10.9.0.1/24", "dev", name)
        guest, server, streams = "10.9.0.2", "10.9.0.1", 4 if queues > 1 else 1
        offload = ",csum=0,gso=0" if row == "raw" else ""
        more = f",queues={queues}" if queues > 1 else ""
        nacre, qemu = f"tap={name}{more}", f"tap,id=n0,ifname={name},script=no,downscript=no,vhost=off{more}"
    append = f"console=ttyS0 quiet panic=-1 nacre.script=iperf nacre.args={guest},{server},{PORT},{arguments.seconds},{streams}{offload}"
    if column != "tcg":
        return [column, "boot", "--engine", "soft", "--memory", "512M", "--cpus", str(cpus), "--kernel", arguments.kernel,
                "--initrd", arguments.initrd, "--append", append, "--net", nacre]
    mq = ",mq=on,vectors=6" if row == "tap2" else ""
    return ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "512M", "-smp", str(cpus), "-nographic", "-no-reboot",
            "-kernel", arguments.kernel, "-initrd", arguments.initrd, "-append", append, "-netdev", qemu,
            "-device", f"virtio-net-pci,netdev=n0{mq}"]


def measure(column, row, cpus, arguments):
    command = ["timeout", "-s", "KILL", str(60 + 4 * arguments.seconds)] + command_for(column, row, cpus, arguments)
    output = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode(errors="replace")
    found = {way: float(rate) for way, rate in re.findall(r"IPERF (up|down) ([0-9.]+)", output)}
    if len(found) != 2:
        print(f"{os.path.basename(column)} {row} with {cpus}: no result; it last said: {output.strip().splitlines()[-1:]}", file=sys.stderr)
    return found


def main():
    arguments = parse()
    if not arguments.inside:
        enter_namespace()
    else:
        make_taps()
    rows = [row for row in arguments.rows.split(",") if row == "nat" or arguments.inside]
    columns = arguments.nacre.split(",") + ([] if arguments.no_tcg else ["tcg"])
    server = subprocess.Popen(["iperf3", "--server", "--port", str(PORT)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        print(f"{'':18}" + "".join(f"{'tcg' if c == 'tcg' else 'nacre' if len(columns) <= 2 else c[-14:]:>16}" for c in columns) + "   ratio", flush=True)
        for row in rows:
            for cpus in (int(n) for n in arguments.cpus.split(",")):
                if row == "tap2" and cpus == 1:
                    continue
                rates = {column: [] for column in columns}
                for _ in range(arguments.rounds):
                    for column in columns:
                        rates[column].append(measure(column, row, cpus, arguments))
                for way in ("up", "down"):
                    each = [statistics.median([r[way] for r in rates[c] if way in r] or [0]) for c in columns]
                    ratio = f"{each[0] / each[-1]:8.2f}" if len(each) > 1 and each[-1] else ""
                    print(f"{row + ' ' + way:12}{cpus} CPU " + "".join(f"{rate:16.0f}" for rate in each) + ratio, flush=True)
    finally:
        server.terminate()


main()
