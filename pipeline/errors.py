"""The one exception that is a message to the user."""


class PipelineError(Exception):
    """Say what was expected, what came, where, and what to do; shown without a traceback."""
