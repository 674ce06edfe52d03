"""What `secureagg demo` does: a federation trained in the clear and privately side by side, and the report of it."""
