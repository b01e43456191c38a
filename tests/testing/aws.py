"""One session for all clients within moto's `mock_aws`.

moto gives up boto3's own with each test, and the next client reads AWS's descriptions of its service again: 80 ms.
"""

import boto3
import moto.core  # noqa: F401 - before the session, whose clients are moto's then

SESSION = boto3.Session()
