"""What befalls a sweep from outside, one kind a module, and what must hold after each."""
