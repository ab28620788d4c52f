"""The rim: what the ports are in the real world. Adapters do not know each other; each translates its library's errors."""
