"""Parts of a job that the reference does not have: a persistor for several arrays, and metrics written to a file."""

import json
import os

import numpy as np
from nvflare.apis.analytix import AnalyticsData
from nvflare.apis.dxo import from_shareable
from nvflare.app_common.abstract.model import ModelLearnableKey, make_model_learnable
from nvflare.app_common.abstract.model_persistor import ModelPersistor
from nvflare.app_common.widgets.streaming import AnalyticsReceiver


class ManyArrays(ModelPersistor):
    def __init__(self, start):
        super().__init__()
        self.start = start

    def load_model(self, fl_ctx):
        with np.load(self.start) as arrays:
            return make_model_learnable(weights=dict(arrays), meta_props={})

    def save_model(self, model, fl_ctx):
        folder = os.path.join(fl_ctx.get_workspace().get_result_root(fl_ctx.get_job_id()), "models")
        os.makedirs(folder, exist_ok=True)
        np.savez(os.path.join(folder, "server.npz"), **model[ModelLearnableKey.WEIGHTS])


class Metrics(AnalyticsReceiver):
    """One line of JSON for each metric that arrives at the server."""

    def __init__(self, file):
        super().__init__()
        self.file = file

    def initialize(self, fl_ctx):
        pass

    def save(self, fl_ctx, shareable, record_origin):
        data = AnalyticsData.from_dxo(from_shareable(shareable))
        line = {"site": record_origin, "key": data.tag, "value": data.value, "step": data.step,
                "kind": data.data_type.value}
        with open(self.file, "a") as out:
            out.write(json.dumps(line) + "\n")

    def finalize(self, fl_ctx):
        pass
