"""A job of the reference in its simulator: FedAvg over two sites whose trainers are processes of ours.

The job stands in FOLDER/job, what the simulator leaves in FOLDER/sites. Prints READY when it begins, and RESULT with
the status of the simulator, the global model against what `--add` makes of it, every metric that the server got, and
what the trainers printed.
"""

import json
import shutil
from pathlib import Path

import common

PIPE = "nvflare.fuel.utils.pipe.cell_pipe.CellPipe"


def main():
    p = common.parser(__doc__)
    p.add_argument("--folder", type=Path, required=True)
    p.add_argument("--trainer", required=True, help="the command line of a trainer")
    p.add_argument("--model", action="append", required=True, metavar="NAME:DTYPE:SHAPE",
                   help="an array of the model, for example w:float64:3x4; it starts as 0, 1, 2, ...")
    p.add_argument("--zeros", action="store_true", help="the model starts as zeros")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--launch-each-time", action="store_true", help="a trainer for each task, not one for the job")
    p.add_argument("--transfer", choices=["FULL", "DIFF"], default="FULL")
    p.add_argument("--add", type=float, help="what every trainer adds to every weight")
    args = common.begin(p)
    # The simulator has no end but its own; its processes leave when this one is gone.
    common.daemon(lambda: (common.STOP.wait(), common.fail("asked to end")))

    import numpy as np

    shutil.rmtree(args.folder, ignore_errors=True)
    args.folder.mkdir(parents=True)
    start = dict(initial(np, args, text) for text in args.model)
    write_job(np, args, start)
    common.say("READY", folder=str(args.folder))
    status = simulate(args)
    final = load(np, args.folder / "sites" / "server" / "simulate_job" / "models")
    metrics = args.folder / "metrics"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    common.say(
        "RESULT",
        status=status,
        model={name: compared(np, args, start[name], array) for name, array in final.items()},
        metrics=[json.loads(line) for line in lines],
        said={site: said(args.folder / "sites" / site / "log.txt") for site in ("site-1", "site-2")},
    )
    common.leave(0)


def initial(np, args, text):
    name, dtype, shape = text.split(":")
    shape = [int(length) for length in shape.split("x") if length]
    count = int(np.prod(shape))
    array = np.zeros(count, dtype) if args.zeros else np.arange(count).astype(dtype)
    return name, array.reshape(shape)


def compared(np, args, start, final):
    """Exact equality with what it must be, whatever the dtype: averaging makes floats of integers."""
    told = {"dtype": str(final.dtype), "shape": list(final.shape)}
    if final.size <= 64:
        told["values"] = final.ravel().tolist()
    if args.add is not None:
        expected = start.astype("float64") + args.rounds * args.add
        told["exact"] = bool(np.array_equal(final.astype("float64"), expected))
    return told


def said(log):
    """What the launcher of a site read from its trainers."""
    mark = " - SubprocessLauncher - INFO - "
    lines = log.read_text().splitlines() if log.exists() else []
    return [line.split(mark, 1)[1] for line in lines if mark in line]


def load(np, folder):
    """What either persistor left. The reference's own knows one array, under a name of its own."""
    if (folder / "server.npy").exists():
        return {"numpy_key": np.load(folder / "server.npy")}
    if (folder / "server.npz").exists():
        with np.load(folder / "server.npz") as arrays:
            return dict(arrays)
    return {}


def write_job(np, args, start):
    app = args.folder / "job" / "app"
    (app / "config").mkdir(parents=True)
    (app / "custom").mkdir()
    shutil.copy(Path(__file__).with_name("flare_parts.py"), app / "custom")
    if list(start) == ["numpy_key"]:
        np.save(args.folder / "start.npy", start["numpy_key"])
        persistor = component("persistor", "nvflare.app_common.np.np_model_persistor.NPModelPersistor",
                              source_ckpt_file_full_name=str(args.folder / "start.npy"))
    else:
        np.savez(args.folder / "start.npz", **start)
        persistor = component("persistor", "flare_parts.ManyArrays", start=str(args.folder / "start.npz"))
    server = {
        "format_version": 2,
        "workflows": [component("fedavg", "nvflare.app_common.workflows.fedavg.FedAvg",
                                num_clients=2, num_rounds=args.rounds)],
        "components": [persistor, component("metrics", "flare_parts.Metrics", file=str(args.folder / "metrics"))],
    }
    executor = {
        "path": "nvflare.app_common.executors.client_api_launcher_executor.ClientAPILauncherExecutor",
        "args": {
            "launcher_id": "launcher",
            "pipe_id": "tasks",
            "heartbeat_interval": 1.0,
            "heartbeat_timeout": 30.0,
            "read_interval": 0.1,
            "params_transfer_type": args.transfer,
        },
    }
    client = {
        "format_version": 2,
        "executors": [{"tasks": ["train", "validate", "submit_model"], "executor": executor}],
        "components": [
            component("launcher", "nvflare.app_common.launchers.subprocess_launcher.SubprocessLauncher",
                      script=args.trainer, launch_once=not args.launch_each_time, shutdown_timeout=10.0),
            pipe("tasks"),
            pipe("numbers"),
            component("relay", "nvflare.app_common.widgets.metric_relay.MetricRelay", pipe_id="numbers",
                      event_type="fed.analytix_log_stats", read_interval=0.1, heartbeat_interval=1.0),
            component("preparer", "nvflare.app_common.widgets.external_configurator.ExternalConfigurator",
                      component_ids=["relay"]),
        ],
    }
    meta = {"name": "job", "resource_spec": {}, "min_clients": 2, "deploy_map": {"app": ["@ALL"]}}
    (args.folder / "job" / "meta.json").write_text(json.dumps(meta))
    (app / "config" / "config_fed_server.json").write_text(json.dumps(server))
    (app / "config" / "config_fed_client.json").write_text(json.dumps(client))


def component(name, path, **args):
    return {"id": name, "path": path, "args": args}


def pipe(name):
    return component(name, PIPE, mode="PASSIVE", site_name="{SITE_NAME}", token="{JOB_ID}", root_url="{ROOT_URL}",
                     secure_mode="{SECURE_MODE}", workspace_dir="{WORKSPACE}")


def simulate(args):
    """In this process, so that what the simulator starts ends with it."""
    from nvflare.private.fed.app.simulator.simulator_runner import SimulatorRunner

    job, sites = str(args.folder / "job"), str(args.folder / "sites")
    return SimulatorRunner(job_folder=job, workspace=sites, n_clients=2, threads=2).simulator_run_main()


if __name__ == "__main__":
    main()
