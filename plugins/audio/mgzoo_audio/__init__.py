"""Sound for video and from text (Movie Gen Audio): data, conditions, the task head and its rankings."""
