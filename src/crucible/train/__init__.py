"""What does training need that no backend does? Messages, renderers, data, schedules, seeds and metrics; numpy only."""
