"""Instruction-guided editing: a clip and an instruction give the edited clip (Movie Gen Edit, section 5)."""
