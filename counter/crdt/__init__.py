"""The rule, pure: one grow-only counter a video, as one vector a replica."""
