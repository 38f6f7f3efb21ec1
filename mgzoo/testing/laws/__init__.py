"""The laws, one function each: called with a `mgzoo.testing.Subject`, its docstring says what must hold. `LAWS` lists a file's own."""
