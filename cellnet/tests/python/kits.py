"""Start-up kits, made by the reference's own provisioning: FOLDER/PROJECT/prod_00/PARTICIPANT/startup.

The relay and one site get certificates to listen with, as their `listening_host` asks for; the other site has none.
"""

import sys

from nvflare.lighter.constants import CtxKey
from nvflare.lighter.entity import Project
from nvflare.lighter.impl.cert import CertBuilder
from nvflare.lighter.impl.signature import SignatureBuilder
from nvflare.lighter.impl.static_file import StaticFileBuilder
from nvflare.lighter.impl.workspace import WorkspaceBuilder
from nvflare.lighter.provisioner import Provisioner

LOOPBACK = {"default_host": "localhost", "host_names": ["127.0.0.1"]}


def main():
    folder, name = sys.argv[1:]
    project = Project(name, "interop tests")
    project.set_server("server.example.org", "example", {"fed_learn_port": 8002, **LOOPBACK})
    project.add_relay("relay-1", "example", {"listening_host": LOOPBACK})
    project.add_client("site-1", "example", {"listening_host": LOOPBACK})
    project.add_client("site-2", "example", {})
    project.add_admin("admin@example.org", "example", {"role": "project_admin"})
    builders = [
        WorkspaceBuilder(["master_template.yml"]),
        StaticFileBuilder(config_folder="config", scheme="http"),
        CertBuilder(),
        SignatureBuilder(),
    ]
    context = Provisioner(folder, builders).provision(project)
    sys.exit(1 if context.get(CtxKey.BUILD_ERROR) else 0)


if __name__ == "__main__":
    main()
