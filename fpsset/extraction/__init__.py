"""From images to a feature file."""
