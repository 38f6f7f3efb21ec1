"""Video: captioned clips as data, and the text-to-video task."""
