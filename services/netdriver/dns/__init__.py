"""The embedded DNS server: a process of its own (decision 0010), which reads leases and asks nobody."""
