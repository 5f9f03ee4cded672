"""livegloss beside what its users would otherwise pick: docs/reports/rivals.md."""
