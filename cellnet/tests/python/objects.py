"""Arrays and objects in files: `write FOLDER` makes them, `check FOLDER` loads files of the same names and compares.

NAME.fobs is a payload, NAME.npz and NAME.safetensors are what an owner of arrays sends.
"""

import sys
from pathlib import Path

import numpy as np
import safetensors.numpy
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_context import FLContext
from nvflare.apis.utils.decomposers import flare_decomposers
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.decomposers import common_decomposers, numpy_decomposers
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.fuel.utils import fobs

NUMBERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]


def arrays():
    six = np.arange(6).reshape(2, 3)
    made = {code: six.astype(code) for code in NUMBERS}
    made.update({f"big_{code}": six.astype(f">{code}") for code in ["i2", "i8", "f4", "c16"]})
    made["b1"] = six % 2 == 1
    made["scalar"] = np.array(1.5)
    made["empty"] = np.zeros((0, 3), "f4")
    made["fortran"] = np.asfortranarray(six.astype("f8"))
    made["fortran_3d"] = np.asfortranarray(np.arange(24, dtype="u1").reshape(2, 3, 4))
    made["deep"] = np.zeros((1,) * 32, "i4")
    made["long"] = np.arange(100_000, dtype="f4")
    made["text"] = np.array(["ab", "ü"])
    made["bytes"] = np.array([b"abc", b"d"])
    made["days"] = np.array(["2024-01-02", "NaT"], "M8[D]")
    made["struct"] = np.array([(1, 2.5), (3, 4.5)], [("a", "<i4"), ("b", "<f8")])
    return made


def objects():
    w, b = np.arange(6.0).reshape(2, 3), np.arange(3)
    params = {"w": w, "inner": {"b": b}}
    full = FLModel(
        params=params, metrics={"acc": 0.5}, optimizer_params={"m": b}, current_round=1, total_rounds=3, meta={"k": "v"}
    )
    diff = FLModel(ParamsType.DIFF, {"w": w}, start_round=2, meta={"NUM_STEPS_CURRENT_ROUND": 7})
    metrics = FLModel(metrics={"acc": 0.25}, start_round=None, meta={"validate_type": "x"})
    context = FLContext()
    context.set_prop("shown", 1, private=False, sticky=False)
    context.set_prop("hidden", "x", private=True, sticky=True)
    return {
        "full": full,
        "diff": diff,
        "metrics": metrics,
        "full_task": FLModelUtils.to_shareable(full),
        "diff_task": FLModelUtils.to_shareable(diff),
        "metrics_task": FLModelUtils.to_shareable(metrics),
        "full_dxo": FLModelUtils.to_dxo(full),
        "dxo": DXO(DataKind.WEIGHT_DIFF, {"w": w}, {"m": 1}),
        "learnable": make_model_learnable({"w": w}, {"m": 1}),
        "context": context,
        "scalars": [np.float64(1.5), np.float32(0.1), np.int64(-5), np.int32(7)],
    }


def parts(thing):
    """What makes two things the same."""
    if isinstance(thing, np.ndarray):
        return "array", thing.dtype.str, thing.dtype.descr, thing.shape, thing.flags.f_contiguous, thing.tobytes("A")
    if isinstance(thing, FLContext):
        return type(thing), thing.props
    if isinstance(thing, (FLModel, DXO)):
        return type(thing), parts({k: v for k, v in vars(thing).items() if not k.startswith("_")})
    if isinstance(thing, dict):
        return type(thing), [(k, parts(v)) for k, v in thing.items()]
    if isinstance(thing, (list, tuple)):
        return type(thing), [parts(v) for v in thing]
    return type(thing), thing


def for_torch(array):
    return array.dtype.kind in "biuf" and array.dtype.isnative and array.flags.c_contiguous


def write(folder):
    for name, array in arrays().items():
        (folder / f"{name}.fobs").write_bytes(fobs.dumps(array))
        np.savez(folder / f"{name}.npz", allow_pickle=False, T0=array)
        if for_torch(array):
            (folder / f"{name}.safetensors").write_bytes(safetensors.numpy.save({"t": array}))
    for name, thing in objects().items():
        (folder / f"{name}.fobs").write_bytes(fobs.dumps(thing))


def check(folder):
    seen = 0
    for name, thing in {**arrays(), **objects()}.items():
        loaded = {"fobs": fobs.loads((folder / f"{name}.fobs").read_bytes())}
        if isinstance(thing, np.ndarray):
            with np.load(folder / f"{name}.npz", allow_pickle=False) as archive:
                assert archive.files == ["T0"], archive.files
                loaded["npz"] = archive["T0"]
            if for_torch(thing):
                loaded["safetensors"] = safetensors.numpy.load((folder / f"{name}.safetensors").read_bytes())["t"]
        for form, other in loaded.items():
            assert parts(other) == parts(thing), f"{name}.{form}: {parts(other)}, not {parts(thing)}"
            seen += 1
    assert seen == len(list(folder.iterdir())), "a file was not looked at"


if __name__ == "__main__":
    flare_decomposers.register()
    common_decomposers.register()
    numpy_decomposers.register()
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
