"""From stored landmark rows to drawn figures: which take is typical, and what it lacks."""
