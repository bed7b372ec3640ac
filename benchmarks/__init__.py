import pipeline  # noqa: F401  sets what Ultralytics reads when it is imported
