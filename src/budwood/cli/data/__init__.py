"""`budwood data`: what one can ask of a snapshot, and take out of it; a module a command."""
