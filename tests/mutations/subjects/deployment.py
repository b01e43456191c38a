"""Mutations of the deployed resources."""

from tests.mutations.mutation import Edit, Mutation

DEPLOYMENT = (
    Mutation(
        "the API open to web pages",
        "Browsers are not allowed to call the API.",
        Edit(
            "http_api_construct",
            "create_default_stage=False,",
            """
            create_default_stage=False,
            cors_preflight=apigatewayv2.CorsPreflightOptions(allow_origins=["*"]),
            """,
        ),
    ),
    Mutation(
        "usage of an unknown feature recorded in prod",
        "In prod, usage of a feature that no plan has is rejected.",
        Edit("PROD_ENVIRONMENT", 'unknown_features="reject",', 'unknown_features="accept",'),
    ),
    Mutation(
        "prod's usage deleted with its stack",
        "In prod, stored usage outlives its stack, which is protected from deletion.",
        Edit("PROD_ENVIRONMENT", "retain_data=True,", "retain_data=False,"),
    ),
    Mutation(
        "prod's logs kept for a month",
        "In prod, logs are kept for a year.",
        Edit("PROD_ENVIRONMENT", "log_retention_days=365,", "log_retention_days=30,"),
    ),
    Mutation(
        "prod's throttle at a tenth",
        "In prod, the API takes 2,000 requests a second.",
        Edit("PROD_ENVIRONMENT", "throttle_rate_per_s=2000,", "throttle_rate_per_s=200,"),
    ),
)
