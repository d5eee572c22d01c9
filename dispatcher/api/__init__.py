"""The JSON API, version 1: what a newsroom's other systems call."""
