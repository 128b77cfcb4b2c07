"""From images to embeddings: listing, decoding, alignment, augmentation, recognisers and extraction."""
