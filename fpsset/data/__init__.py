"""Sources of face features, template sampling and the input pipeline; knows no model."""
