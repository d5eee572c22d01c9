"""The pages: server-rendered, readable without JavaScript, and safe to open by anybody and any mail scanner."""
