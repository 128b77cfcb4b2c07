"""Sources of faces, template sampling and the input pipeline. Knows no model."""
