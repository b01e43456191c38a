"""A simulation of the whole service: one seed, one interleaving.

The functions' own code runs in processes that take turns on one thread. The model of DynamoDB shows commits item by
item, and each environment has its own clocks.
"""

import os

# The functions read these variables once, at import, as in Lambda. Nothing here uses a network.
for _name, _value in {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "TABLE_NAME": "usage",
    "BUS_NAME": "metering",
    "FAILURE_BUCKET": "failures",
    "REJECTED_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/rejected",
    "POWERTOOLS_SERVICE_NAME": "usage-metering",
    "POWERTOOLS_METRICS_NAMESPACE": "UsageMetering",
}.items():
    os.environ.setdefault(_name, _value)
