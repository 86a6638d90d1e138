"""Dockerfile: the instructions that change an image's configuration and need no build, for `commit` and `import`.

`words` reads a line, `instructions` says what each one does to a `ContainerConfig`.
"""
