"""One boto3 session for all clients inside moto's `mock_aws`.

moto drops boto3's default session after each test. The next client would then spend 80 ms on reading the description of
its service again.
"""

import boto3
import moto.core  # noqa: F401 - import it first, so that moto intercepts the session's clients

SESSION = boto3.Session()
