"""People: a store that is enrolled, searched, edited and decided on."""
