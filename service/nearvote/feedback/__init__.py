"""Corrections: pending until somebody or a stated rule promotes them, and taken back by source."""
