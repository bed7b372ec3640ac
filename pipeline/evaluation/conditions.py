"""What a machine was doing while it was measured: load, clocks, power mode, temperatures; and what of it is suspicious.

Everything is read where it can be read without rights, and left out where it cannot: sysfs for CPUs, boards and their
GPUs, `nvidia-smi` for NVIDIA's cards, `nvpmodel` and `jetson_clocks` for Jetsons.
"""

from __future__ import annotations

import os
import re
import subprocess
from operator import ne
from pathlib import Path
from typing import Final

from pipeline.records import BatchLatency, Blocks, Conditions, DeviceTiming, Latency, Load, RuntimeLatency, WarmUp

SYS = Path("/sys")
CPUINFO = Path("/proc/cpuinfo")
NVIDIA_SMI: Final = (
    "nvidia-smi",
    "--query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.limit",
    "--format=csv,noheader,nounits",
)
COLDEST_C: Final = -40.0  # what reads lower is switched off, as a Jetson's unused zones
RISE_C: Final = 10.0  # warned of beyond it
CHANGE: Final = 0.1  # share of a clock, likewise
SPARE_CPUS: Final = 0.5  # how much of one CPU others may take
STEADY: Final = 2.0  # highest over lowest median of the blocks, beyond which a median is no number to divide


def read_load() -> Load | None:
    """Read the load average of the last minute; None where the system keeps none."""
    try:
        return Load(average=os.getloadavg()[0], cpus=os.cpu_count() or 1)
    except (AttributeError, OSError):
        return None


def read_conditions() -> Conditions:
    """Read clocks (MHz), temperatures (degrees Celsius), GPU power limits (W) and modes, as far as they can be read."""
    gpus = _nvidia()
    governors = {_text(path) for path in SYS.glob("devices/system/cpu/cpu*/cpufreq/scaling_governor")} - {""}
    return Conditions(
        cpu_governor=", ".join(sorted(governors)) or None,
        power_mode=_power_mode(),
        clocks_mhz=_cpu_clock() | _device_clocks() | _jetson_clocks() | gpus["clocks"],
        temperatures_c=_zones() | gpus["temperatures"],
        power_limits_w=gpus["limits"],
    )


def warnings_of(latency: Latency) -> list[str]:
    """Say what makes a record's numbers doubtful, a line each; empty where nothing does."""
    found = _unsteady(latency)
    load, before, after = latency.load, latency.before, latency.after
    if load is not None and load.cpus - load.average < latency.threads - SPARE_CPUS:
        found.append(
            f"the machine was busy before the start: load average {load.average:.1f} on {load.cpus} CPUs, "
            f"{latency.threads} of them to be used"
        )
    if before is None or after is None:
        return found
    for what, unit, olds, news, is_doubtful in (
        ("temperatures rose", "°C", before.temperatures_c, after.temperatures_c, _is_warmer),
        ("clocks changed", "MHz", before.clocks_mhz, after.clocks_mhz, _is_another_clock),
        ("power limits changed", "W", before.power_limits_w, after.power_limits_w, ne),
    ):
        doubtful = [name for name in olds if name in news and is_doubtful(olds[name], news[name])]
        if doubtful:
            listed = ", ".join(f"{name} {olds[name]:.0f} to {news[name]:.0f} {unit}" for name in doubtful)
            found.append(f"{what} while measuring: {listed}")
    for what, old, new in (
        ("power mode", before.power_mode, after.power_mode),
        ("CPU governor", before.cpu_governor, after.cpu_governor),
    ):
        if old != new:
            found.append(f"{what} changed while measuring: {old} to {new}")
    return found


def doubts_of(row: RuntimeLatency | BatchLatency | DeviceTiming) -> list[str]:
    """Say why a median is not steady enough to be divided by another, as predicates; empty where it is."""
    found = []
    if _is_moving(row.warmup):
        found.append("was not stable after the warm-up")
    if row.blocks is not None and _is_spread(row.blocks):
        found.append(f"had medians of its blocks from {row.blocks.min_ms:.3g} to {row.blocks.max_ms:.3g} ms")
    if not isinstance(row, DeviceTiming) and row.asked_runs is not None and row.runs < row.asked_runs:
        found.append(f"made {row.runs} of {row.asked_runs} runs within benchmark.max_time_s")
    return found


