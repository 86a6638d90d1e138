"""Lifecycle: every change of a container's state.

A start takes mounts, a network and a process; an exit (or a failed start) gives them back. Both run under the
container's lock; a record that is ``unsettled`` says after a crash that something may still be held.
Each module builds on those before it: volumes, mounting, holding, start, restarts, pause, stillness, stop, removal,
exits.
"""
