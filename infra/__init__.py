"""The CDK stacks, for the cloud and for the local emulator.

    app → data_stack, service_stack → one construct per file → environments

The CDK library runs JavaScript, so an import of it starts Node.js. The library uses the Node.js in .venv, unless
JSII_NODE names another Node.js.
"""

import os

from tools.setup import node

os.environ.setdefault("JSII_NODE", str(node()))
