"""What a machine tells about itself is read, what it does not tell is left out."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.evaluation import conditions
from pipeline.evaluation.conditions import read_conditions, read_load, warnings_of
from pipeline.records import Conditions, Latency, Load
from tests.report.made_up import device, runtime_latency

Tool = Callable[[str, str], None]
NVPMODEL = "NV Fan Mode:quiet\nNV Power Mode: MODE_15W\n0\n"
JETSON_CLOCKS = """SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano
cpu0: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1510400 CurrentFreq=729600 IdleStates: WFI=1 c7=1
GPU MinFreq=306000000 MaxFreq=624750000 CurrentFreq=408000000
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=0
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a machine that tells nothing: an empty /sys, no cpuinfo, no command."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(conditions, "SYS", tmp_path / "sys")
    monkeypatch.setattr(conditions, "CPUINFO", tmp_path / "cpuinfo")
    return tmp_path


@pytest.fixture
def tool(machine: Path) -> Tool:
    """Return a function that installs a command which prints a text."""

    def install(name: str, prints: str) -> None:
        script = machine / "bin" / name
        script.write_text(f"#!/bin/sh\nprintf '%s' '{prints}'\n")
        script.chmod(0o755)

    return install


def sysfs(machine: Path, **files: str) -> None:
    for name, text in files.items():
        path = machine / "sys" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def latency_of(**changes: object) -> Latency:
    calm = Conditions(
        cpu_governor="performance", power_mode="MAXN", clocks_mhz={"cpu": 2000.0, "gpu0": 1900.0},
        temperatures_c={"gpu0": 60.0}, power_limits_w={"gpu0": 350.0},
    )  # fmt: skip
    values = {"load": Load(average=0.1, cpus=4), "before": calm, "after": calm, **changes}
    after = {**calm.model_dump(), **values["after"]} if isinstance(values["after"], dict) else values["after"]
    return Latency.model_validate(
        {
            "model": {
                "task": "detect", "name": "toy", "role": "distilled", "architecture": "toy", "params_m": 1.0,
                "image_size_px": 64, "digest": "abc",
            },
            "device": device("cpu-a"), "threads": 2, "batch_size": 1, "runtimes": [runtime_latency("torch", 5.0)],
            **values, "after": after,
        }
    )  # fmt: skip


def test_read_conditions__nothing_to_read_is_no_failure(machine: Path) -> None:
    assert read_conditions() == Conditions(
        cpu_governor=None, power_mode=None, clocks_mhz={}, temperatures_c={}, power_limits_w={}
    )


def test_read_conditions__cpu_of_a_desktop(machine: Path) -> None:
    cpu = "devices__system__cpu__cpu{}__cpufreq__{}"
    for number, kilohertz in ((0, "800000"), (1, "3500000")):
        sysfs(
            machine,
            **{cpu.format(number, "scaling_cur_freq"): kilohertz, cpu.format(number, "scaling_governor"): "powersave"},
        )
    zone = "class__thermal__thermal_zone{}__{}"
    for number, (kind, milli) in enumerate(
        (("x86_pkg_temp", "54000"), ("acpitz", "27800"), ("acpitz", "31000"), ("off", "-256000"))
    ):
        sysfs(machine, **{zone.format(number, "type"): kind, zone.format(number, "temp"): milli})
    found = read_conditions()
    assert (found.cpu_governor, found.clocks_mhz) == ("powersave", {"cpu": 3500.0})
    assert found.temperatures_c == {"x86_pkg_temp": 54.0, "acpitz": 31.0}


def test_read_conditions__clock_of_a_virtual_machine(machine: Path) -> None:
    (machine / "cpuinfo").write_text("processor\t: 0\ncpu MHz\t\t: 2599.998\nprocessor\t: 1\ncpu MHz\t\t: 2700.5\n")
    assert read_conditions().clocks_mhz == {"cpu": 2700.5}


