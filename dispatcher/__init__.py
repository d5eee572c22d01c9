"""Dispatcher turns a new update of a developing story into an email for everyone who follows it."""

__version__ = "0.1.0"
