"""A seeded simulation of one counter under the deployed policy, at up to 10,000 requests per second."""
