"""What goes wrong for reasons a user can mend."""


class InputError(ValueError):
    """Bad input or configuration: one line that names the file or field and the mend (exit code 2)."""


class TrainingError(RuntimeError):
    """Training cannot go on: one line that names the step and the cause (exit code 1)."""
