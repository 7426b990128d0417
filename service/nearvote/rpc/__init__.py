"""The gRPC services: one servicer a file; `wire.py` alone translates, `status.py` alone knows gRPC's codes."""
