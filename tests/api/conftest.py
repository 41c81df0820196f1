from tiny_model import own_shapes, run, shapes  # noqa: F401 - fixtures
