"""livegloss beside what its users would otherwise pick: is it fair? docs/rivals.md says how."""
