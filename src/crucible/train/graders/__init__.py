"""Is an answer right? Graders: functions in killable processes, whose failure is never a score."""
