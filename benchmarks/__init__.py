"""livegloss beside what its users would otherwise pick. See docs/rivals.md."""
