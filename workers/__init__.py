"""The Celery side: the application, its signals and schedule, and tasks that each call one action."""
