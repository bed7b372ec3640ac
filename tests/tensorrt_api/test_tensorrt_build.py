"""The builder over three versions of NVIDIA's bindings: it calls each API rightly, and asks for what it should.

A stand-in is behind the bindings: nothing here shows that TensorRT would build a graph.
"""

import json
from pathlib import Path

import onnx
import pytest

from pipeline.backends.tensorrt import PlanInfo
from pipeline.export.tensorrt import fallen_back, refused_by_dla
from pipeline.params import TensorRT
from tests.tensorrt_api.conftest import VERSIONS, Drive

DLA = TensorRT(workspace_mb=64, optimization_level=3, max_batch=8, dla_core=1, gpu_fallback=False)
each_version = pytest.mark.parametrize("version", VERSIONS)


@each_version
def test_build_plan__is_strongly_typed_and_sets_no_precision_flag(version: str, drive: Drive) -> None:
    told = drive(version, "build")["detect"]["told"]
    strongly_typed = 1 << 1 if version.startswith("10.") else 1 << 0  # 11 accepts the bit and ignores it
    assert told["network_flags"] == strongly_typed
    assert told["flags"] == ["TF32"]


@each_version
def test_build_plan__asks_for_what_params_say(version: str, drive: Drive) -> None:
    built = drive(version, "build")
    told = built["detect"]["told"]
    assert told["profiles"] == [{"images": {"min": [1, 3, 64, 64], "opt": [1, 3, 64, 64], "max": [8, 3, 64, 64]}}]
    assert told["pools"] == {"WORKSPACE": 64 * 2**20}
    assert told["builder_optimization_level"] == 4
    assert told["profiling_verbosity"] == 2  # detailed
    one = [1, 3, 64, 64]
    assert built["static"]["told"]["profiles"] == [{"images": {"min": one, "opt": one, "max": one}}]


@each_version
def test_build_plan__timing_cache_is_loaded_and_extended(version: str, drive: Drive) -> None:
    name, first, second = drive(version, "build")["cache"]
    assert name == f"Stand-in-GPU-sm_87-16-multiprocessors-tensorrt-{version}.cache"
    assert (first, second) == ("t", "tt")  # the stand-in adds a letter per build to what it was given


@each_version
def test_build_plan__says_what_the_plan_is_and_where_it_runs(version: str, drive: Drive, work: Path) -> None:
    info = drive(version, "build")["detect"]["info"]
    assert info == json.loads((work / f"{version}-build/detect.plan.json").read_text())
    assert info["tensorrt_version"] == version
    assert info["gpu"] == "Stand-in GPU, sm_87, 16 multiprocessors"
    assert info["metadata"] == {prop.key: prop.value for prop in onnx.load(work / "detect.onnx").metadata_props}
    assert info["outputs"] == ["output0"]


@each_version
def test_build_plan__reads_back_the_precision(version: str, drive: Drive) -> None:
    built = drive(version, "build")
    assert built["detect"]["info"]["layer_shares"] == {"fp32": 1}
    assert built["int8"]["info"]["layer_shares"] == {"int8": 0.5, "fp16": 0.5}


@each_version
def test_build_plan__a_silently_wider_engine_is_refused_and_not_written(version: str, drive: Drive) -> None:
    built = drive(version, "build")
    assert "the file is int8-tensorrt" in built["silent"]
    assert "without a layer in int8 or fp16 (100% fp32)" in built["silent"]
    assert not [name for name in built["files"] if name.startswith("silent")]


@each_version
def test_build_plan__a_parser_error_names_node_and_reason(version: str, drive: Drive) -> None:
    built = drive(version, "build")
    assert "foreign.onnx: TensorRT" in built["foreign"]
    assert "node 0 pass_on (Identity): no importer registered" in built["foreign"]
    assert "expected one input images (N, 3, S, S), only N free, got images (-1, 3, 8, 8), more" in built["two_inputs"]


@each_version
def test_build_plan__imports_nothing_that_a_device_has_no_room_for(version: str, drive: Drive) -> None:
    assert drive(version, "build")["heavy"] == []


@each_version
def test_build_plan__takes_a_dla_core_only_where_there_is_one(version: str, drive: Drive) -> None:
    built = drive(version, "build")
    assert "engine.tensorrt.dla_core: 1 is asked for" in built["no_dla"]
    assert "sees 0 DLA cores" in built["no_dla"]
    told = built["dla"]["told"]
    assert (told["default_device_type"], told["DLA_core"]) == (1, 1)
    assert told["flags"] == ["GPU_FALLBACK", "TF32"]
    assert "default_device_type" not in built["detect"]["told"]
    assert built["dla_alone"]["told"]["flags"] == ["TF32"]


@each_version
def test_build_plan__a_dla_gets_one_shape(version: str, drive: Drive) -> None:
    built = drive(version, "build")
    one = [1, 3, 64, 64]
    assert built["dla"]["told"]["profiles"] == [{"images": {"min": one, "opt": one, "max": one}}]
    assert built["dla"]["info"]["profile"] == {"min": 1, "opt": 1, "max": 1}
    assert built["detect"]["info"]["profile"] == {"min": 1, "opt": 1, "max": 8}
    assert built["static"]["info"]["profile"] == {"min": 1, "opt": 1, "max": 1}


@each_version
def test_build_plan__says_what_runs_on_the_dla(version: str, drive: Drive) -> None:
    built = drive(version, "build")
    assert built["dla_used"]["info"]["layer_places"] == {"dla": 2, "gpu": 0}
    assert built["dla"]["info"]["layer_places"]["dla"] == 0
    assert built["dla"]["info"]["layer_places"]["gpu"] > 0
    assert built["detect"]["info"]["layer_places"] is None


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (None, None),
        ({"dla": 0, "gpu": 9}, "DLA core 1 was asked for, and the inspector names no layer there: all runs on the GPU"),
        ({"dla": 2, "gpu": 9}, "DLA core 1, layers: 2 on the DLA, 9 on the GPU"),
    ],
)
def test_fallen_back__a_silent_fallback_is_named(places: dict[str, int] | None, words: str | None) -> None:
    info = PlanInfo(
        tensorrt_version="10.3.0", gpu="Orin", outputs=[], layer_shares={}, layer_places=places, metadata={}
    )
    assert fallen_back(info, DLA) == words


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_refused_by_dla__all_but_fp16(precision: str) -> None:
    assert refused_by_dla(precision, DLA.model_copy(update={"dla_core": None})) is None
    reason = refused_by_dla(precision, DLA)
    assert (reason is None) == (precision == "fp16")
    assert reason is None or "engine.tensorrt.dla_core is 1, and a DLA runs fp16.onnx alone" in reason


def test_stand_in__sees_a_flag_that_a_version_no_longer_has(drive: Drive) -> None:
    assert "FP16" in drive("11.4.0.106", "planted")["error"]
    assert drive("10.3.0", "planted")["flags"] == ["FP16", "TF32"]