def test_read_conditions__unreadable_sensor_is_left_out(machine: Path) -> None:
    sysfs(machine, class__thermal__thermal_zone0__type="cpu", class__thermal__thermal_zone0__temp="not now")
    (machine / "sys/class/thermal/thermal_zone1/temp").mkdir(parents=True)
    assert read_conditions().temperatures_c == {}


def test_read_conditions__nvidia_gpus(tool: Tool) -> None:
    tool("nvidia-smi", "1980, 2619, 61, 700.00\n345, [N/A], 34, [Not Supported]\n")
    found = read_conditions()
    assert found.clocks_mhz == {"gpu0": 1980.0, "gpu0 memory": 2619.0, "gpu1": 345.0}
    assert found.temperatures_c == {"gpu0": 61.0, "gpu1": 34.0}
    assert found.power_limits_w == {"gpu0": 700.0}


def test_read_conditions__jetson(machine: Path, tool: Tool) -> None:
    tool("nvpmodel", NVPMODEL)
    tool("jetson_clocks", JETSON_CLOCKS)
    sysfs(machine, **{"class__devfreq__17000000.gpu__cur_freq": "408000000"})
    found = read_conditions()
    assert found.power_mode == "MODE_15W"
    assert found.clocks_mhz == {"17000000.gpu": 408.0, "gpu": 408.0, "emc": 2133.0}


def test_read_conditions__command_that_fails_is_left_out(machine: Path) -> None:
    for name in ("nvidia-smi", "jetson_clocks", "nvpmodel"):
        script = machine / "bin" / name
        script.write_text("#!/bin/sh\necho 'GPU CurrentFreq=1'\nexit 1\n")
        script.chmod(0o755)
    assert read_conditions().clocks_mhz == {}


def test_read_load__is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 9.0, 9.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert read_load() == Load(average=1.5, cpus=8)


def test_warnings__none_on_a_calm_machine_or_where_nothing_was_read() -> None:
    assert warnings_of(latency_of()) == []
    assert warnings_of(latency_of(load=None, before=None, after=None)) == []


@pytest.mark.parametrize(
    ("average", "cpus", "busy"), [(0.4, 2, False), (0.6, 2, True), (1.9, 4, False), (2.6, 4, True)]
)
def test_warnings__busy_where_too_few_cpus_were_idle_for_the_threads(average: float, cpus: int, busy: bool) -> None:
    found = warnings_of(latency_of(load=Load(average=average, cpus=cpus)))
    assert [f"load average {average} on {cpus} CPUs" in line for line in found] == [True] * busy


@pytest.mark.parametrize(
    ("after", "warning"),
    [
        ({"temperatures_c": {"gpu0": 69.0}}, None),
        ({"temperatures_c": {"gpu0": 71.0}}, "temperatures rose while measuring: gpu0 60 to 71 °C"),
        ({"temperatures_c": {"gpu0": 40.0}}, None),
        ({"temperatures_c": {"another": 99.0}}, None),
        ({"clocks_mhz": {"cpu": 2000.0, "gpu0": 1750.0}}, None),
        ({"clocks_mhz": {"cpu": 2000.0, "gpu0": 1500.0}}, "clocks changed while measuring: gpu0 1900 to 1500 MHz"),
        ({"clocks_mhz": {"cpu": 2300.0}}, "clocks changed while measuring: cpu 2000 to 2300 MHz"),
        ({"power_limits_w": {"gpu0": 300.0}}, "power limits changed while measuring: gpu0 350 to 300 W"),
        ({"power_mode": "15W"}, "power mode changed while measuring: MAXN to 15W"),
        ({"cpu_governor": "powersave"}, "CPU governor changed while measuring: performance to powersave"),
    ],
)  # fmt: skip
def test_warnings__heat_and_clocks(after: dict[str, object], warning: str | None) -> None:
    assert warnings_of(latency_of(after=after)) == ([] if warning is None else [warning])
