"""The box: PostgreSQL, Valkey, a mail catcher and Dispatcher's own programs, kept running on one machine."""
