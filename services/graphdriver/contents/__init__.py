"""Contents: what is in containers' root filesystems, compared, copied and made into images.

All of it is done here, for running containers too, and not by the execdriver that runs them: one tar reader and one
writer then serve layers, containers and imports, and a container that stops in the middle of a copy changes nothing
but what can be seen of it. All that the graphdriver must know of a running container is the pid of its init: it is
told by the engine, and believed only if the root of that process is this container's root filesystem (`roots`).
"""
