"""Dockerfile: what its lines say and what they do to an image's configuration, for the builder, `commit` and `import`.

`parser` reads a file, `words` a line, `instructions` says what each one does to a `ContainerConfig`, `expansion`
replaces variables, `ignore` reads .dockerignore.
"""
