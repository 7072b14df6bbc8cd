"""Stand-ins for a runner, the service and a machine, each behind the real interface."""
