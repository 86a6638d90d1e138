"""Volumes: the data that outlives containers.

It is kept here and not in the execdriver, which binds it into containers, because what is done to it is done to layers
already: directories made and removed on the same disk, file systems mounted on the host, trees copied. Above all, an
empty volume is filled from the image, and only this process can mount a root filesystem (`Layers.mount`). So the
execdriver is given paths and need not know what a volume is, and no long copy or hanging NFS server holds up an exit.
"""
