"""The very letters of a draft, before it goes out."""
