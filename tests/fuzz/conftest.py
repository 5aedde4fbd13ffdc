"""How long the parsers are fuzzed: some tens of seconds with the other tests, longer by `make fuzz`."""

from hypothesis import HealthCheck, settings

CALM = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

settings.register_profile("fuzz", max_examples=5_000, deadline=None, suppress_health_check=CALM)
