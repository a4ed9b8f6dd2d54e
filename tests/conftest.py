from hypothesis import HealthCheck, settings

settings.register_profile(
    "snmf",
    deadline=None,  # machines are shared
    max_examples=20,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("snmf")
