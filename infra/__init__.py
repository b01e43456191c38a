"""The stacks: what is deployed, to the cloud and to the emulator on this machine.

    app → data_stack, service_stack → one construct per file → environments

The CDK library is JavaScript behind Python and starts a Node.js on import: .venv's own, unless JSII_NODE names another.
"""

import os

from tools.setup import node

os.environ.setdefault("JSII_NODE", str(node()))