def _unsteady(latency: Latency) -> list[str]:
    """List the runtimes and batches whose medians are doubtful, by reason."""
    named: list[tuple[str, RuntimeLatency | BatchLatency]] = []
    for row in latency.runtimes:
        named += [(row.runtime, row), *((f"{row.runtime} at batch {of.batch_size}", of) for of in row.batches)]
    reasons: dict[str, list[str]] = {}
    for name, of in named:
        for reason in doubts_of(of):
            reasons.setdefault(reason, []).append(name)
    return [f"{latency.model.name} {reason} in {', '.join(names)}" for reason, names in reasons.items()]


def _is_moving(warmup: WarmUp | None) -> bool:
    return warmup is not None and not warmup.stable


def _is_spread(blocks: Blocks) -> bool:
    return blocks.max_ms > STEADY * blocks.min_ms


def _is_warmer(old: float, new: float) -> bool:
    return new - old > RISE_C


def _is_another_clock(old: float, new: float) -> bool:
    return abs(new - old) > CHANGE * old


def _cpu_clock() -> dict[str, float]:
    """Read the highest clock among the CPUs: that of the busy one."""
    kilohertz = _numbers("devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")
    if kilohertz:
        return {"cpu": max(kilohertz.values()) / 1e3}
    text = CPUINFO.read_text() if CPUINFO.exists() else ""
    megahertz = [float(value) for value in re.findall(r"^cpu MHz\s*: ([\d.]+)", text, re.MULTILINE)]
    return {"cpu": max(megahertz)} if megahertz else {}


def _device_clocks() -> dict[str, float]:
    """Read the clocks of a board's GPU and memory, where the kernel scales them: `17000000.gpu`."""
    return {path.parent.name: hertz / 1e6 for path, hertz in _numbers("class/devfreq/*/cur_freq").items()}


def _zones() -> dict[str, float]:
    """Read the thermal zones by their type; of several of one type the hottest."""
    found: dict[str, float] = {}
    for path, milli in _numbers("class/thermal/thermal_zone*/temp").items():
        name = _text(path.with_name("type")) or path.parent.name
        if milli / 1e3 > COLDEST_C:
            found[name] = max(milli / 1e3, found.get(name, COLDEST_C))
    return found


def _nvidia() -> dict[str, dict[str, float]]:
    """Ask the driver for each GPU's clocks, temperature and power limit; what it does not know is left out."""
    found: dict[str, dict[str, float]] = {"clocks": {}, "temperatures": {}, "limits": {}}
    for index, line in enumerate(_answer(*NVIDIA_SMI).splitlines()):
        places = (("clocks", ""), ("clocks", " memory"), ("temperatures", ""), ("limits", ""))
        for (kind, suffix), cell in zip(places, line.split(","), strict=False):
            value = _number(cell)
            if value is not None:
                found[kind][f"gpu{index}{suffix}"] = value
    return found


def _power_mode() -> str | None:
    """Ask a Jetson for its power mode: `MAXN`, `15W`."""
    mode = re.search(r"^NV Power Mode: *(.+)$", _answer("nvpmodel", "-q"), re.MULTILINE)
    return mode[1].strip() if mode else None


def _jetson_clocks() -> dict[str, float]:
    """Ask a Jetson for the clocks of GPU and memory (EMC); most releases answer to root only."""
    shown = re.findall(r"^(GPU|EMC) .*\bCurrentFreq=(\d+)", _answer("jetson_clocks", "--show"), re.MULTILINE)
    return {name.lower(): float(hertz) / 1e6 for name, hertz in shown}


def _answer(*command: str) -> str:
    """Return what a command prints, nothing where it is not installed or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _numbers(pattern: str) -> dict[Path, float]:
    """Read the files of sysfs that hold a number; one that cannot be read now is left out."""
    values = {path: _number(_text(path)) for path in sorted(SYS.glob(pattern))}
    return {path: value for path, value in values.items() if value is not None}


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # a sensor that is switched off
        return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # also N/A
        return None
