"""Where does everything meet? The facade and the composition root: manifests, adapter table, ports, runs."""
