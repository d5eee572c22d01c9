"""The email channel: letters, lanes to relays, and what relays answer. `channel.EmailChannel` puts it together."""
