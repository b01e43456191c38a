"""How one counter fares at up to 10,000 requests per second: a seeded simulation of the deployed policy."""
