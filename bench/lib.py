"""What bench/run and bench/stack share: processes, CPU time, the lines about the machine."""

import contextlib
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time
import urllib.request

REPO = pathlib.Path(__file__).resolve().parents[1]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def say(text):
    print(text, file=sys.stderr, flush=True)


class Server:
    """A child process and the URL that it serves."""

    def __init__(self, argv, folder, pattern, name=None):
        """It is up when `pattern` is in what it prints; the group of the pattern is its port."""
        self.began = time.monotonic()
        name = name or pathlib.Path(argv[0]).name
        self.out = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        with open(self.out, "wb") as out, open(self.log, "wb") as err:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            port = self._wait_for(pattern).groups()
            self.url = f"http://127.0.0.1:{port[0]}" if port else None
        except BaseException:
            self.stop()
            raise

    def _wait_for(self, pattern):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            found = re.search(pattern, self.out.read_text())
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.002)
        sys.exit(f"{self.process.args[0]} did not start: {self.log.read_text()[-2000:]}")

    def memory_kib(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return {name: int(re.search(rf"^{name}:\s+(\d+)", text, re.M).group(1))
                for name in ("VmRSS", "VmHWM")}

    def cpu_by_thread(self):
        """Seconds of CPU, user and kernel, by the thread's name."""
        seconds = {}
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            text = (task / "stat").read_text()
            name = text[text.index("(") + 1:text.rindex(")")]
            fields = text[text.rindex(")") + 2:].split()
            ticks = int(fields[11]) + int(fields[12])
            seconds[name] = seconds.get(name, 0) + ticks / TICKS_PER_S
        return seconds

    def stats(self):
        with urllib.request.urlopen(self.url + "/stats", timeout=10) as answer:
            return json.load(answer)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cpu_of(pid):
    """Seconds of CPU of a process and of those of its children that it has waited for."""
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return sum(map(int, text[text.rindex(")") + 2:].split()[11:15])) / TICKS_PER_S


def load(weir, server, *flags):
    """One `weir bench` against a server; what it found."""
    argv = [weir, "bench", server.url, "--json", *map(str, flags)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=300)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, argv))} failed: {done.stdout.decode()}\n"
                 f"{server.log.read_text()[-2000:]}")
    return json.loads(done.stdout)


def measure_disk(build, folder):
    done = subprocess.run([build / "bench" / "disk", folder], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def on_tmpfs(path):
    kind = subprocess.run(["stat", "-f", "-c", "%T", path], stdout=subprocess.PIPE, check=True)
    return kind.stdout.decode().strip() in ("tmpfs", "ramfs")


def read_line(path, pattern, otherwise="?"):
    with contextlib.suppress(OSError):
        found = re.search(pattern, pathlib.Path(path).read_text(), re.M)
        if found:
            return found.group(1)
    return otherwise


def commit():
    git = ["git", "-C", str(REPO)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], check=True,
                              capture_output=True, text=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], check=True,
                                 capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not known"
    return head + (" with changes" if changed else "")


def busy_seconds():
    """CPU time of the whole machine, and of this run and the children that ended."""
    fields = [int(n) for n in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    user, nice, system, _, _, irq, softirq = fields[:7]
    machine = (user + nice + system + irq + softirq) / TICKS_PER_S
    return machine, sum(os.times()[:4])


def others_cpus(began, before, after):
    """CPUs that other processes kept busy meanwhile; without them the figures would be better."""
    machine, ours = (b - a for a, b in zip(before, after))
    return max(0, machine - ours) / (time.monotonic() - began)


def print_machine(disk, others):
    cpu = read_line("/proc/cpuinfo", r"model name[ \t]*: (.*)")
    system = read_line("/etc/os-release", r'PRETTY_NAME="(.*)"')
    control = read_line("/proc/sys/net/ipv4/tcp_congestion_control", r"(.+)")
    print(f"- Machine: {cpu}, {os.cpu_count()} CPUs, the load generator included; {system}, "
          f"Linux {platform.release()}, TCP {control}")
    print(f"- Other processes and kernel threads meanwhile: {others:.2f} CPUs")
    print(f"- Commit: {commit()}")
    print(f"- Disk: write+fdatasync of 4 KiB into a file written before: p50 {disk['p50_ms']:.2f} ms, "
          f"p99 {disk['p99_ms']:.2f} ms")
