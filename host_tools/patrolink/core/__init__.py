"""What all host tools share: frames, keys, tracks, boards, resources and errors."""
