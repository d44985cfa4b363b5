"""Room 2: networks: backbones by name, their preprocessing and their weights."""
