"""A request, answered: media with a record of what made it."""
