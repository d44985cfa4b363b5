"""Room 1: images and identities in: sources, decoding, augmentation, sampling, verification sets."""
